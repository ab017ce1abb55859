"""Further positions that an encoder learns from: against the batch's columns, and by chance of seed and batch alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stream_rec.learning.learner import Learner
from stream_rec.models import registry
from stream_rec.models.attention import AttentionEncoder
from stream_rec.models.base import Inputs
from tests.stream_rec.tiny_worlds import cycle, differing, learn, small_settings

over_all_or_a_sample = pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])


class Greedy(AttentionEncoder):
    """Asks for the history's newest item besides, with whatever ``weight`` says."""

    weight = 1.0
    places: tuple[int, ...] = ()
    seen: list[Tensor]

    def extra_targets(self, inputs: Inputs, draws_BX: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        type(self).seen.append(draws_BX)
        targets_E = inputs.items_BN[:, 0]
        if self.places:
            targets_E = torch.tensor(self.places, device=targets_E.device).expand(len(targets_E), -1)[:, 0]
        weights_E = torch.full_like(targets_E, self.weight, dtype=torch.float32) * (targets_E > 0)
        return inputs.users_BD + inputs.vectors_RD[0], targets_E, weights_E


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> type[Greedy]:
    monkeypatch.setitem(registry.ENCODERS, "attention", Greedy)
    Greedy.weight, Greedy.places, Greedy.seen = 1.0, (), []
    return Greedy


def learner_of(full_softmax_max_items: int) -> Learner:
    learner = Learner(small_settings(learning={"full_softmax_max_items": full_softmax_max_items}))
    learn(learner, cycle(128))
    return learner


def loss_of(learner: Learner) -> float:
    return learner.learn(learner.enter(cycle(64, seed=4)))


@over_all_or_a_sample
def test_they_add_to_the_loss_and_move_the_tables_unless_they_weigh_nothing(
    greedy: type[Greedy], full_softmax_max_items: int
) -> None:
    learners = [learner_of(full_softmax_max_items) for _ in range(3)]
    state = learners[0].state()
    losses = []
    for learner, weight in zip(learners, [0.0, 1.0, 1.0], strict=True):
        learner.load_state(state)
        greedy.weight = weight
        losses.append(loss_of(learner))
    assert losses[0] < losses[1] == losses[2]
    without, with_them, again = (learner.network.item_out.weight_IW for learner in learners)
    assert torch.equal(with_them, again)
    assert not torch.equal(without, with_them)


def test_a_target_that_is_no_column_weighs_nothing(greedy: type[Greedy]) -> None:
    """In a sample, item 20 may be in a history and yet no column; row 0 never is one."""
    greedy.places = (0,)
    nothing = loss_of(learner_of(0))
    greedy.places, greedy.weight = (), 0.0
    assert nothing == loss_of(learner_of(0))


def test_draws_follow_from_seed_and_batch(greedy: type[Greedy]) -> None:
    def drawn(seed: int) -> list[Tensor]:
        greedy.seen = []
        learn(Learner(small_settings(worker={"seed": seed})), cycle(192))
        return greedy.seen

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert [tuple(draws.shape) for draws in first] == [(64, 4)] * 3
    assert differing(dict(enumerate(first)), dict(enumerate(again))) == []  # type: ignore[arg-type]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    assert all(((draws >= 0) & (draws < 1)).all() for draws in first)
