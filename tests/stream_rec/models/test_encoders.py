"""What every registered encoder must do, by itself and inside the learner."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from stream_rec.config import ModelSettings, Settings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.learning.learner import Learner
from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.blend import Blend
from stream_rec.models.registry import ENCODERS, make_encoder
from stream_rec.records import Event
from stream_rec.state.context import NUM_EVENT_TYPES, NUM_VALUE_BUCKETS
from tests.stream_rec.tiny_worlds import (
    attributes,
    batches,
    checkerboard,
    cycle,
    differing,
    first_hits,
    learn,
    learn_and_list,
    rich,
    small_settings,
    strides,
)

CPU = torch.device("cpu")
LENGTH, DIMENSION, NUM_ROWS = 8, 16, 12

# "none" reads nothing and learns nothing: it has a test of its own.
pytestmark = pytest.mark.parametrize("encoder", sorted(ENCODERS.keys() - {"none"}))
over_all_or_a_sample = pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])


def settings_of(encoder: str, **sections: dict[str, Any]) -> Settings:
    model = {"encoder": encoder, "dimension": DIMENSION, **sections.pop("model", {})}
    return small_settings(model=model, **sections)


def made(encoder: str) -> Encoder:
    return make_encoder(settings_of(encoder), CPU)


def some_inputs(lengths: list[int], seed: int = 0) -> Inputs:
    """Random inputs; each history has as many entries as ``lengths`` says, newest first."""
    generator = torch.Generator().manual_seed(seed)
    num_moments = len(lengths)
    lengths_B = torch.tensor(lengths)
    in_use_BN = torch.arange(LENGTH) < lengths_B[:, None]

    def some(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(1, high, shape, generator=generator)

    return Inputs(
        vectors_RD=torch.randn(NUM_ROWS, DIMENSION, generator=generator),
        items_BN=some(NUM_ROWS, num_moments, LENGTH) * in_use_BN,
        gaps_BN=some(100_000, num_moments, LENGTH) * in_use_BN,
        types_BN=some(NUM_EVENT_TYPES, num_moments, LENGTH) * in_use_BN,
        situations_BN=some(60, num_moments, LENGTH) * in_use_BN,
        values_BN=some(NUM_VALUE_BUCKETS, num_moments, LENGTH) * in_use_BN,
        users_BD=torch.randn(num_moments, DIMENSION, generator=generator),
        lengths_B=lengths_B,
        session_lengths_B=lengths_B // 2,
        hours_B=some(24, num_moments),
        weekdays_B=some(7, num_moments),
        slots_BC=some(60, num_moments, 2),
    )


def test_every_encoder_that_the_settings_allow_is_registered_and_no_other(encoder: str) -> None:
    allowed = get_args(ModelSettings.model_fields["encoder"].annotation)
    assert set(allowed) == set(ENCODERS)
    assert isinstance(made(encoder), ENCODERS[encoder])


# -- by itself ---------------------------------------------------------------------------------------------------


def test_an_empty_history_gives_a_query_and_gradients_without_nan(encoder: str) -> None:
    module = made(encoder)
    queries_BD = module(some_inputs([0, 0, 3]))
    assert queries_BD.shape == (3, DIMENSION)
    assert torch.isfinite(queries_BD).all()
    queries_BD.square().sum().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_what_stands_in_empty_slots_does_not_matter(encoder: str) -> None:
    module, clean = made(encoder), some_inputs([0, 3, LENGTH])
    # A slot in the middle can be empty, too: its item has been retired.
    clean.items_BN[1, 1], clean.gaps_BN[1, 1] = 0, 0
    empty_BN = clean.items_BN == 0
    littered = dataclasses.replace(
        clean,
        types_BN=clean.types_BN.masked_fill(empty_BN, 7),
        situations_BN=clean.situations_BN.masked_fill(empty_BN, 31),
        values_BN=clean.values_BN.masked_fill(empty_BN, 200),
    )
    assert torch.equal(module(clean), module(littered))


def test_how_many_slots_are_empty_does_not_matter(encoder: str) -> None:
    module, wide = made(encoder), some_inputs([0, 1, 3])
    histories = ("items_BN", "gaps_BN", "types_BN", "situations_BN", "values_BN")
    narrow = dataclasses.replace(wide, **{name: getattr(wide, name)[:, :3] for name in histories})
    assert torch.allclose(module(wide), module(narrow), atol=1e-6)


def test_a_moment_does_not_see_the_others_of_its_batch(encoder: str) -> None:
    module, together = made(encoder), some_inputs([5, 2, 0, LENGTH])
    queries_BD = module(together)
    for index in range(4):
        alone = dataclasses.replace(
            together,
            **{
                field.name: getattr(together, field.name)[index : index + 1]
                for field in dataclasses.fields(together)
                if field.name != "vectors_RD"
            },
        )
        assert torch.allclose(module(alone)[0], queries_BD[index], atol=1e-6)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Inputs)])
def test_whatever_is_known_of_the_moment_is_read(encoder: str, name: str) -> None:
    module, inputs = made(encoder), some_inputs([4, 5])
    others = some_inputs([6, 7] if "lengths" in name else [4, 5], seed=1)
    changed = dataclasses.replace(inputs, **{name: getattr(others, name)})
    assert not torch.allclose(module(inputs), module(changed), atol=1e-6)


def test_the_order_of_a_history_is_read(encoder: str) -> None:
    """Half of all events tie in time on some logs: the gaps alone do not tell what came first."""
    module, inputs = made(encoder), some_inputs([5])
    inputs.gaps_BN[:, :5], inputs.types_BN[:, :5], inputs.situations_BN[:, :5] = 60, 1, 0
    inputs.items_BN[0, :5] = torch.tensor([3, 4, 5, 6, 7])
    swapped = dataclasses.replace(inputs, items_BN=inputs.items_BN.clone())
    swapped.items_BN[0, 1:4] = torch.tensor([6, 5, 4])
    assert not torch.allclose(module(inputs), module(swapped), atol=1e-6)


def test_weights_follow_from_the_seed_and_nothing_else(encoder: str) -> None:
    torch.manual_seed(17)
    first = made(encoder).state_dict()
    torch.manual_seed(99)
    assert differing(first, made(encoder).state_dict()) == []
    other = make_encoder(settings_of(encoder, worker={"seed": 2}), CPU)
    assert differing(first, other.state_dict()) != []


def test_making_one_leaves_the_global_generator_alone(encoder: str) -> None:
    before = torch.get_rng_state()
    made(encoder)
    assert torch.equal(torch.get_rng_state(), before)


# -- worlds with a known right answer -------------------------------------------------------------------------------


@over_all_or_a_sample
def test_the_cycle_is_learnt(encoder: str, full_softmax_max_items: int) -> None:
    """After item i comes i + 1: from the second half on 95% of the first places are right."""
    learner = Learner(settings_of(encoder, learning={"full_softmax_max_items": full_softmax_max_items}))
    events = cycle(1_000)
    hits = first_hits(events, learn_and_list(learner, events))
    assert sum(hits[500:]) / 500 >= 0.95


@over_all_or_a_sample
def test_the_checkerboard_is_learnt(encoder: str, full_softmax_max_items: int) -> None:
    """Even users get even items: from the second half on 95% of what is listed is of the right colour."""
    learner = Learner(settings_of(encoder, learning={"full_softmax_max_items": full_softmax_max_items}))
    events = checkerboard(1_000)
    lists = learn_and_list(learner, events)[500:]
    right = [
        int(item[1:]) % 2 == int(event.user_id[1:]) % 2
        for event, ranked in zip(events[500:], lists, strict=True)
        for item in ranked
    ]
    assert len(right) == 500 * 10
    assert sum(right) / len(right) >= 0.95


@over_all_or_a_sample
def test_strides_need_the_network_and_it_earns_its_place(
    encoder: str, full_softmax_max_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting knows one first place in three; with the network at least nine in ten are right."""
    learner = Learner(settings_of(encoder, learning={"full_softmax_max_items": full_softmax_max_items}))
    events = strides(3_400)
    learn(learner, events[:3_200])
    newest = events[3_200:]
    moments = learner.enter(newest)
    with_network = first_hits(newest, learner.rank_entered(moments))
    monkeypatch.setattr(Blend, "weight", lambda self, length_B: torch.zeros_like(length_B, dtype=torch.float32))
    by_counting = first_hits(newest, learner.rank_entered(moments))
    assert sum(with_network) / 200 >= 0.9
    assert sum(by_counting) / 200 <= 0.5


