"""Popularity among people of a kind, against sums in plain Python."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.ranking.candidates import places
from stream_rec.records import Event
from stream_rec.state.context import category_row
from stream_rec.state.kinds import PRIOR_EVENTS
from stream_rec.state.memory import Memory
from tests.stream_rec.state.memory_reference import learn, memory_of
from tests.stream_rec.state.worlds import CPU, START_S, differences, event, frozen

HALF_LIFE_S = 3_600.0
ITEMS = ["a", "b", "c", "d"]
DEVICES = ["phone", "desk", None]
COUNTRIES = ["no", "pt", None]
LEAST_MASS = 1e-18  # of less float32 cannot tell the shares
WEIGHTS = {"purchase": 2.5, "impression": 0.0}
CLICKS = st.tuples(
    st.sampled_from(ITEMS),
    st.sampled_from(DEVICES),
    st.sampled_from(COUNTRIES),
    st.sampled_from([0.0, 0.0, 30.0, 4_000.0, -50.0, 300_000.0]),  # 83 half-lives: the landmark moves
    st.sampled_from(["view", "view", "purchase", "impression"]),
)
LOGS = st.lists(st.lists(CLICKS, min_size=1, max_size=8), min_size=1, max_size=4)


def memory_with_room(**bounds: int) -> Memory:
    return memory_of(**({"max_items": 8, "max_users": 50, "max_neighbours": 16} | bounds), kind_half_life_s=HALF_LIFE_S)


def asked(device: str | None, country: str | None, at_s: float, item: str = "?", type_: str = "view") -> Event:
    context = {key: value for key, value in (("device", device), ("country", country)) if value is not None}
    return event(f"u{at_s}", item, at_s, type_, **context)


class Reference:
    """Events with a context, one after the other."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, tuple[str, ...], float, float]] = []  # item, values, time (s), weight

    def take(self, one: Event) -> None:
        if one.context and (weight := WEIGHTS.get(one.type, 1.0)) > 0:
            values = tuple(f"{key}={value}" for key, value in sorted(one.context.items()))
            self.counted.append((one.item_id, values, one.timestamp_ms / 1000, weight))

    def kind(self, one: Event) -> tuple[dict[str, float], dict[str, float]]:
        """Share of each item in what is said of this context, and its log lift."""
        counts: dict[str | None, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for item, values, at_s, weight in self.counted:
            for value in (None, *values):
                counts[value][item] += weight * 2.0 ** (-max(0.0, one.timestamp_ms / 1000 - at_s) / HALF_LIFE_S)
        total = math.fsum(counts[None].values())
        said, lifts = dict.fromkeys(ITEMS, 0.0), dict.fromkeys(ITEMS, 0.0)
        for key, name in sorted(one.context.items()):
            taken = counts[f"{key}={name}"]
            mass = math.fsum(taken.values())
            share = {item: counts[None][item] / total if total else 0.0 for item in ITEMS}
            lift = {i: (taken[i] + PRIOR_EVENTS) / (mass * share[i] + PRIOR_EVENTS) for i in ITEMS}
            row = {item: taken[item] / mass if mass > LEAST_MASS else 0.0 for item in ITEMS}
            loudness = max(0.0, math.fsum(row[item] * math.log(lift[item]) for item in ITEMS))
            for item in ITEMS:
                said[item] += row[item] * loudness
                lifts[item] += math.log(lift[item])
        return said, lifts


def kind_of(memory: Memory, one: Event) -> tuple[dict[str, float], dict[str, float]]:
    moments = memory.looking([one])
    items_BE, weights_BE = memory.statistics.kinds.read(moments, moments.time_B)
    said = dict.fromkeys(ITEMS, 0.0)
    for row, weight in zip(items_BE[0].tolist(), weights_BE[0].tolist(), strict=True):
        if weight > 0:
            said[memory.items.id(row)] += weight
    rows_BK = torch.tensor([[memory.items.row(item) for item in ITEMS]], device=CPU)
    lifts_BK = memory.statistics.kinds.log_lifts(moments, rows_BK, places(rows_BK, memory.num_item_rows))
    known = {item: lift for item, lift in zip(ITEMS, lifts_BK[0].tolist(), strict=True) if memory.items.row(item)}
    return said, dict.fromkeys(ITEMS, 0.0) | known


@settings(deadline=None, max_examples=80)
@given(log=LOGS)
def test_shares_and_lifts_are_those_of_the_decayed_sums(log: list[list[tuple[str, str, str, float, str]]]) -> None:
    memory, reference, at_s = memory_with_room(), Reference(), 0.0
    newest_s = 0.0
    for clicks in log:
        batch = []
        for item, device, country, gap_s, type_ in clicks:
            at_s += gap_s
            newest_s = max(newest_s, at_s)
            batch.append(asked(device, country, at_s, item, type_))
            reference.take(batch[-1])
        learn(memory, *batch)
    for device in DEVICES:
        for country in COUNTRIES:
            one = asked(device, country, newest_s + 60.0)
            for found, expected in zip(kind_of(memory, one), reference.kind(one), strict=True):
                assert found == pytest.approx(expected, rel=2e-3, abs=1e-5), one.context


def test_a_value_is_as_loud_as_it_departs_from_the_whole() -> None:
    """All countries take the same, phones and desks do not: only the device is heard, and its kind."""
    memory = memory_with_room()
    for step in range(40):
        on_phone = step % 2 == 0
        item = ("a" if step % 4 else "b") if on_phone else ("c" if step % 4 == 1 else "d")
        learn(memory, asked("phone" if on_phone else "desk", "no" if step // 4 % 2 else "pt", float(step), item))
    of_phone, lifts = kind_of(memory, asked("phone", "no", 60.0))
    assert of_phone["a"] + of_phone["b"] > 20 * (of_phone["c"] + of_phone["d"])
    assert lifts["a"] > 0.3 > -0.3 > lifts["d"]
    of_country, _ = kind_of(memory, asked(None, "no", 60.0))
    assert sum(of_country.values()) < 0.05 * sum(of_phone.values())


def test_events_without_context_change_nothing_and_nothing_is_said_of_them() -> None:
    memory = memory_with_room()
    learn(memory, asked("phone", "no", 0.0, "a"), asked("desk", "no", 1.0, "b"))
    before = frozen(memory.statistics.kinds.state(9))
    moments = learn(memory, event("u", "c", 2.0), event("v", "a", 90_000_000.0))
    assert moments.num_slots == 0
    assert list(differences(before, memory.statistics.kinds.state(9))) == []
    items_BE, _ = memory.statistics.kinds.read(moments, moments.time_B)
    assert items_BE.shape == (2, 0)


def test_only_what_is_known_before_the_event_is_read() -> None:
    memory = memory_with_room()
    for step in range(6):
        learn(memory, event(f"u{step}", "ab"[step % 2], float(step), category="ab"[step % 2]))
    assert memory.looking([event("w", "?", 9.0, category="a")]).num_slots == 0


def test_retired_items_leave_every_row_and_their_share() -> None:
    memory = memory_with_room(max_items=3)
    learn(memory, asked("phone", None, 0.0, "a"), asked("phone", None, 1.0, "b"), asked("desk", None, 2.0, "d"))
    learn(memory, asked("desk", None, 3.0, "c"))  # takes the row of a
    assert memory.items.row("a") == 0
    said, lifts = kind_of(memory, asked("phone", None, 4.0))
    assert said["c"] == 0.0
    assert lifts["c"] < 0 < lifts["b"]


def test_resumed_equals_uninterrupted() -> None:
    memory, resumed = memory_with_room(), memory_with_room()
    learn(memory, *(asked(DEVICES[n % 3], COUNTRIES[n % 2], 10.0 * n, ITEMS[n % 4]) for n in range(12)))
    resumed.load_state(frozen(memory.state()))
    for one in (memory, resumed):
        learn(one, *(asked(DEVICES[n % 2], None, 500_000.0 + n, ITEMS[n % 3]) for n in range(5)))
    assert list(differences(memory.state(), resumed.state())) == []
    one = asked("phone", "pt", 500_100.0)
    assert kind_of(memory, one) == kind_of(resumed, one)


def test_the_reference_names_the_slots_as_the_memory_does() -> None:
    moments = memory_with_room().looking([asked("phone", "pt", 0.0)])
    assert moments.num_slots == 2
    assert moments.slots_BC[0].tolist() == [category_row("country", "pt", 64), category_row("device", "phone", 64)]
    assert moments.time_B[0] == START_S
