"""What every registered encoder must do, by itself and inside the learner."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from stream_rec.config import ModelSettings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.learning.learner import Learner
from stream_rec.models.registry import ENCODERS, make_encoder
from stream_rec.records import Event
from tests.stream_rec.models.encoder_inputs import (
    CPU,
    DIMENSION,
    EVERYTHING,
    HISTORY,
    LEARNING,
    LENGTH,
    ORDERED,
    READS,
    littered,
    made,
    one_moment,
    settings_of,
    some_inputs,
    with_hole,
)
from tests.stream_rec.tiny_worlds import attributes, batches, cycle, differing, learn, learn_and_list, rich

pytestmark = pytest.mark.parametrize("encoder", LEARNING)


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
    # A slot in the middle can be empty, too: its item has been retired.
    module, clean = made(encoder), with_hole([0, 3, LENGTH], 1, 1)
    assert torch.equal(module(clean), module(littered(clean)))


def test_how_many_slots_are_empty_does_not_matter(encoder: str) -> None:
    module, wide = made(encoder), some_inputs([0, 1, 3])
    narrow = dataclasses.replace(wide, **{name: getattr(wide, name)[:, :3] for name in HISTORY})
    assert torch.allclose(module(wide), module(narrow), atol=1e-6)


def test_a_moment_does_not_see_the_others_of_its_batch(encoder: str) -> None:
    module, together = made(encoder), some_inputs([5, 2, 0, LENGTH])
    queries_BD = module(together)
    for index in range(4):
        assert torch.allclose(module(one_moment(together, index))[0], queries_BD[index], atol=1e-6)


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_it_reads_what_it_is_known_to_read_and_nothing_else(encoder: str, name: str) -> None:
    module, inputs = made(encoder), some_inputs([4, 5])
    others = some_inputs([6, 7] if "lengths" in name else [4, 5], seed=1)
    changed = dataclasses.replace(inputs, **{name: getattr(others, name)})
    assert torch.allclose(module(inputs), module(changed), atol=1e-6) == (name not in READS[encoder])


def test_the_order_of_a_history_is_read(encoder: str) -> None:
    """Half of all events tie in time on some logs: the gaps alone do not tell what came first. By some; see ORDERED."""
    module, inputs = made(encoder), some_inputs([5])
    inputs.gaps_BN[:, :5], inputs.types_BN[:, :5], inputs.situations_BN[:, :5] = 60, 1, 0
    inputs.items_BN[0, :5] = torch.tensor([3, 4, 5, 6, 7])
    swapped = dataclasses.replace(inputs, items_BN=inputs.items_BN.clone())
    swapped.items_BN[0, 1:4] = torch.tensor([6, 5, 4])
    assert torch.allclose(module(inputs), module(swapped), atol=1e-6) == (encoder not in ORDERED)


def test_weights_follow_from_the_seed_and_nothing_else(encoder: str) -> None:
    torch.manual_seed(17)
    first = made(encoder).state_dict()
    torch.manual_seed(99)
    assert differing(first, made(encoder).state_dict()) == []
    other = make_encoder(settings_of(encoder, worker={"seed": 2}), CPU)
    # Nothing is drawn for mf, whose rows are the tables'.
    assert (differing(first, other.state_dict()) == []) == (encoder == "mf")


def test_making_one_leaves_the_global_generator_alone(encoder: str) -> None:
    before = torch.get_rng_state()
    made(encoder)
    assert torch.equal(torch.get_rng_state(), before)


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
    lists, queries = [], []
    for version in (batch, changed):
        learner = Learner(settings)
        learner.load_state(state)
        moments = learner.enter(version)
        lists.append(learner.rank_entered(moments))
        with torch.no_grad():
            queries.append(
                learner.network.encoder(
                    learner.network.inputs(moments, learner.network.item_in.weight_IW, moments.history.items_BN)
                )
            )
    assert lists[0][: place + 1] == lists[1][: place + 1]
    assert lists[0][place + 1 :] != lists[1][place + 1 :]
    assert torch.equal(queries[0][: place + 1], queries[1][: place + 1])
    assert not torch.equal(queries[0][place + 1 :], queries[1][place + 1 :])


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


@pytest.mark.parametrize(("full_softmax_max_items", "through"), [(1_000, "memory"), (0, "disk")])
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