# -- inside the learner ---------------------------------------------------------------------------------------------


def test_a_user_without_history_gets_a_list(encoder: str) -> None:
    learner = Learner(settings_of(encoder))
    stranger = Event("stranger", "i0", "click", 1_700_000_000_000)
    assert learner.rank([stranger]) == [[]]  # nobody has touched anything yet
    learn(learner, cycle(100))
    (ranked,) = learner.rank([stranger])
    assert len(ranked) == 10
    assert all(item.score == item.score for item in ranked)


def test_changing_later_events_changes_no_earlier_list(encoder: str) -> None:
    settings = settings_of(encoder, ranking={"exclude_seen": True})
    events = [e for e in rich(700) if e.type != "impression"]
    seasoned = Learner(settings)
    learn(seasoned, events[:320])
    state, batch = seasoned.state(), events[320:384]
    place = 30
    # What is to be predicted at ``place`` changes, and after it everything.
    changed = [
        *batch[:place],
        Event(batch[place].user_id, "i3", batch[place].type, batch[place].timestamp_ms, context=batch[place].context),
        *(Event("u0", f"i{n % 7}", "cart", batch[-1].timestamp_ms + 9_000 * n) for n in range(64 - place - 1)),
    ]
    assert changed[place].item_id != batch[place].item_id
    ranked = []
    for version in (batch, changed):
        learner = Learner(settings)
        learner.load_state(state)
        ranked.append(learner.ranker.rank(learner.enter(version), 10))
    for name in ("rows_BK", "scores_BK", "reason_BK"):
        before, after = (getattr(r, name)[: place + 1] for r in ranked)
        assert torch.equal(before, after), name
    assert not torch.equal(ranked[0].scores_BK[place + 1 :], ranked[1].scores_BK[place + 1 :])


