"""Ids to rows, bounded: unseen ids get rows as they come, the least recently used rows are retired.

Row 0 belongs to nobody: it is the padding item, the unknown user, and the place where masked updates go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
NOBODY = 0


@dataclass
class Assigned:
    """Outcome of ``Vocabulary.assign``."""

    rows: Rows  # one per id asked for; NOBODY where the id is not admitted (yet)
    new: list[int] = field(default_factory=list)  # rows that belong to another id than before this call
    retired: list[int] = field(default_factory=list)  # rows whose id was forgotten in this call


class Vocabulary:
    """A bounded map id → row in [1, capacity].

    ``admit_after`` n gives an id its row at its n-th sighting; the counts of those still waiting are bounded
    by ``capacity`` too (oldest forgotten first). When all rows are taken, the least recently used 1/64 of them
    is retired at once, so that whoever must clean up after them (histories, neighbours) does it rarely.
    """

    def __init__(self, kind: str, capacity: int, admit_after: int = 1) -> None:
        self.kind = kind
        self.capacity = capacity
        self.num_evicted = 0
        self._num_reported = 0
        self._admit_after = admit_after
        self._row_of: dict[str, int] = {}
        self._id_of: list[str | None] = [None]
        self._last_used: Rows = np.zeros(capacity + 1, dtype=np.int64)
        self._free: list[int] = []
        self._sightings: dict[str, int] = {}
        self.tick = 0

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def num_waiting(self) -> int:
        """Ids that have been sighted, but not often enough to be admitted: at most ``capacity``."""
        return len(self._sightings)

    @property
    def high_water(self) -> int:
        """Rows 0 … high_water - 1 have been in use at some time: tables need be read no further."""
        return len(self._id_of)

    def row(self, id_: str) -> int:
        """The row of ``id_`` or NOBODY. Changes nothing."""
        return self._row_of.get(id_, NOBODY)

    def rows(self, ids: Sequence[str]) -> Rows:
        """Rows of ``ids``, NOBODY for the unknown. Changes nothing."""
        get = self._row_of.get
        return np.fromiter((get(i, NOBODY) for i in ids), np.int64, len(ids))

    def id(self, row: int) -> str:
        """The id in a live row."""
        id_ = self._id_of[row]
        assert id_ is not None, f"{self.kind} row {row} is not in use"
        return id_

    def ids(self, rows: Sequence[int]) -> list[str]:
        """The ids in live rows."""
        return [self.id(row) for row in rows]

    def is_live(self, row: int) -> bool:
        """Whether the row belongs to an id."""
        return 0 < row < len(self._id_of) and self._id_of[row] is not None

    def assign(self, ids: Sequence[str], *, counted: bool = True) -> Assigned:
        """Rows for ``ids``, in order; marks them as used now.

        Effects: 1. counts sightings (``counted``) of ids that wait for admission; 2. retires old rows where
        room is needed, never one that this call uses; 3. gives rows to the admitted.
        """
        self.tick += 1
        # All at once before the loop: a newcomer must not take the row of whoever comes later in this very call.
        self._last_used[self.rows(ids)] = self.tick
        result = Assigned(np.zeros(len(ids), dtype=np.int64))
        for index, id_ in enumerate(ids):
            row = self._row_of.get(id_, NOBODY)
            if row == NOBODY and self._admitted(id_, counted):
                row = self._take_row(result.retired)
                if row != NOBODY:
                    self._row_of[id_] = row
                    self._id_of[row] = id_
                    result.new.append(row)
                    self._last_used[row] = self.tick
            result.rows[index] = row
        return result

    def _admitted(self, id_: str, counted: bool) -> bool:
        if self._admit_after <= 1:
            return True
        seen = self._sightings.pop(id_, 0) + counted
        if seen >= self._admit_after:
            return True
        if seen == 0:
            # A catalogue names far more than wait: it must not push out those who have been sighted.
            return False
        if len(self._sightings) >= self.capacity:
            self._sightings.pop(next(iter(self._sightings)))
        self._sightings[id_] = seen
        return False

    def _take_row(self, retired: list[int]) -> int:
        if self._free:
            return self._free.pop()
        if len(self._id_of) <= self.capacity:
            self._id_of.append(None)
            return len(self._id_of) - 1
        retired.extend(self._retire_oldest())
        return self._free.pop() if self._free else NOBODY

    def _retire_oldest(self) -> list[int]:
        last_used = self._last_used[1:]
        candidates = np.flatnonzero(last_used < self.tick) + 1
        num_wanted = min(max(1, self.capacity // 64), len(candidates))
        # Stable order: equal ages retire by row number, so that a resumed run retires the same rows.
        oldest = candidates[np.argsort(self._last_used[candidates], kind="stable")[:num_wanted]]
        rows = [int(row) for row in oldest]
        for row in rows:
            self._forget(row)
        # Popped from the end: hand out the oldest first.
        self._free.extend(reversed(rows))
        self.num_evicted += len(rows)
        return rows

    def _forget(self, row: int) -> None:
        del self._row_of[self.id(row)]
        self._id_of[row] = None

    def take_evicted(self) -> int:
        """Rows retired since the last call: for counters."""
        num_evicted, self._num_reported = self.num_evicted - self._num_reported, self.num_evicted
        return num_evicted

    def state(self) -> dict[str, Any]:
        """All of it, as JSON values and arrays."""
        return {
            "ids": [id_ if id_ is not None else "" for id_ in self._id_of[1:]],
            "last_used": self._last_used[: self.high_water].copy(),
            "free": list(self._free),
            "sightings": list(self._sightings.items()),
            "tick": self.tick,
            "num_evicted": self.num_evicted,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``. Raises ValueError where it does not fit the capacity."""
        ids: list[str] = state["ids"]
        if len(ids) > self.capacity:
            raise ValueError(f"{len(ids)} {self.kind} rows do not fit state.max_{self.kind}s = {self.capacity}")
        # An id is never empty (the decoder refuses that), so "" marks a free row.
        self._id_of = [None, *(id_ or None for id_ in ids)]
        self._row_of = {id_: row for row, id_ in enumerate(self._id_of) if id_ is not None}
        self._last_used[:] = 0
        self._last_used[: len(self._id_of)] = state["last_used"]
        self._free = list(state["free"])
        self._sightings = dict(state["sightings"])
        self.tick = state["tick"]
        self.num_evicted = self._num_reported = state["num_evicted"]
