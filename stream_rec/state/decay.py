"""Forward decay (Cormode et al., ICDE 2009): exact exponential decay whose cost is one multiplication an event.

Counts are kept as they would look at a landmark time: an event at time t weighs 2^((t - landmark) / half-life).
Shares and orders are then right at any time without touching the other counts. The landmark moves on when
weights would leave the range of float32.

Shapes: H = half-lives, B = events of a batch. Times are seconds since the epoch, float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_EXPONENT = 40.0  # 2^40 times the smallest weight: sums over millions of events stay far below float32's 2^127
MIN_EXPONENT = -126.0


class Landmark:
    """The time at which an event weighs 1, for one or several half-lives (s; may be infinite)."""

    def __init__(self, half_lives_s: list[float], device: torch.device) -> None:
        self.time_s: float | None = None
        self._half_lives_s = half_lives_s
        self._half_lives_H = torch.tensor(half_lives_s, dtype=torch.float64, device=device)

    def rebase(self, newest_s: float) -> list[float] | None:
        """Move the landmark if ``newest_s`` is too far ahead; the factors to multiply the counts by, or None."""
        if self.time_s is None:
            self.time_s = newest_s
            return None
        ahead_s = newest_s - self.time_s
        if ahead_s / min(self._half_lives_s) <= MAX_EXPONENT:
            return None
        self.time_s = newest_s
        return [2.0 ** max(-ahead_s / half_life_s, -1000.0) for half_life_s in self._half_lives_s]

    def weights(self, time_B: Tensor) -> Tensor:
        """[H, B] what an event at ``time_B`` adds to the counts. Needs a landmark."""
        assert self.time_s is not None, "rebase comes first"
        exponent_HB = (time_B[None, :] - self.time_s) / self._half_lives_H[:, None]
        return torch.exp2(exponent_HB.clamp(MIN_EXPONENT, MAX_EXPONENT)).float()

    def discounts(self, time_B: Tensor) -> Tensor:
        """[H, B] what the counts must be multiplied by to be seen from ``time_B``; 1 from before the landmark."""
        landmark_s = self.time_s if self.time_s is not None else math.inf
        age_B = (time_B - landmark_s).clamp_min(0.0)
        return torch.exp2((-age_B[None, :] / self._half_lives_H[:, None]).clamp_min(MIN_EXPONENT)).float()

    def pairwise(self, time_B: Tensor, seen_from_B: Tensor) -> Tensor:
        """[H, B, B] what event j weighs when seen from ``seen_from_B[b]``; 0 unless j comes before b in the batch.

        In the frame of ``discounts(seen_from_B)``, also where that lies before the landmark. Exact if nothing that
        comes before b is newer than ``seen_from_B[b]``.
        """
        landmark_s = self.time_s if self.time_s is not None else -math.inf
        age_BB = (seen_from_B.clamp_min(landmark_s)[:, None] - time_B[None, :]).clamp_min(0.0)
        decayed_HBB = torch.exp2((-age_BB / self._half_lives_H[:, None, None]).clamp_min(MIN_EXPONENT)).float()
        return decayed_HBB.tril(-1)
