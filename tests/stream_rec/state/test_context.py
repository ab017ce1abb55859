"""Context becomes rows: in range for anything, the same in every process, and silent about ids and clocks."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_rec.config import StateSettings
from stream_rec.records import Event
from stream_rec.state.context import (
    MOST_POSITIVE_BUCKET,
    NUM_EVENT_TYPES,
    NUM_VALUE_BUCKETS,
    ContextEncoder,
    category_row,
    event_type_row,
    event_types,
    seconds,
    value_bucket,
    value_buckets,
)
from tests.stream_rec.state.worlds import event

VALUES = st.text(max_size=70) | st.floats() | st.integers(-(10**12), 10**12).map(float)
CONTEXTS = st.lists(st.dictionaries(st.text(max_size=8), VALUES, max_size=6), min_size=1, max_size=5)


@given(contexts=CONTEXTS, num_slots=st.integers(1, 4), num_buckets=st.sampled_from([2, 3, 64, 40_000]))
def test_any_context_gives_rows_in_range(
    contexts: list[dict[str, str | float]], num_slots: int, num_buckets: int
) -> None:
    request_fields = sorted({key for context in contexts for key in context})[::2]
    encoder = ContextEncoder(request_fields, num_slots, num_buckets)
    events = [Event("u", "i", "view", 0, context=context) for context in contexts]
    slots, situations = encoder.slots(events), encoder.situations(events)
    assert slots.shape == (len(contexts), num_slots)
    for row, situation, context in zip(slots.tolist(), situations.tolist(), contexts, strict=True):
        said = {key: category_row(key, context[key], num_buckets) for key in sorted(context)}
        assert all(0 <= bucket < num_buckets for bucket in said.values())
        of_request = [bucket for key, bucket in said.items() if bucket and key in request_fields][:num_slots]
        assert row == of_request + [0] * (num_slots - len(of_request))
        assert (situation > 0) == any(said.values())
        assert situation < min(num_buckets, 32_767)


def test_rows_are_the_same_in_every_process() -> None:
    assert category_row("device", "phone", 4_096) == 2_593
    assert category_row("lat", -23.546, 4_096) == category_row("lat", -23.5499, 4_096) == 1_577
    assert [event_type_row(name) for name in ("view", "purchase", "Kauf €")] == [5, 13, 19]


@pytest.mark.parametrize("value", ["", "x" * 65, math.nan, math.inf, -math.inf, 1e6, -1e6, 1_600_000_000.0])
def test_what_could_not_be_met_again_says_nothing(value: str | float) -> None:
    assert category_row("key", value, 64) == 0


@pytest.mark.parametrize("value", ["x" * 64, 0.0, 999_999.0, -3.0, 1e-9, 12_345_678.5, "\ud800"])
def test_what_could_be_met_again_has_a_row(value: str | float) -> None:
    assert 1 <= category_row("key", value, 64) < 64


def test_a_whole_number_is_one_category_however_it_is_written() -> None:
    assert category_row("rooms", 3.0, 4_096) == category_row("rooms", 3, 4_096) == category_row("rooms", "3", 4_096)


def test_fields_beyond_the_slots_go_by_key_order_and_empty_ones_take_no_slot() -> None:
    encoder = ContextEncoder(["z", "c", "a", "b", "c"], 2, 4_096)
    slots = encoder.slots([event("u", "i", z="last", b="kept", a="", c=1.0), event("u", "i")])
    assert slots.tolist() == [[category_row("b", "kept", 4_096), category_row("c", 1.0, 4_096)], [0, 0]]


def test_what_could_give_the_item_away_is_in_the_situation_and_in_no_slot() -> None:
    encoder = ContextEncoder(["device"], 3, 4_096)
    events = [event("u", "i", device="phone", category=category) for category in ("shoes", "hats")]
    assert encoder.slots(events).tolist() == [[category_row("device", "phone", 4_096), 0, 0]] * 2
    shoes, hats = encoder.situations(events).tolist()
    assert shoes != hats


def test_a_situation_depends_on_which_field_says_what_and_not_on_their_order() -> None:
    encoder = ContextEncoder([], 1, 4_096)
    contexts: list[dict[str, str | float]] = [{"a": "x", "b": "y"}, {"b": "y", "a": "x"}, {"a": "y", "b": "x"}, {}]
    one, same, other, nothing = encoder.situations([Event("u", "i", "view", 0, context=c) for c in contexts]).tolist()
    assert one == same != other
    assert nothing == 0


@pytest.mark.parametrize("setting", ["num_context_buckets", "num_feature_buckets"])
def test_a_table_without_room_beside_none_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"{setting}\n.*greater than or equal to 2"):
        StateSettings(**{setting: 1})
    encoder = ContextEncoder(["a"], 1, 2)
    assert encoder.slots([event("u", "i", a="x")]).tolist() == [[1]]
    assert encoder.situations([event("u", "i", a="x")]).tolist() == [1]


@given(types=st.lists(st.text(max_size=9), max_size=6))
def test_event_types_have_rows_above_none(types: list[str]) -> None:
    rows = event_types([Event("u", "i", type_, 0) for type_ in types])
    assert rows.tolist() == [event_type_row(type_) for type_ in types]
    assert ((rows >= 1) & (rows < NUM_EVENT_TYPES)).all()


def test_seconds_keep_the_milliseconds() -> None:
    moment = datetime(2020, 9, 13, 12, 26, 40, 123_000, tzinfo=UTC)
    stamp_ms = int(moment.timestamp() * 1000)
    assert seconds([Event("u", "i", "view", stamp_ms)]).tolist() == [stamp_ms / 1000]


@given(value=st.floats(), larger=st.floats())
def test_a_value_has_a_bucket_by_size_and_sign(value: float, larger: float) -> None:
    bucket = value_bucket(value)
    if math.isnan(value):
        assert bucket == 0
        return
    positive, negative = range(1, MOST_POSITIVE_BUCKET + 1), range(NUM_VALUE_BUCKETS // 2 + 1, NUM_VALUE_BUCKETS)
    assert bucket in (negative if value < 0 else positive)
    if larger >= value >= 0:
        assert value_bucket(larger) >= bucket


def test_stars_and_seconds_are_told_apart_and_no_value_is_none_of_them() -> None:
    stars = [value_bucket(n) for n in (None, 0, 1, 2, 3, 4, 5, 0.5, -1)]
    assert len(set(stars)) == len(stars)
    assert stars[:3] == [0, 1, 5]
    seconds_read = [value_bucket(float(n)) for n in (30, 60, 600, 3_600, 86_400, 10**9)]
    assert len(set(seconds_read)) == len(seconds_read)
    events = [Event("u", "i", "rating", 0, value=value) for value in (4.0, None, math.inf, -math.inf)]
    assert value_buckets(events).tolist() == [value_bucket(4.0), 0, MOST_POSITIVE_BUCKET, NUM_VALUE_BUCKETS - 1]
