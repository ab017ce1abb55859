"""Ids and the rows of arrays that stand for them, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

EVICTED_SHARE = 16  # 1/16 of the ids goes at once, so that clearing whole tables is rare


class Rows:
    """A row for every id, at most ``capacity``; rows are 0, 1, 2, …, and those of evicted ids are given again.

    Where there is no room, the sixteenth that was touched longest ago goes, and ``on_evicted`` is told its rows
    before any of them is given to another id. Raises ValueError for a capacity below 1.
    """

    def __init__(self, capacity: int, on_evicted: Callable[[list[int]], None]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; allowed is a whole number from 1")
        self.capacity = capacity
        self._on_evicted = on_evicted
        self._row_of: OrderedDict[str, int] = OrderedDict()  # by last touch
        self._ids: list[str | None] = []
        self.free: list[int] = []  # rows of nobody, the one to be given next last

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def num_rows(self) -> int:
        """Rows given so far, free ones included: what arrays must have room for."""
        return len(self._ids)

    def touch(self, id_: str) -> int:
        """The id's row; a new id gets one, which may cost others theirs."""
        row = self._row_of.get(id_)
        if row is not None:
            self._row_of.move_to_end(id_)
            return row
        if len(self._row_of) >= self.capacity:
            self._evict()
        if self.free:
            row = self.free.pop()
            self._ids[row] = id_
        else:
            row = len(self._ids)
            self._ids.append(id_)
        self._row_of[id_] = row
        return row

    def find(self, id_: str) -> int | None:
        """The id's row, or None. Changes nothing."""
        return self._row_of.get(id_)

    def find_all(self, ids: Iterable[str]) -> list[int]:
        """Rows of those ids that have one, in their order."""
        row_of = self._row_of
        return [row_of[id_] for id_ in ids if id_ in row_of]

    def id(self, row: int) -> str:
        """Whose row it is."""
        id_ = self._ids[row]
        assert id_ is not None, f"row {row} belongs to nobody"
        return id_

    def state(self) -> dict[str, Any]:
        """JSON-able: ids with their rows by last touch, and the free rows in the order in which they are given."""
        return {"rows": [list(pair) for pair in self._row_of.items()], "free": list(self.free)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave. Raises ValueError where it holds more ids than there is room for."""
        pairs = [(id_, row) for id_, row in state["rows"]]
        if len(pairs) > self.capacity:
            raise ValueError(f"{len(pairs)} rows were saved, there is room for {self.capacity}")
        self._row_of = OrderedDict(pairs)
        self.free = list(state["free"])
        self._ids = [None] * (len(pairs) + len(self.free))
        for id_, row in pairs:
            self._ids[row] = id_

    def _evict(self) -> None:
        rows = [self._row_of.popitem(last=False)[1] for _ in range(max(1, self.capacity // EVICTED_SHARE))]
        for row in rows:
            self._ids[row] = None
        self.free += rows
        self._on_evicted(rows)
