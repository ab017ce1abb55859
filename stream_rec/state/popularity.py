"""Decayed popularity of every item at several half-lives, and without decay.

Shapes: H = half-lives (the last one infinite), I = item rows, B = events of a batch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.decay import Landmark


class Popularity:
    """``counts_HI`` and their sums, in the frame of a landmark."""

    def __init__(self, capacity: int, half_lives_s: list[float], device: torch.device) -> None:
        self.half_lives_s = [*half_lives_s, math.inf]
        self.landmark = Landmark(self.half_lives_s, device)
        self.counts_HI = zeros(len(self.half_lives_s), capacity + 1, device=device)
        self.totals_H = torch.zeros(len(self.half_lives_s), device=device)

    def update(self, item_B: Tensor, time_B: Tensor, weight_B: Tensor, newest_s: float) -> None:
        """Count a batch of events; weight 0 and row 0 count for nothing. ``newest_s`` is the largest time."""
        factors = self.landmark.rebase(newest_s)
        if factors is not None:
            factors_H = torch.tensor(factors, device=self.counts_HI.device)
            self.counts_HI *= factors_H[:, None]
            self.totals_H *= factors_H
        weights_HB = self.landmark.weights(time_B) * (weight_B * (item_B > 0))
        self.counts_HI.index_add_(1, item_B, weights_HB)
        self.totals_H += weights_HB.sum(1)

    def forget_items(self, rows: list[int]) -> None:
        """Items whose rows were retired leave the counts and the totals."""
        rows_R = torch.tensor(rows, dtype=torch.int64, device=self.counts_HI.device)
        self.counts_HI[:, rows_R] = 0.0
        # Summed anew: a difference of floats leaves a rest, and a rest is a share that no item has.
        self.totals_H = self.counts_HI.sum(1)

    def state(self, num_rows: int) -> dict[str, Any]:
        """All of it for item rows below ``num_rows``."""
        return {
            "counts": self.counts_HI[:, :num_rows].clone(),
            "totals": self.totals_H.clone(),
            "landmark_s": self.landmark.time_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self.counts_HI.zero_()
        self.counts_HI[:, : state["counts"].shape[1]] = state["counts"].to(self.counts_HI.device)
        self.totals_H.copy_(state["totals"])
        self.landmark.time_s = state["landmark_s"]
