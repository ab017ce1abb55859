"""Events to arrays: time of day and week, event types and flat context fields as table rows.

Strings and small whole numbers become categories, other numbers are rounded to two decimals first (a latitude
becomes a street block); each ``key=value`` is hashed to a row. Values that look like an id or a clock (whole
numbers from a million on, texts longer than 64 characters) say nothing that could be met again: they are left out.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stream_rec.records import Event
from stream_rec.state.vocabulary import Rows

NUM_EVENT_TYPES = 32  # rows for event types; row 0 is "no event"
NUM_VALUE_BUCKETS = 254  # of an event's value; bucket 0 is "no value"
MOST_POSITIVE_BUCKET = 126
MAX_TEXT_LENGTH = 64
LEAST_CLOCKLIKE = 1e6


@lru_cache(maxsize=65_536)
def event_type_row(type_: str) -> int:
    """Row of an event type in [1, NUM_EVENT_TYPES). An open set: crc32, the same in every process."""
    return 1 + zlib.crc32(type_.encode()) % (NUM_EVENT_TYPES - 1)


@lru_cache(maxsize=262_144)
def category_row(key: str, value: str | float, num_buckets: int) -> int:
    """Row of a context or item field in [1, num_buckets), or 0 where the value says nothing."""
    if isinstance(value, str):
        text = value if 0 < len(value) <= MAX_TEXT_LENGTH else None
    elif not math.isfinite(value):
        text = None
    elif value == int(value):
        text = str(int(value)) if abs(value) < LEAST_CLOCKLIKE else None
    else:
        text = f"{value:.2f}"
    if text is None:
        return 0
    return 1 + zlib.crc32(f"{key}={text}".encode("utf-8", "surrogatepass")) % (num_buckets - 1)


class ContextEncoder:
    """Encodes the context of events in two ways.

    ``slots`` holds what is known of a request before an item is chosen: the fields named by ``request_fields``, at
    most ``num_slots`` of them, as rows of a table of ``num_buckets``. ``situations`` hashes the whole context into
    one row: what an event was like, for those who look back on it. A field such as the category of the item clicked
    would give the target away if the moment before the click could read it.
    """

    def __init__(self, request_fields: Sequence[str], num_slots: int, num_buckets: int) -> None:
        self._request_fields = sorted(set(request_fields))
        self._num_slots = num_slots
        self._num_buckets = num_buckets
        # int16 in the histories
        self._num_situations = min(num_buckets, 32_767)

    def slots(self, events: Sequence[Event]) -> Rows:
        """[B, C] table rows of the request's fields, 0 where a slot is empty."""
        rows_BC = np.zeros((len(events), self._num_slots), dtype=np.int64)
        for index, event in enumerate(events):
            if event.context:
                rows = [row for row in self._rows_of(event.context, self._request_fields) if row]
                rows_BC[index, : len(rows)] = rows[: self._num_slots]
        return rows_BC

    def situations(self, events: Sequence[Event]) -> Rows:
        """[B] one row for the whole context of each event; 0 where there is none."""
        rows_B = np.zeros(len(events), dtype=np.int64)
        for index, event in enumerate(events):
            if event.context:
                rows = self._rows_of(event.context, sorted(event.context))
                rows_B[index] = 1 + zlib.crc32(repr(rows).encode()) % (self._num_situations - 1) if any(rows) else 0
        return rows_B

    def _rows_of(self, context: dict[str, str | float], fields: Sequence[str]) -> list[int]:
        return [category_row(field, context[field], self._num_buckets) for field in fields if field in context]


def seconds(events: Sequence[Event]) -> NDArray[np.float64]:
    """[B] timestamps in seconds since the epoch."""
    return np.fromiter((e.timestamp_ms for e in events), np.float64, len(events)) / 1000.0


def value_bucket(value: float | None) -> int:
    """Bucket of an event's value in [0, NUM_VALUE_BUCKETS): 0 for none, four to each doubling of 1 + |value|.

    Fine enough to tell stars 1 to 5 apart, and up to 2^31 no two of a factor 1.2 are one; a sign is kept.
    """
    if value is None or math.isnan(value):
        return 0
    bucket = min(1 + round(4 * math.log2(1 + min(abs(value), 2.0**32))), MOST_POSITIVE_BUCKET)
    return bucket + (NUM_VALUE_BUCKETS // 2 if value < 0 else 0)


def value_buckets(events: Sequence[Event]) -> Rows:
    """[B] buckets of the events' values."""
    return np.fromiter((value_bucket(e.value) for e in events), np.int64, len(events))


def event_types(events: Sequence[Event]) -> Rows:
    """[B] rows of the event types."""
    return np.fromiter((event_type_row(e.type) for e in events), np.int64, len(events))
