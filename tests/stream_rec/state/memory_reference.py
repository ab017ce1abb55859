"""Memory against a reference in plain Python that knows ids, lists and dictionaries only.

The reference takes from the vocabulary who has a row and who lost it (its own tests hold it to that); everything
else it keeps for itself, one event after the other, and every moment of every batch must agree with it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import msgspec
import pytest
import torch
from hypothesis import strategies as st

from stream_rec.config import Settings
from stream_rec.records import Event, Item, ItemUpdate
from stream_rec.state.context import category_row, event_type_row, value_bucket
from stream_rec.state.histories import SESSION_GAP_S, TIME_ORIGIN_S
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from tests.stream_rec.state.worlds import CPU, START_S, differences, event, frozen, tiny

USERS = [f"u{number}" for number in range(6)]
ITEMS = [f"i{number}" for number in range(9)]
WEIGHTS = {"impression": 0.0, "purchase": 2.5}
HALF_LIVES_S = [300.0, 86_400.0, math.inf]
TRANSITION_HALF_LIFE_S = 3_600.0
LENGTH = 3
MAX_SEEN = 2

GAPS_S = st.sampled_from([0.0, 0.0, 0.4, 5.0, 300.0, -20.0, -4_000.0, 9_000.0, 300_000.0])
CLICKS = st.tuples(
    st.sampled_from(USERS),
    st.sampled_from(ITEMS),
    GAPS_S,
    st.sampled_from(["view", "view", "view", "purchase", "impression"]),
    st.sampled_from([None, "phone", "desk"]),
    st.sampled_from([None, None, 0.0, 1.0, 5.0, -3.0]),
)
UPDATES = st.tuples(st.sampled_from(ITEMS), st.sampled_from(["put", "put", "unavailable", "tombstone"]))
Click = tuple[str, str, float, str, str | None, float | None]
Step = list[Click] | tuple[str, str] | None
STEPS = st.lists(
    st.one_of(st.lists(CLICKS, min_size=1, max_size=10), st.lists(CLICKS, min_size=1, max_size=10), UPDATES, st.none()),
    min_size=1,
    max_size=9,
)
WORLDS = st.builds(
    tiny,
    exclude_seen=st.booleans(),
    unseen_items=st.booleans(),
    max_users=st.sampled_from([2, 3, 8]),
    max_items=st.sampled_from([3, 4, 16]),
    admit_user_after=st.sampled_from([1, 1, 2]),
    admit_item_after=st.sampled_from([1, 1, 2]),
    history_length=st.just(LENGTH),
    max_seen_per_user=st.just(MAX_SEEN),
    max_seen_entries=st.just(1_000),
    max_neighbours=st.just(len(ITEMS)),
)


def session_length(elapsed_s: list[int]) -> int:
    """Entries, newest first, up to the first that lies too far before its successor (the moment, for the newest)."""
    after_s = 0
    for length, before_s in enumerate(max(0, each) for each in elapsed_s):
        if before_s - after_s > SESSION_GAP_S:
            return length
        after_s = before_s
    return len(elapsed_s)


def update_of(item_id: str, what: str) -> ItemUpdate:
    if what == "tombstone":
        return ItemUpdate(item_id, None)
    return ItemUpdate(item_id, Item(item_id, categories=["some"], available=what == "put"))


@dataclass
class Entry:
    """One place of a history; ``item`` is None where the item was retired."""

    item: str | None
    clock: int
    type_: int
    is_in_context: bool
    value: float | None


@dataclass
class Catalogue:
    """Availability of items that the catalogue has named, bounded."""

    capacity: int
    known: dict[str, bool] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)

    def take(self, item_id: str, what: str) -> None:
        self.known.pop(item_id, None)
        self.gone.pop(item_id, None)
        target = self.gone if what == "tombstone" else self.known
        if len(target) >= self.capacity:
            del target[next(iter(target))]
        if what == "tombstone":
            self.gone[item_id] = None
        else:
            self.known[item_id] = what == "put"

    def available(self, item_id: str) -> bool:
        return self.known.get(item_id, item_id not in self.gone)


class Reference:
    """Plays the same steps beside a ``Memory`` and compares at each."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.memory = Memory(settings, CPU)
        self.catalogue = Catalogue(settings.state.max_items)
        self.histories: dict[str, list[Entry]] = defaultdict(list)
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.available: dict[str, bool] = {}  # of items that have a row
        self.counted: list[tuple[str, float, float]] = []  # item, time (s), weight
        self.followed: list[tuple[str, str, float, float]] = []  # last item, item, time (s), weight
        self.at_s = self.newest_s = 0.0

    # -- who has a row -----------------------------------------------------------------------------------------

    def live(self) -> tuple[set[str], set[str]]:
        memory = self.memory
        return {u for u in USERS if memory.users.row(u)}, {i for i in ITEMS if memory.items.row(i)}

    def rows_changed(self, before: tuple[set[str], set[str]], new_rows: list[int]) -> None:
        users, items = self.live()
        for user in before[0] - users:
            self.histories.pop(user, None)
            self.seen.pop(user, None)
        gone, new = before[1] - items, items - before[1]
        assert sorted(new_rows) == sorted(self.memory.items.row(item) for item in new)
        for user in self.histories:
            for entry in self.histories[user]:
                entry.item = None if entry.item in gone else entry.item
            self.seen[user] = [item for item in self.seen[user] if item not in gone]
        self.counted = [entry for entry in self.counted if entry[0] not in gone]
        self.followed = [entry for entry in self.followed if not gone & {entry[0], entry[1]}]
        self.available = {item: a for item, a in self.available.items() if item not in gone}
        self.available |= {item: self.catalogue.available(item) for item in new}

    # -- steps -------------------------------------------------------------------------------------------------

    def update_catalogue(self, item_id: str, what: str) -> None:
        before = self.live()
        new_rows = self.memory.update_catalogue([update_of(item_id, what)])
        self.catalogue.take(item_id, what)
        self.rows_changed(before, new_rows)
        if item_id in self.available:
            self.available[item_id] = self.catalogue.available(item_id)
        self.compare_what_may_be_listed()

    def restart(self) -> None:
        state = frozen(self.memory.state())
        self.memory = Memory(self.settings, CPU)
        self.memory.load_state(state)
        assert list(differences(state, self.memory.state())) == []

    def learn(self, clicks: list[Click]) -> None:
        batch = []
        for user, item, gap_s, type_, device, value in clicks:
            self.at_s += gap_s
            one = event(user, item, self.at_s, type_, **({} if device is None else {"device": device}))
            batch.append(msgspec.structs.replace(one, value=value))
        before = self.live()
        rows_before = {user: self.memory.users.row(user) for user in before[0]}
        moments, new_rows = self.memory.enter(batch)
        rows = {user: self.memory.users.row(user) for user in self.live()[0]}
        assert sorted(moments.new_users) == sorted(row for user, row in rows.items() if rows_before.get(user) != row)
        self.rows_changed(before, new_rows)
        listed = set(before[1])
        for index, one in enumerate(batch):
            self.compare_moment(moments, index, one, before[0], listed)
            self.take(one, moments, index, listed)
        self.memory.update(moments)
        self.compare_what_may_be_listed()
        self.compare_statistics()
        self.compare_looking(batch[-1])

    def take(self, one: Event, moments: Moments, index: int, listed: set[str]) -> None:
        weight, at_s = WEIGHTS.get(one.type, 1.0), one.timestamp_ms / 1000
        self.newest_s = max(self.newest_s, at_s - START_S)
        if not moments.counts[index]:
            return
        listed.add(one.item_id)
        self.counted.append((one.item_id, at_s, weight))
        if not moments.users[index]:
            return
        history, seen = self.histories[one.user_id], self.seen[one.user_id]
        if history and history[-1].item is not None:
            self.followed.append((history[-1].item, one.item_id, at_s, weight))
        clock = math.floor(at_s) - TIME_ORIGIN_S
        entry = Entry(one.item_id, clock, event_type_row(one.type), bool(one.context), one.value)
        history.append(entry)
        if not self.memory.allows_repeats and one.item_id not in seen:
            seen.append(one.item_id)
            del seen[: max(0, len(seen) - MAX_SEEN)]

    # -- comparisons -------------------------------------------------------------------------------------------

    def compare_moment(self, moments: Moments, index: int, one: Event, known: set[str], listed: set[str]) -> None:
        memory, user_row, item_row = self.memory, int(moments.users[index]), int(moments.items[index])
        weight = WEIGHTS.get(one.type, 1.0)
        assert moments.user_B[index] == user_row
        if user_row:
            assert memory.users.id(user_row) == one.user_id
        elif weight > 0:
            assert one.user_id not in known  # not admitted yet, or no row was left in this batch
        else:
            assert not memory.users.row(one.user_id)
        if weight > 0 and (item_row or one.item_id in listed):
            assert memory.items.id(item_row) == one.item_id
        assert bool(moments.counts[index]) == (weight > 0 and item_row > 0)
        assert moments.weight_B[index].item() == (weight if item_row else 0.0)

        history = self.histories[one.user_id] if user_row else []
        self.compare_history(moments, index, history)
        seen = self.seen[one.user_id] if user_row and not memory.allows_repeats else []
        is_new = one.item_id not in seen
        assert moments.target_weight_B[index].item() == (weight if item_row and is_new else 0.0)
        may_be_listed = {item for item in listed if self.available.get(item, False)} - set(seen)
        assert self.listed_at(moments, index) == may_be_listed

        at_s = math.floor(one.timestamp_ms / 1000)
        assert moments.hour_B[index].item() == at_s // 3600 % 24
        assert moments.weekday_B[index].item() == (at_s // 86_400 + 3) % 7
        device = one.context.get("device")
        slots = [0 if device is None else category_row("device", device, 64), 0]
        assert moments.slots_BC[index].tolist() == slots

    def compare_history(self, moments: Moments, index: int, entries: list[Entry]) -> None:
        history, newest_first = moments.history, entries[::-1][:LENGTH]
        length = int(history.lengths_B[index])
        assert length == len(newest_first)
        rows = history.items_BN[index].tolist()
        assert [self.memory.items.id(row) if row else None for row in rows[:length]] == [e.item for e in newest_first]
        assert not any(rows[length:])
        assert history.times_BN[index, :length].tolist() == [e.clock for e in newest_first]
        assert history.types_BN[index, :length].tolist() == [e.type_ for e in newest_first]
        assert (history.situations_BN[index, :length] > 0).tolist() == [e.is_in_context for e in newest_first]
        assert history.values_BN[index, :length].tolist() == [value_bucket(e.value) for e in newest_first]
        clock = int(moments.clock_B[index])
        assert moments.session_lengths_B[index] == session_length([clock - e.clock for e in newest_first])
        gaps = [max(0, clock - e.clock) if e.item else 0 for e in newest_first]
        assert moments.gaps_BN[index].tolist() == gaps + [0] * (LENGTH - length)

    def listed_at(self, moments: Moments, index: int) -> set[str]:
        allowed = self.memory.recommendable().clone()
        if moments.excluded is not None:
            moment_P, row_P = moments.excluded
            assert ((moment_P >= 0) & (moment_P < len(moments))).all()
            allowed[row_P[moment_P == index]] = False
        return set(self.memory.items.ids(torch.nonzero(allowed)[:, 0].tolist()))

    def compare_what_may_be_listed(self) -> None:
        found = set(self.memory.items.ids(torch.nonzero(self.memory.recommendable())[:, 0].tolist()))
        assert found == {item for item, available in self.available.items() if available}

    def compare_statistics(self) -> None:
        popularity, items = self.memory.statistics.popularity, self.memory.items
        transitions = self.memory.statistics.transitions
        now_s = START_S + self.newest_s
        now_B = torch.tensor([now_s], dtype=torch.float64, device=CPU)
        counts_HI = popularity.counts_HI * popularity.landmark.discounts(now_B)
        totals_H = popularity.totals_H * popularity.landmark.discounts(now_B)[:, 0]
        for index, half_life_s in enumerate(HALF_LIVES_S):
            expected = [0.0] * counts_HI.shape[1]
            for item, at_s, weight in self.counted:
                expected[items.row(item)] += weight * 2.0 ** ((at_s - now_s) / half_life_s)
            assert counts_HI[index].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-9)
            assert totals_H[index].item() == pytest.approx(math.fsum(expected), rel=1e-4, abs=1e-9)
        expected_pairs: dict[tuple[int, int], float] = defaultdict(float)
        for last, item, at_s, weight in self.followed:
            faded = weight * 2.0 ** ((at_s - now_s) / TRANSITION_HALF_LIFE_S)
            expected_pairs[items.row(last), items.row(item)] += faded
        weights_IM = transitions.weights_WIM[0] * transitions.landmark.discounts(now_B)[0]
        found_pairs = {
            (row, successor): weight
            for row, (successors, weights) in enumerate(
                zip(transitions.neighbours_IM.tolist(), weights_IM.tolist(), strict=True)
            )
            for successor, weight in zip(successors, weights, strict=True)
            if weight > 1e-9
        }
        expected_pairs = {pair: weight for pair, weight in expected_pairs.items() if weight > 1e-9}
        assert found_pairs == pytest.approx(expected_pairs, rel=1e-3)

    def compare_looking(self, last: Event) -> None:
        """What a user sees after the batch; and that looking leaves everything as it is."""
        before = frozen(self.memory.state())
        events = [Event(user, "?", "view", last.timestamp_ms + 1_000) for user in [*USERS, "stranger"]]
        moments = self.memory.looking(events)
        users, items = self.live()
        for index, one in enumerate(events):
            user = one.user_id
            self.compare_history(moments, index, self.histories[user] if user in users else [])
            seen = set(self.seen[user]) if user in users else set()
            assert self.listed_at(moments, index) == {i for i in items if self.available[i]} - seen
        assert not moments.weight_B.any()
        assert not moments.target_weight_B.any()
        assert not moments.counts.any()
        assert list(differences(before, self.memory.state())) == []


def memory_of(**settings: object) -> Memory:
    return Memory(tiny(**settings), CPU)


def learn(memory: Memory, *events: Event) -> Moments:
    moments, _ = memory.enter(list(events))
    memory.update(moments)
    return moments
