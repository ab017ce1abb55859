"""The buffer of old exams: what went in comes out, the newest only, the same for the same counter."""

from __future__ import annotations

import torch

from stream_rec.learning.replay import Exams, ReplayBuffer
from stream_rec.models.history_attention import NUM_PAST_FEATURES, PAIRS
from tests.stream_rec.models.exams import candidates_of
from tests.stream_rec.tiny_worlds import differing

CPU = torch.device("cpu")
K, F, X, N = 5, 3, 2, 4


def exams(numbers: list[int], num_candidates: int = K) -> Exams:
    """One exam a number, which stands in each of its fields."""
    n_B = torch.tensor(numbers, dtype=torch.float32, device=CPU)
    candidates = candidates_of(
        n_B[:, None].repeat(1, num_candidates),
        n_B[:, None, None].repeat(1, num_candidates, F),
        n_B[:, None].repeat(1, X),
        n_B.long(),
        num_past=N,
    )
    candidates.pairs_BKP = n_B[:, None, None].repeat(1, num_candidates, sum(PAIRS.values()))
    candidates.past_BNY = n_B[:, None, None].repeat(1, N, NUM_PAST_FEATURES)
    candidates.types_BN = candidates.values_BN = candidates.place_BN = n_B[:, None].long().repeat(1, N)
    return Exams(
        candidates,
        is_target_BK=torch.arange(num_candidates, device=CPU)[None, :] == (n_B.long() % num_candidates)[:, None],
        weight_B=n_B,
    )


def buffer(capacity: int = 8) -> ReplayBuffer:
    return ReplayBuffer(capacity, num_candidates=K, num_features=F, num_moment_features=X, history_length=N, device=CPU)


def test_what_comes_out_went_in_whole() -> None:
    held = buffer()
    assert held.draw(4, seed=1, batch=0) is None
    held.add(exams([1, 2, 3]))
    drawn = held.draw(50, seed=1, batch=0)
    assert drawn is not None
    assert set(drawn.weight_B.tolist()) == {1.0, 2.0, 3.0}
    expected = exams([int(weight) for weight in drawn.weight_B.tolist()])
    assert torch.equal(drawn.is_target_BK, expected.is_target_BK)
    for name, value in vars(drawn.candidates).items():
        assert torch.equal(value, getattr(expected.candidates, name)), name
        assert value.dtype == getattr(expected.candidates, name).dtype, name


def test_only_the_newest_are_held_whatever_the_size_of_a_batch() -> None:
    held = buffer(8)
    for start in range(1, 30, 3):
        held.add(exams([start, start + 1, start + 2]))
    drawn = held.draw(500, seed=1, batch=0)
    assert drawn is not None
    assert set(drawn.weight_B.tolist()) == set(range(23, 31))
    held.add(exams(list(range(100, 120))))
    drawn = held.draw(500, seed=1, batch=0)
    assert drawn is not None
    assert set(drawn.weight_B.tolist()) == set(range(112, 120))
    assert len(held) == 8


def test_places_without_a_candidate_are_empty_even_where_a_fuller_one_stood() -> None:
    held = buffer(2)
    held.add(exams([4, 4]))
    held.add(exams([3, 3], num_candidates=2))
    drawn = held.draw(3, seed=1, batch=0)
    assert drawn is not None
    assert (drawn.candidates.first_BK[:, :2] == 3).all()
    assert torch.isneginf(drawn.candidates.first_BK[:, 2:]).all()
    assert not drawn.is_target_BK[:, 2:].any()


def test_draws_follow_from_seed_and_batch_and_survive_a_restart() -> None:
    first, second = buffer(), buffer()
    first.add(exams(list(range(1, 12))))
    second.load_state(first.state())
    assert differing(first.state(), second.state()) == []

    def drawn(held: ReplayBuffer, seed: int, batch: int) -> list[float]:
        found = held.draw(20, seed, batch)
        assert found is not None
        return [float(weight) for weight in found.weight_B]

    assert drawn(first, 1, 5) == drawn(second, 1, 5) == drawn(first, 1, 5)
    assert drawn(first, 1, 5) != drawn(first, 1, 6)
    assert drawn(first, 1, 5) != drawn(first, 2, 5)
    second.add(exams([50]))
    first.add(exams([50]))
    assert differing(first.state(), second.state()) == []