def test_an_item_that_comes_later_in_the_batch_is_in_no_earlier_list(encoder: str) -> None:
    learner = Learner(settings_of(encoder, ranking={"list_length": 40}))
    learn(learner, cycle(200))
    batch = cycle(20, seed=3)
    batch[12] = Event(batch[12].user_id, "new", "click", batch[12].timestamp_ms)
    lists = learner.rank_entered(learner.enter(batch))
    assert ["new" in ranked for ranked in lists] == [False] * 13 + [True] * 7


def test_same_seed_same_bits_and_another_seed_other_bits(encoder: str) -> None:
    def run(seed: int) -> tuple[list[list[str]], dict[str, Any]]:
        learner = Learner(settings_of(encoder, worker={"seed": seed}, learning={"full_softmax_max_items": 0}))
        return learn_and_list(learner, rich(200)), learner.state()

    (lists, state), (lists_again, state_again), (_, other) = run(1), run(1), run(2)
    assert lists == lists_again
    assert differing(state, state_again) == []
    assert {name.split(".")[0] for name in differing(state, other)} >= {"network", "trainer"}


@over_all_or_a_sample
@pytest.mark.parametrize("through", ["memory", "disk"])
def test_law_5_resumed_equals_uninterrupted_bit_for_bit(
    encoder: str, full_softmax_max_items: int, through: str, tmp_path: Path
) -> None:
    """Rows are retired, attributes and contexts are in play, batches are ragged: nothing may be forgotten."""
    settings = settings_of(
        encoder,
        state={"max_items": 30, "max_users": 25, "admit_item_after": 2, "max_seen_entries": 400},
        ranking={"exclude_seen": True},
        learning={"full_softmax_max_items": full_softmax_max_items},
        snapshot={"directory": tmp_path},
    )
    events = rich(480)
    uninterrupted = Learner(settings)
    uninterrupted.update_catalogue(attributes(40, unavailable=[3, 5]))
    learn(uninterrupted, events[:240], size=48)

    state = uninterrupted.state()
    if through == "disk":
        SnapshotStore(settings).write(uninterrupted.batch, [], {"learner": state})
        snapshot = SnapshotStore(settings).newest()
        assert snapshot is not None
        state = snapshot.state["learner"]
    resumed = Learner(settings)
    resumed.load_state(state)
    assert differing(uninterrupted.state(), resumed.state()) == []

    for batch in batches(events[240:], 48):
        entered = [learner.enter(batch) for learner in (uninterrupted, resumed)]
        assert uninterrupted.rank_entered(entered[0]) == resumed.rank_entered(entered[1])
        assert uninterrupted.learn(entered[0]) == resumed.learn(entered[1])
        assert uninterrupted.rank(batch[-1:]) == resumed.rank(batch[-1:])
    assert uninterrupted.memory.items.num_evicted > 0
    assert differing(uninterrupted.state(), resumed.state()) == []


def test_law_2_ranking_changes_nothing(encoder: str) -> None:
    learner = Learner(settings_of(encoder))
    learn(learner, cycle(200))
    before = learner.state()
    learner.rank([Event("nobody", "nothing", "click", 1_800_000_000_000), cycle(1)[0]])
    assert differing(before, learner.state()) == []
