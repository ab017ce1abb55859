"""Recent sessions in arrays, found by the items that they hold; bounded in sessions, in their length and per item.

Shapes: S sessions, L places of a session, R items that there is room for, P sessions kept per item, C sessions found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
FIRST_ROWS = 256

Ints = NDArray[np.int64]


class SessionStore:
    """The newest ``max_sessions`` sessions, of each the newest ``max_length`` items.

    A session is known by its number, which counts the sessions opened; its place in the arrays is that number modulo
    S, so a number that is too old finds another session there and counts as gone.
    """

    def __init__(self, max_sessions: int, max_length: int, sessions_per_item: int) -> None:
        self.items_SL = np.full((max_sessions, max_length), NOBODY, dtype=np.int32)
        self.lengths_S = np.zeros(max_sessions, dtype=np.int32)
        self.last_ms_S = np.zeros(max_sessions, dtype=np.int64)
        self.numbers_S = np.full(max_sessions, NOBODY, dtype=np.int64)
        self._sessions_per_item = sessions_per_item
        self.recent_RP = np.full((0, sessions_per_item), NOBODY, dtype=np.int64)
        self._next_place_R = np.zeros(0, dtype=np.int64)
        self.num_opened = 0

    def open(self) -> int:
        """A new session's number; the oldest makes room."""
        number = self.num_opened
        slot = number % len(self.lengths_S)
        self.items_SL[slot] = NOBODY
        self.lengths_S[slot] = 0
        self.numbers_S[slot] = number
        self.num_opened += 1
        return number

    def is_kept(self, number: int) -> bool:
        """Whether the session is still there."""
        return number > self.num_opened - 1 - len(self.lengths_S)

    def add(self, number: int, row: int, timestamp_ms: int) -> None:
        """The session goes on with this item."""
        slot = number % len(self.lengths_S)
        items_L, length = self.items_SL[slot], int(self.lengths_S[slot])
        if length == len(items_L):
            items_L[:-1] = items_L[1:]
            length -= 1
        items_L[length] = row
        self.lengths_S[slot] = length + 1
        self.last_ms_S[slot] = max(int(self.last_ms_S[slot]), timestamp_ms) if length else timestamp_ms
        self._index(row, number)

    def items(self, number: int) -> list[int]:
        """Rows of the session's items, newest last; −1 where an item was forgotten."""
        slot = number % len(self.lengths_S)
        return [int(row) for row in self.items_SL[slot, : self.lengths_S[slot]]]

    def holding(self, row: int) -> Ints:
        """Slots (C,) of the sessions among the newest P with this item that are still there."""
        if row >= len(self.recent_RP):
            return np.zeros(0, dtype=np.int64)
        numbers_P = self.recent_RP[row]
        oldest = self.num_opened - len(self.lengths_S)
        kept: Ints = numbers_P[(numbers_P != NOBODY) & (numbers_P >= oldest)] % len(self.lengths_S)
        return kept

    def forget(self, rows: list[int]) -> None:
        """Take these items out of all sessions, and their own lists away."""
        inside = [row for row in rows if row < len(self.recent_RP)]
        self.recent_RP[inside] = NOBODY
        self._next_place_R[inside] = 0
        self.items_SL[np.isin(self.items_SL, rows)] = NOBODY

    def size(self) -> tuple[int, int]:
        """Sessions, capacity."""
        return min(self.num_opened, len(self.lengths_S)), len(self.lengths_S)

    def state(self) -> dict[str, Any]:
        """Copies of the arrays."""
        return {
            "items": self.items_SL.copy(),
            "lengths": self.lengths_S.copy(),
            "last_ms": self.last_ms_S.copy(),
            "numbers": self.numbers_S.copy(),
            "recent": self.recent_RP.copy(),
            "next_place": self._next_place_R.copy(),
            "num_opened": self.num_opened,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave. Raises ValueError where it is of other bounds."""
        shapes = (state["items"].shape, state["recent"].shape[1])
        if shapes != (self.items_SL.shape, self._sessions_per_item):
            raise ValueError(f"sessions of {shapes} were saved, here are {self.items_SL.shape}")
        self.items_SL, self.lengths_S = state["items"].copy(), state["lengths"].copy()
        self.last_ms_S, self.numbers_S = state["last_ms"].copy(), state["numbers"].copy()
        self.recent_RP, self._next_place_R = state["recent"].copy(), state["next_place"].copy()
        self.num_opened = state["num_opened"]

    def _index(self, row: int, number: int) -> None:
        num_rows = len(self.recent_RP)
        if row >= num_rows:
            missing = max(FIRST_ROWS, 2 * num_rows, row + 1) - num_rows
            empty_RP = np.full((missing, self._sessions_per_item), NOBODY, dtype=np.int64)
            self.recent_RP = np.concatenate([self.recent_RP, empty_RP])
            self._next_place_R = np.concatenate([self._next_place_R, np.zeros(missing, dtype=np.int64)])
        recent_P = self.recent_RP[row]
        if number in recent_P:
            return  # an item twice in one session is one session
        place = int(self._next_place_R[row])
        recent_P[place] = number
        self._next_place_R[row] = (place + 1) % self._sessions_per_item
