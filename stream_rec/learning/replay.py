"""Exams of the second stage, and a buffer of old ones to learn from again.

A stream shows each moment once, in bursts of like ones. Learning from old ones besides (experience replay, Lin 1992)
keeps the second stage from following each burst. Candidates and features are kept as they were at their time: no state
could give them again.

Shapes: B = moments, K = candidates, F = features of a candidate, X = features of the moment, C = capacity.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stream_rec.state.allocation import zeros


@dataclass
class Exams:
    """Moments with their candidates, and which of them was taken."""

    first_BK: Tensor  # first stage's score; -inf in empty places
    features_BKF: Tensor  # as they are, not standardised: scales move on
    moment_BX: Tensor
    length_B: Tensor  # of the history, int64
    is_target_BK: Tensor
    weight_B: Tensor


class ReplayBuffer:
    """The newest exams as a ring, in half precision: 2 · K · F bytes an event."""

    def __init__(
        self, capacity: int, num_candidates: int, num_features: int, num_moment_features: int, device: torch.device
    ) -> None:
        def room(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
            return zeros(capacity, *shape, dtype=dtype, device=device)

        self.capacity = capacity
        self._num_ever = 0
        self._ring = Exams(
            first_BK=room(num_candidates),
            features_BKF=room(num_candidates, num_features),
            moment_BX=room(num_moment_features),
            length_B=room(dtype=torch.int32),
            is_target_BK=room(num_candidates, dtype=torch.uint8),
            weight_B=room(dtype=torch.float32),
        )

    def __len__(self) -> int:
        return min(self._num_ever, self.capacity)

    def draw(self, num_events: int, seed: int, batch: int) -> Exams | None:
        """Exams drawn uniformly, with replacement; None while there are none. Follows from seed and batch alone."""
        if not len(self):
            return None
        rng = np.random.Generator(np.random.Philox(key=[seed, batch]))
        drawn = rng.integers(0, len(self), num_events)
        rows_B = torch.from_numpy(drawn).to(self._ring.weight_B.device, non_blocking=True)
        ring = self._ring
        return Exams(
            first_BK=ring.first_BK[rows_B].float(),
            features_BKF=ring.features_BKF[rows_B].float(),
            moment_BX=ring.moment_BX[rows_B].float(),
            length_B=ring.length_B[rows_B].long(),
            is_target_BK=ring.is_target_BK[rows_B].bool(),
            weight_B=ring.weight_B[rows_B],
        )

    def add(self, exams: Exams) -> None:
        """Take in a batch; of a batch larger than the ring its newest."""
        num_new = exams.weight_B.shape[0]
        newest = slice(max(0, num_new - self.capacity), None)
        places = np.arange(self._num_ever, self._num_ever + num_new)[newest] % self.capacity
        places_B = torch.from_numpy(places).to(exams.weight_B.device, non_blocking=True)
        num_candidates = exams.first_BK.shape[1]
        # A young catalogue has fewer candidates than there is room for: the rest is empty.
        self._ring.first_BK[places_B] = float("-inf")
        self._ring.is_target_BK[places_B] = 0
        self._ring.first_BK[places_B, :num_candidates] = exams.first_BK[newest].half()
        self._ring.is_target_BK[places_B, :num_candidates] = exams.is_target_BK[newest].to(torch.uint8)
        self._ring.features_BKF[places_B, :num_candidates] = exams.features_BKF[newest].half()
        self._ring.moment_BX[places_B] = exams.moment_BX[newest].half()
        self._ring.length_B[places_B] = exams.length_B[newest].int()
        self._ring.weight_B[places_B] = exams.weight_B[newest]
        self._num_ever += num_new

    def state(self) -> dict[str, Any]:
        """What it holds."""
        held = {field.name: getattr(self._ring, field.name)[: len(self)].clone() for field in fields(Exams)}
        return {"num_ever": self._num_ever, **held}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._num_ever = state["num_ever"]
        for field in fields(Exams):
            table = getattr(self._ring, field.name)
            table.zero_()
            table[: len(self)] = state[field.name].to(table.device)
