"""Memory beside its reference, and the laws that concern it: looking, bounds, resuming."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.config import ModelSettings, Settings
from stream_rec.learning.learner import Learner
from stream_rec.records import Item, ItemUpdate
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from tests.stream_rec.state.memory_reference import (
    STEPS,
    USERS,
    WORLDS,
    Reference,
    Step,
    learn,
    memory_of,
    update_of,
)
from tests.stream_rec.state.worlds import CPU, differences, event, frozen


@settings(deadline=None, max_examples=300)
@given(world=WORLDS, steps=STEPS)
def test_every_moment_agrees_with_plain_lists_whatever_happens(world: Settings, steps: list[Step]) -> None:
    reference = Reference(world)
    for step in steps:
        if step is None:
            reference.restart()
        elif isinstance(step, tuple):
            reference.update_catalogue(*step)
        else:
            reference.learn(step)
        assert all(entries <= bound for entries, bound in reference.memory.sizes().values())


def tensors_of(moments: Moments) -> dict[str, object]:
    history = {f.name: getattr(moments.history, f.name) for f in fields(moments.history)}
    # Types, times and situations of empty slots hold anything.
    empty_BN = history["items_BN"] == 0
    history |= {
        name: history[name].masked_fill(empty_BN, 0) for name in ("times_BN", "types_BN", "situations_BN", "values_BN")
    }
    return {f.name: getattr(moments, f.name) for f in fields(moments)} | {"history": history}


@settings(deadline=None, max_examples=60)
@given(world=WORLDS, steps=STEPS, cut=st.integers(0, 8))
def test_law_5_a_resumed_memory_goes_on_bit_by_bit_as_an_uninterrupted_one(
    world: Settings,
    steps: list[Step],
    cut: int,
) -> None:
    whole, resumed, at_s = Memory(world, CPU), Memory(world, CPU), 0.0
    for index, step in enumerate(steps):
        if index == cut:
            state = frozen(resumed.state())
            resumed = Memory(world, CPU)
            resumed.load_state(state)
        if isinstance(step, tuple):
            updates = [update_of(*step)]
            assert whole.update_catalogue(updates) == resumed.update_catalogue(updates)
        elif step is not None:
            batch = []
            for user, item, gap_s, type_, *_ in step:
                at_s += gap_s
                batch.append(event(user, item, at_s, type_))
            (one, new_of_one), (other, new_of_other) = whole.enter(batch), resumed.enter(batch)
            assert new_of_one == new_of_other
            assert list(differences(tensors_of(one), tensors_of(other))) == []
            whole.update(one)
            resumed.update(other)
    assert list(differences(whole.state(), resumed.state())) == []


@settings(deadline=None, max_examples=15)
@given(world=WORLDS, steps=STEPS, lookers=st.lists(st.sampled_from([*USERS, "stranger", "another"]), min_size=1))
def test_law_2_looking_changes_nothing(
    world: Settings,
    steps: list[Step],
    lookers: list[str],
) -> None:
    learner = Learner(world.model_copy(update={"model": ModelSettings(dimension=8)}))
    for step in steps:
        if isinstance(step, tuple):
            learner.update_catalogue([update_of(*step)])
        elif step is not None:
            learner.learn(learner.enter([event(user, item, 0.0, type_) for user, item, _, type_, *_ in step]))
    before, sizes = frozen(learner.state()), learner.memory.sizes()
    dice = torch.get_rng_state()
    events = [event(user, "an item that nobody knows", 50.0, "view", device="new") for user in lookers]
    first = learner.rank(events)
    assert learner.rank(events) == first
    learner.memory.looking(events)
    assert list(differences(before, learner.state())) == []
    assert learner.memory.sizes() == sizes
    assert torch.equal(torch.get_rng_state(), dice)


def grown_from(tree: object) -> int:
    """Entries of everything in a state tree: what a snapshot writes."""
    if isinstance(tree, dict):
        return sum(grown_from(value) for value in tree.values())
    if isinstance(tree, list | tuple):
        return 1 + sum(grown_from(value) for value in tree)
    if isinstance(tree, torch.Tensor | np.ndarray):
        return int(np.asarray(tree).size)
    return 1


@pytest.mark.parametrize("admit_after", [1, 2])
def test_law_3_everything_that_grows_is_bounded_and_measured(admit_after: int) -> None:
    memory = memory_of(
        admit_user_after=admit_after, admit_item_after=admit_after, num_feature_buckets=16, max_seen_entries=24
    )
    fullest: dict[str, int] = defaultdict(int)
    entries = []

    def measure() -> None:
        for store, (size, bound) in memory.sizes().items():
            assert 0 <= size <= bound, store
            fullest[store] = max(fullest[store], size)

    for step in range(240):
        item_ids = [f"item {step}-{place}" for place in range(3)]
        memory.update_catalogue(
            [ItemUpdate(id_, Item(id_, categories=[f"c {id_}"], tags=[f"t {id_}"])) for id_ in item_ids]
        )
        measure()
        memory.update_catalogue([update_of(f"item {step - 1}-0", "tombstone")])
        # Users who stay for a while, and in between those who come once and touch what nobody else does.
        batch = [
            event(f"user {step // 8}-{place % 4}", item_ids[place % 3], 60.0 * step + place, **{f"key {step}": place})
            for place in range(16)
        ]
        batch += [event(f"once {step}-{place}", f"odd {step}-{place}", 60.0 * step + 20) for place in range(4)]
        learn(memory, *batch)
        measure()
        entries.append(grown_from(memory.state()))
    assert max(entries[120:]) <= max(entries[:120])
    # The test would prove little if nothing had come near its bound. (Seen items retire before theirs is reached.)
    assert all(size > 0 for store, size in fullest.items() if admit_after > 1 or "waiting" not in store)
    full = {"users", "items", "catalogue", "items taken out of the catalogue", "attribute values"}
    full |= {"users waiting for a row", "items waiting for a row"} if admit_after > 1 else set()
    assert {store for store, size in fullest.items() if size >= memory.sizes()[store][1]} >= full
