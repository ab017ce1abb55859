"""Factors of users or items in one growing array: what the matrix factorisations learn.

Shapes: R rows that there is room for, D factors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.baselines.rows import Rows

FIRST_ROWS = 256

Floats = NDArray[np.float64]


class Factors:
    """A row of D factors for every id, drawn from N(0, ``scale``²) when it is first met, and a bias from 0.

    Draws come from a counter: row n of the stream gets the same numbers whatever happened in between.
    """

    def __init__(self, capacity: int, num_factors: int, scale: float, seed: tuple[int, ...]) -> None:
        self.rows = Rows(capacity, self._forget)
        self._scale = scale
        self._seed = seed
        self._num_drawn = 0
        self.factors_RD: Floats = np.zeros((0, num_factors))
        self.biases_R: Floats = np.zeros(0)
        self._is_new_R = np.zeros(0, dtype=bool)

    def touch(self, id_: str) -> int:
        """The id's row, drawn where it is new."""
        row = self.rows.touch(id_)
        if row >= len(self.biases_R):
            self._grow(row + 1)
        if self._is_new_R[row]:
            generator = np.random.default_rng((*self._seed, self._num_drawn))
            self.factors_RD[row] = generator.normal(0.0, self._scale, self.factors_RD.shape[1])
            self.biases_R[row] = 0.0
            self._is_new_R[row] = False
            self._num_drawn += 1
        return row

    def used_factors(self) -> Floats:
        """Factors (R, D) of the rows given so far, a view; rows of nobody are all 0."""
        return self.factors_RD[: self.rows.num_rows]

    def used_biases(self) -> Floats:
        """Their biases (R,), a view."""
        return self.biases_R[: self.rows.num_rows]

    def size(self) -> tuple[int, int]:
        """Rows in use, capacity."""
        return len(self.rows), self.rows.capacity

    def state(self) -> dict[str, Any]:
        """Rows and copies of the arrays."""
        return {
            "rows": self.rows.state(),
            "factors": self.factors_RD.copy(),
            "biases": self.biases_R.copy(),
            "is_new": self._is_new_R.copy(),
            "num_drawn": self._num_drawn,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave. Raises ValueError for more rows than there is room for."""
        self.rows.load_state(state["rows"])
        self.factors_RD, self.biases_R = state["factors"].copy(), state["biases"].copy()
        self._is_new_R, self._num_drawn = state["is_new"].copy(), state["num_drawn"]

    def _grow(self, at_least: int) -> None:
        missing = max(FIRST_ROWS, 2 * len(self.biases_R), at_least) - len(self.biases_R)
        self.factors_RD = np.concatenate([self.factors_RD, np.zeros((missing, self.factors_RD.shape[1]))])
        self.biases_R = np.concatenate([self.biases_R, np.zeros(missing)])
        self._is_new_R = np.concatenate([self._is_new_R, np.ones(missing, dtype=bool)])

    def _forget(self, rows: list[int]) -> None:
        self.factors_RD[rows] = 0.0
        self.biases_R[rows] = 0.0
        self._is_new_R[rows] = True
