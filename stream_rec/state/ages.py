"""When each item was first and last touched.

Shapes: I = item rows, B = events of a batch. Times are seconds since TIME_ORIGIN_S.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros

NEVER = -(2**31)


class Ages:
    """``first_I`` and ``last_I``; NEVER for an item that nobody has touched."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        # Kept as the distance from NEVER, so that untouched pages stay unwritten.
        self._first_I = zeros(capacity + 1, dtype=torch.int64, device=device)
        self._last_I = zeros(capacity + 1, dtype=torch.int64, device=device)

    def update(self, item_B: Tensor, clock_B: Tensor, weight_B: Tensor) -> None:
        """Take in a batch of events; weight 0 counts for nothing."""
        item_B, distance_B = torch.where(weight_B > 0, item_B, 0), clock_B - NEVER
        known_B = self._first_I[item_B]
        self._last_I.scatter_reduce_(0, item_B, distance_B, "amax")
        first_B = torch.where(known_B > 0, known_B, distance_B)
        # Unknown ones hold 0, which would win any minimum: they get this batch's latest first.
        self._first_I[item_B] = torch.maximum(known_B, self._last_I[item_B] * (known_B == 0))
        self._first_I.scatter_reduce_(0, item_B, first_B, "amin")
        self._first_I[:1].zero_()
        self._last_I[:1].zero_()

    def since(self, rows_BK: Tensor, clock_B: Tensor) -> tuple[Tensor, Tensor]:
        """Seconds [B, K] since the first and since the last touch, >= 0; very long for what was never touched."""
        seen_from_B1 = (clock_B - NEVER)[:, None]
        return (
            (seen_from_B1 - self._first_I[rows_BK]).clamp_min(0),
            (seen_from_B1 - self._last_I[rows_BK]).clamp_min(0),
        )

    def younger_than(self, age_s: float, clock: Tensor, num_rows: int) -> Tensor:
        """[I] whether an item was first touched no longer ago than ``age_s`` at ``clock`` (a scalar), or never."""
        first_I = self._first_I[:num_rows]
        return (first_I == 0) | (clock - NEVER - first_I <= age_s)

    def forget_items(self, rows: list[int]) -> None:
        """Retired item rows have never been touched."""
        rows_R = torch.tensor(rows, device=self._first_I.device)
        self._first_I[rows_R] = 0
        self._last_I[rows_R] = 0

    def state(self, num_rows: int) -> dict[str, Any]:
        """All of it for item rows below ``num_rows``."""
        return {"first": self._first_I[:num_rows].clone(), "last": self._last_I[:num_rows].clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        for name, table_I in (("first", self._first_I), ("last", self._last_I)):
            table_I.zero_()
            table_I[: len(state[name])] = state[name].to(table_I.device)
