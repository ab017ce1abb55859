"""Seen items against ordered lists in plain Python: the newest are kept, bounds hold, nothing leaks between users."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream_rec.state.seen import SMALLEST_BLOCK, SeenItems
from tests.stream_rec.state.worlds import differences

NUM_USERS = 5
USERS = st.integers(1, NUM_USERS)
# Few users and many items: blocks fill, double, wrap round and are handed on.
ITEMS = st.integers(1, 40)


class SeenBesideLists(RuleBasedStateMachine):
    """``kept`` holds each user's items in the order of consumption: what ``SeenItems`` promises to remember."""

    max_per_user = 11
    capacity = 10_000

    def __init__(self) -> None:
        super().__init__()
        self.seen = SeenItems(NUM_USERS, self.max_per_user, self.capacity)
        self.kept: dict[int, list[int]] = {user: [] for user in range(NUM_USERS + 1)}

    @rule(user=USERS, items=st.lists(ITEMS, min_size=1, max_size=12))
    def consume(self, user: int, items: list[int]) -> None:
        for item in items:
            kept = self.kept[user]
            before = len(kept)
            assert self.seen.add(user, item) == (item not in kept)
            if item in kept:
                continue
            kept.append(item)
            room = self.seen.of(user).size
            assert before <= room <= self.max_per_user
            if self.capacity == 10_000:
                assert room == min(before + 1, self.max_per_user)
            # The oldest gives way, whatever the reason for the bound.
            del kept[: len(kept) - room]

    @rule(users=st.sets(USERS, min_size=1, max_size=3))
    def retire_users(self, users: set[int]) -> None:
        self.seen.forget_users(sorted(users))
        for user in users:
            self.kept[user] = []

    @rule(items=st.sets(ITEMS, min_size=1, max_size=15))
    def retire_items(self, items: set[int]) -> None:
        self.seen.forget_items(sorted(items), NUM_USERS + 1)
        for user, kept in self.kept.items():
            self.kept[user] = [item for item in kept if item not in items]

    @rule()
    def restart(self) -> None:
        state = self.seen.state(NUM_USERS + 1)
        state["free"] = json.loads(json.dumps(state["free"]))
        self.seen = SeenItems(NUM_USERS, self.max_per_user, self.capacity)
        self.seen.load_state(state)
        assert list(differences(state, self.seen.state(NUM_USERS + 1))) == []

    @precondition(lambda self: any(self.kept.values()))
    @rule(user=USERS)
    def consume_the_oldest_again(self, user: int) -> None:
        if self.kept[user]:
            assert not self.seen.add(user, self.kept[user][0])

    @invariant()
    def sets_are_those_of_the_lists(self) -> None:
        for user, kept in self.kept.items():
            assert sorted(self.seen.of(user).tolist()) == sorted(kept)

    @invariant()
    def law_3_bounds_hold(self) -> None:
        assert self.seen.num_entries == sum(map(len, self.kept.values())) <= self.seen.capacity


class SeenInATinyPool(SeenBesideLists):
    capacity = 44  # five and a half of the smallest blocks


class SeenWithLessThanABlock(SeenBesideLists):
    max_per_user = 3
    capacity = 24


FEW = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestSeenBesideLists = SeenBesideLists.TestCase
TestSeenInATinyPool = SeenInATinyPool.TestCase
TestSeenWithLessThanABlock = SeenWithLessThanABlock.TestCase
for case in (TestSeenBesideLists, TestSeenInATinyPool, TestSeenWithLessThanABlock):
    case.settings = FEW
del case  # or pytest would collect it as a fourth one


def test_items_retire_though_no_user_is_left_who_had_them() -> None:
    seen = SeenItems(3, 5, 64)
    seen.add(1, 7)
    seen.forget_users([1])
    seen.forget_items([7], 4)
    assert seen.num_entries == 0
    assert seen.of(1).tolist() == []


def test_the_unknown_user_remembers_nothing() -> None:
    seen = SeenItems(3, 5, 64)
    assert seen.add(0, 7)
    assert seen.add(0, 7)
    assert (seen.of(0).tolist(), seen.num_entries) == ([], 0)


@settings(deadline=None, max_examples=20)
@given(capacity=st.integers(1, 200), max_per_user=st.integers(1, 70))
def test_law_3_endless_new_items_and_users_stay_within_the_bounds(capacity: int, max_per_user: int) -> None:
    seen = SeenItems(30, max_per_user, capacity)
    for number in range(1, 600):
        user = 1 + number % 30
        if number % 97 == 0:
            seen.forget_users([user])
        seen.add(user, number)
        assert seen.of(user).size <= max_per_user
        assert seen.num_entries <= seen.capacity == max(capacity, SMALLEST_BLOCK)
    assert seen.num_entries > 0


def test_a_full_pool_keeps_the_newest_of_those_who_have_a_block() -> None:
    seen = SeenItems(3, 100, SMALLEST_BLOCK)
    for item in range(1, 21):
        assert seen.add(1, item)
    assert sorted(seen.of(1).tolist()) == list(range(13, 21))
    # There is no block left for another user: whatever he consumes counts as new.
    assert [seen.add(2, 5), seen.add(2, 5)] == [True, True]
    seen.forget_users([1])
    assert [seen.add(2, 5), seen.add(2, 5)] == [True, False]


def test_a_ring_that_may_grow_at_last_still_knows_its_oldest() -> None:
    seen = SeenItems(2, 16, 24)
    for item in range(1, 17):
        seen.add(2, item)  # takes 8, then 16: the pool is used up, one small block is free
    for item in range(101, 112):
        seen.add(1, item)  # takes the small block and goes round in it
    assert sorted(seen.of(1).tolist()) == list(range(104, 112))
    seen.forget_users([2])
    for item in range(112, 123):
        seen.add(1, item)
    assert sorted(seen.of(1).tolist()) == list(range(107, 123))


def state_of_thousands() -> dict[str, Any]:
    seen = SeenItems(2, 5_000, 100_000)
    for item in range(1, 4_001):
        seen.add(1 + item % 2, item)
    return seen.state(3)


def test_a_large_pool_survives_a_restart_and_grows_on() -> None:
    resumed = SeenItems(2, 5_000, 100_000)
    resumed.load_state(state_of_thousands())
    assert resumed.num_entries == 4_000
    for item in range(4_001, 10_001):
        assert resumed.add(1 + item % 2, item)
    assert sorted(resumed.of(1).tolist()) == list(range(2, 10_001, 2))
    assert sorted(resumed.of(2).tolist()) == list(range(1, 10_001, 2))
