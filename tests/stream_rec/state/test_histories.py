"""Histories against lists in plain Python: rings, many events of a user in a batch, rows that change hands."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.state.context import NUM_VALUE_BUCKETS
from stream_rec.state.histories import SESSION_GAP_S, Histories, History
from tests.stream_rec.state.worlds import CPU, differences

NUM_USERS = 4
LENGTH = 3


@dataclass(frozen=True)
class Entry:
    """One interaction; item 0 is a place whose item was retired."""

    item: int
    time: int
    type_: int
    situation: int
    value: int


@dataclass
class Batch:
    users: list[int]
    counts: list[bool]
    entries: list[Entry]

    def arguments(self) -> tuple[Any, ...]:
        columns = [[e.item, e.time, e.type_, e.situation, e.value] for e in self.entries]
        counts = np.asarray(self.counts, dtype=np.bool_)
        return np.asarray(self.users), counts, *torch.tensor(columns, device=CPU).T


@dataclass
class Lists:
    """The reference: every user's interactions so far, and how many he has had."""

    of: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    def append(self, user: int, entry: Entry) -> None:
        if user:
            self.of[user].append(entry)

    def newest_first(self, user: int) -> list[Entry]:
        return self.of[user][::-1][:LENGTH] if user else []

    def forget_items(self, items: list[int]) -> None:
        for user, entries in self.of.items():
            self.of[user] = [replace(e, item=0) if e.item in items else e for e in entries]


def rows_of(history: History, index: int) -> list[Entry]:
    columns = (history.items_BN, history.times_BN, history.types_BN, history.situations_BN, history.values_BN)
    length = int(history.lengths_B[index])
    assert not history.items_BN[index, length:].any()
    return [Entry(*values) for values in zip(*(c[index, :length].tolist() for c in columns), strict=True)]


ENTRIES = st.builds(
    Entry,
    st.integers(1, 9),
    st.integers(-(2**31), 2**31 - 1),  # seconds around the origin: 1933 to 2069
    st.integers(0, 31),
    st.integers(0, 32_767),
    st.integers(0, NUM_VALUE_BUCKETS - 1),
)
EVENTS = st.tuples(st.integers(0, NUM_USERS), st.sampled_from([True, True, True, False]), ENTRIES)
BATCHES = st.lists(EVENTS, min_size=1, max_size=12).map(
    lambda events: Batch([e[0] for e in events], [e[1] for e in events], [e[2] for e in events])
)
STEPS = st.lists(
    st.one_of(
        BATCHES,
        BATCHES,
        st.sets(st.integers(1, NUM_USERS), min_size=1).map(lambda users: ("users", sorted(users))),
        st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True).map(lambda items: ("items", items)),
        st.just(("restart", [])),
    ),
    max_size=10,
)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS)
def test_every_event_finds_the_newest_before_it_whatever_happens(
    steps: list[Batch | tuple[str, list[int]]],
) -> None:
    histories, lists = Histories(NUM_USERS, LENGTH, CPU), Lists()
    for step in steps:
        if isinstance(step, tuple):
            what, rows = step
            if what == "users":
                histories.forget_users(rows)
                for user in rows:
                    lists.of[user] = []
            elif what == "items":
                histories.forget_items(rows, NUM_USERS + 1)
                lists.forget_items(rows)
            else:
                state = histories.state(NUM_USERS + 1)
                histories = Histories(NUM_USERS, LENGTH, CPU)
                histories.load_state(state)
                assert list(differences(state, histories.state(NUM_USERS + 1))) == []
            continue
        arguments = step.arguments()
        before = histories.state(NUM_USERS + 1)
        found = histories.read_before(*arguments)
        assert list(differences(before, histories.state(NUM_USERS + 1))) == []
        for index, (user, counts, entry) in enumerate(zip(step.users, step.counts, step.entries, strict=True)):
            assert rows_of(found, index) == lists.newest_first(user)
            if counts:
                lists.append(user, entry)
        histories.append(*arguments)
        users = np.arange(NUM_USERS + 1)
        stored = histories.read(users)
        for user in range(NUM_USERS + 1):
            assert rows_of(stored, user) == lists.newest_first(user)
        # Law 3: a ring never holds more than its length.
        assert histories.num_entries == sum(min(len(e), LENGTH) for e in lists.of.values()) <= NUM_USERS * LENGTH


def test_a_user_with_more_events_in_a_batch_than_his_history_holds() -> None:
    histories = Histories(2, LENGTH, CPU)
    batch = Batch([1] * 11, [True] * 11, [Entry(item, item, 1, 0, 0) for item in range(1, 12)])
    found = histories.read_before(*batch.arguments())
    assert found.items_BN[10].tolist() == [10, 9, 8]
    assert found.lengths_B.tolist() == [0, 1, 2, *[LENGTH] * 8]
    histories.append(*batch.arguments())
    assert histories.read(np.asarray([1, 2, 0])).items_BN.tolist() == [[11, 10, 9], [0, 0, 0], [0, 0, 0]]


def test_a_row_that_changes_hands_shows_nothing_of_its_former_owner() -> None:
    histories = Histories(1, LENGTH, CPU)
    old = Batch([1, 1, 1, 1], [True] * 4, [Entry(item, 5, 7, 9, 3) for item in (1, 2, 3, 4)])
    histories.append(*old.arguments())
    histories.forget_users([1])
    assert histories.read(np.asarray([1])).items_BN.tolist() == [[0, 0, 0]]
    assert histories.read(np.asarray([1])).lengths_B.tolist() == [0]
    new = Batch([1], [True], [Entry(6, 8, 2, 0, 1)])
    histories.append(*new.arguments())
    assert rows_of(histories.read(np.asarray([1])), 0) == [Entry(6, 8, 2, 0, 1)]
    assert histories.num_entries == 1


def test_unknown_users_and_events_that_do_not_count_leave_no_trace() -> None:
    histories = Histories(2, LENGTH, CPU)
    before = histories.state(3)
    batch = Batch([0, 1, 2], [True, False, False], [Entry(1, 2, 3, 4, 5)] * 3)
    histories.append(*batch.arguments())
    assert list(differences(before, histories.state(3))) == []


def test_a_running_session_is_what_no_half_hour_divides() -> None:
    histories = Histories(1, 4, CPU)
    times = [0, 60, 60 + SESSION_GAP_S, 61 + 2 * SESSION_GAP_S]
    batch = Batch([1] * 4, [True] * 4, [Entry(1 + n, time, 1, 0, 0) for n, time in enumerate(times)])
    histories.append(*batch.arguments())
    history = histories.read(np.asarray([1] * 5 + [0]))
    last = times[-1]
    # The first of them is a late event: whatever lies ahead of it is as good as now.
    asked = torch.tensor([last - 1, last, last + SESSION_GAP_S, last + SESSION_GAP_S + 1, last + 10**8, last])
    assert history.session_lengths(asked).tolist() == [4, 1, 1, 0, 0, 0]
    histories.forget_users([1])
    batch = Batch([1] * 3, [True] * 3, [Entry(1 + n, time, 1, 0, 0) for n, time in enumerate(times[:3])])
    histories.append(*batch.arguments())
    histories.forget_items([2], 2)  # a place stays a place
    assert histories.read(np.asarray([1])).session_lengths(torch.tensor([times[2] + 5])).tolist() == [3]
