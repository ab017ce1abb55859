"""Bounded rows of neighbours with decayed weights, in arrays: what the item-to-item baselines count in.

Shapes: R rows that there is room for, N neighbours a row, M rows or neighbours of one call, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
FIRST_ROWS = 256

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


class NeighbourTable:
    """For every row at most N neighbours, each with a weight above 0; the smallest makes room for a new one.

    As in Space-Saving (Metwally, Agrawal & El Abbadi, ICDT 2005), but a newcomer does not inherit the weight that it
    displaces. Grows by doubling, so that it takes what the stream needs and not what the bound allows.
    """

    def __init__(self, num_neighbours: int) -> None:
        self.num_neighbours = num_neighbours
        self.keys_RN: Ints = np.full((0, num_neighbours), NOBODY, dtype=np.int32)
        self.weights_RN: Floats = np.zeros((0, num_neighbours))

    def add_to_rows(self, rows_M: Ints, key: int, gains_M: Floats) -> None:
        """Add to the weight of one neighbour in several distinct rows."""
        self._make_room(int(rows_M.max()))
        weights_MN = self.weights_RN[rows_M]
        same_MN = self.keys_RN[rows_M] == key
        held_M = same_MN.any(axis=1)
        slots_M = np.where(held_M, same_MN.argmax(axis=1), weights_MN.argmin(axis=1))
        before_M = np.where(held_M, weights_MN[np.arange(len(rows_M)), slots_M], 0.0)
        self.keys_RN[rows_M, slots_M] = key
        self.weights_RN[rows_M, slots_M] = before_M + gains_M

    def add_to_row(self, row: int, keys_M: Ints, gains_M: Floats) -> None:
        """Add to the weights of several distinct neighbours, at most N, in one row."""
        assert len(keys_M) <= self.num_neighbours, "more at once than a row can hold"
        self._make_room(row)
        keys_N, weights_N = self.keys_RN[row], self.weights_RN[row]
        same_MN = keys_M[:, None] == keys_N
        held_M = same_MN.any(axis=1)
        slots_M = same_MN.argmax(axis=1)
        weights_N[slots_M[held_M]] += gains_M[held_M]
        num_new = len(keys_M) - int(held_M.sum())
        if num_new:
            # The neighbours that were just added to are out of reach of those that come in beside them.
            protected_N = weights_N.copy()
            protected_N[slots_M[held_M]] = np.inf
            free_M = np.argpartition(protected_N, num_new - 1)[:num_new]
            keys_N[free_M] = keys_M[~held_M]
            weights_N[free_M] = gains_M[~held_M]

    def sums(self, rows_M: Ints, factors_M: Floats, num_items: int) -> Floats:
        """For each item (I,) the sum over these rows of its weight there times the row's factor."""
        inside_M = rows_M < len(self.keys_RN)
        keys_MN = self.keys_RN[rows_M[inside_M]]
        weights_MN = self.weights_RN[rows_M[inside_M]] * factors_M[inside_M, None]
        held_MN = keys_MN != NOBODY
        # Of no entries at all, bincount makes whole numbers.
        return np.bincount(keys_MN[held_MN], weights_MN[held_MN], minlength=num_items).astype(np.float64, copy=False)

    def rescale(self, factor: float) -> None:
        """Multiply all weights."""
        self.weights_RN *= factor

    def forget(self, rows: list[int]) -> None:
        """Empty these rows, and take them out of all others."""
        inside = [row for row in rows if row < len(self.keys_RN)]
        self.keys_RN[inside] = NOBODY
        gone_RN = np.isin(self.keys_RN, rows) | (self.keys_RN == NOBODY)
        self.keys_RN[gone_RN] = NOBODY
        self.weights_RN[gone_RN] = 0.0

    def num_entries(self) -> int:
        """Neighbours held, over all rows. Looks through all of them."""
        return int((self.keys_RN != NOBODY).sum())

    def state(self) -> dict[str, Any]:
        """Copies of the arrays."""
        return {"keys": self.keys_RN.copy(), "weights": self.weights_RN.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave. Raises ValueError where rows are of another width."""
        if state["keys"].shape[1] != self.num_neighbours:
            raise ValueError(f"{state['keys'].shape[1]} neighbours a row were saved, here are {self.num_neighbours}")
        self.keys_RN, self.weights_RN = state["keys"].copy(), state["weights"].copy()

    def _make_room(self, row: int) -> None:
        num_rows = len(self.keys_RN)
        if row < num_rows:
            return
        missing = max(FIRST_ROWS, 2 * num_rows, row + 1) - num_rows
        keys_RN = np.full((missing, self.num_neighbours), NOBODY, dtype=np.int32)
        self.keys_RN = np.concatenate([self.keys_RN, keys_RN])
        self.weights_RN = np.concatenate([self.weights_RN, np.zeros((missing, self.num_neighbours))])
