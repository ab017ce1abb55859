"""Exams of the second stage, and a buffer of old ones to learn from again.

A stream shows each moment once, in bursts of like ones. Learning from old ones besides (experience replay, Lin 1992)
keeps the second stage from following each burst. Candidates and features are kept as they were at their time: no state
could give them again.

Shapes: B = moments, K = candidates, N = history length, C = capacity; the rest as ``Candidates`` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stream_rec.models.candidates import Candidates
from stream_rec.models.history_attention import NUM_PAST_FEATURES, PAIRS
from stream_rec.state.allocation import zeros


@dataclass
class Exams:
    """Moments with their candidates, and which of them was taken."""

    candidates: Candidates
    is_target_BK: Tensor
    weight_B: Tensor


class ReplayBuffer:
    """The newest exams as a ring, in half precision: 2 · K · (F + P) bytes an event and some more."""

    def __init__(
        self,
        capacity: int,
        *,
        num_candidates: int,
        num_features: int,
        num_moment_features: int,
        history_length: int,
        attends: bool = True,
        device: torch.device,
    ) -> None:
        def room(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
            return zeros(capacity, *shape, dtype=dtype, device=device)

        self.capacity = capacity
        self._num_ever = 0
        self._ring = {
            "first_BK": room(num_candidates),
            "features_BKF": room(num_candidates, num_features),
            "moment_BX": room(num_moment_features),
            "length_B": room(dtype=torch.int32),
            "pairs_BKP": room(num_candidates, sum(PAIRS.values()) if attends else 0),
            "past_BNY": room(history_length, NUM_PAST_FEATURES if attends else 0),
            "types_BN": room(history_length, dtype=torch.uint8),
            "values_BN": room(history_length, dtype=torch.uint8),
            "place_BN": room(history_length, dtype=torch.int16),
            "is_target_BK": room(num_candidates, dtype=torch.uint8),
            "weight_B": room(dtype=torch.float32),
        }

    def __len__(self) -> int:
        return min(self._num_ever, self.capacity)

    def draw(self, num_events: int, seed: int, batch: int) -> Exams | None:
        """Exams drawn uniformly, with replacement; None while there are none. Follows from seed and batch alone."""
        if not len(self):
            return None
        rng = np.random.Generator(np.random.Philox(key=[seed, batch]))
        drawn = rng.integers(0, len(self), num_events)
        rows_B = torch.from_numpy(drawn).to(self._ring["weight_B"].device, non_blocking=True)
        held = {name: table[rows_B] for name, table in self._ring.items()}
        held = {name: each.float() if each.is_floating_point() else each.long() for name, each in held.items()}
        is_target_BK, weight_B = held.pop("is_target_BK").bool(), held.pop("weight_B")
        return Exams(Candidates(**held), is_target_BK, weight_B)

    def add(self, exams: Exams) -> None:
        """Take in a batch; of a batch larger than the ring its newest."""
        num_new = exams.weight_B.shape[0]
        newest = slice(max(0, num_new - self.capacity), None)
        places = np.arange(self._num_ever, self._num_ever + num_new)[newest] % self.capacity
        places_B = torch.from_numpy(places).to(exams.weight_B.device, non_blocking=True)
        # A young catalogue has fewer candidates than there is room for: the rest is empty.
        self._ring["first_BK"][places_B] = float("-inf")
        self._ring["is_target_BK"][places_B] = 0
        held = {**vars(exams.candidates), "is_target_BK": exams.is_target_BK, "weight_B": exams.weight_B}
        num_candidates = exams.is_target_BK.shape[1]
        for name, table in self._ring.items():
            given = held[name][newest].to(table.dtype)
            if "_BK" in name:
                table[places_B, :num_candidates] = given
            else:
                table[places_B] = given
        self._num_ever += num_new

    def state(self) -> dict[str, Any]:
        """What it holds."""
        return {"num_ever": self._num_ever, **{name: table[: len(self)].clone() for name, table in self._ring.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._num_ever = state["num_ever"]
        for name, table in self._ring.items():
            table.zero_()
            table[: len(self)] = state[name].to(table.device)
