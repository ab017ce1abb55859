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
    """Encodes the context of events.

    ``num_slots`` fields are kept of each (by key order, if there are more), as rows of a table of ``num_buckets``.
    """

    def __init__(self, num_slots: int, num_buckets: int) -> None:
        self.num_slots = num_slots
        self.num_buckets = num_buckets
        # int16 in the histories
        self.num_situations = min(num_buckets, 32_767)

    def slots(self, events: Sequence[Event]) -> Rows:
        """[B, C] table rows of the context fields, 0 where a slot is empty."""
        rows_BC = np.zeros((len(events), self.num_slots), dtype=np.int64)
        for index, event in enumerate(events):
            if event.context:
                rows_BC[index] = self._rows_of(event.context)
        return rows_BC

    def _rows_of(self, context: dict[str, str | float]) -> list[int]:
        rows = [category_row(key, context[key], self.num_buckets) for key in sorted(context)]
        rows = [row for row in rows if row][: self.num_slots]
        return rows + [0] * (self.num_slots - len(rows))

    def situations(self, slots_BC: Rows) -> Rows:
        """[B] one row for the whole context, as it is kept in histories; 0 where there is none."""
        mixed_B = (slots_BC * (2 * np.arange(1, self.num_slots + 1) + 1)).sum(axis=1)
        return np.where(mixed_B > 0, 1 + mixed_B * 2_654_435_761 % (self.num_situations - 1), 0)


def seconds(events: Sequence[Event]) -> NDArray[np.float64]:
    """[B] timestamps in seconds since the epoch."""
    return np.fromiter((e.timestamp_ms for e in events), np.float64, len(events)) / 1000.0


def event_types(events: Sequence[Event]) -> Rows:
    """[B] rows of the event types."""
    return np.fromiter((event_type_row(e.type) for e in events), np.int64, len(events))
