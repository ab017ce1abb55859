"""Shared negatives of a batch: uniform ones, ones by recent popularity, and the batch's own items.

How likely an item was to be drawn is known, so that the softmax over the sample can be corrected (logQ, Bengio &
Senécal 2008; Yi et al., RecSys 2019).

Shapes: I = item rows, C = sampled columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stream_rec.state.vocabulary import Rows

NUM_RECENT = 65_536


class NegativeSampler:
    """Draws by a counter: the same seed and batch number give the same negatives."""

    def __init__(self, max_items: int, *, num_uniform: int, num_popular: int, seed: int, device: torch.device) -> None:
        self._num_uniform = num_uniform
        self._num_popular = num_popular
        self._seed = seed
        self._device = device
        # The items of the newest events, as a ring: drawing from it is drawing by recent popularity.
        self._recent = np.zeros(NUM_RECENT, dtype=np.int32)
        self._num_ever = 0
        self._count_I = np.zeros(max_items + 1, dtype=np.int32)

    def observe(self, items: Rows) -> None:
        """Events of a batch join the ring."""
        items = items[items > 0][-NUM_RECENT:]
        slots = (self._num_ever + np.arange(len(items))) % NUM_RECENT
        np.subtract.at(self._count_I, self._recent[slots], 1)
        self._recent[slots] = items
        np.add.at(self._count_I, items, 1)
        self._count_I[0] = 0  # places that hold nobody are not counted: a resumed ring has more of them
        self._num_ever += len(items)

    def forget_items(self, rows: list[int]) -> None:
        """Retired rows leave the ring: their places hold row 0, which is never a candidate."""
        self._recent[np.isin(self._recent, rows)] = 0
        self._count_I[rows] = 0

    def draw(self, batch: int, num_rows: int, own: Rows) -> tuple[Tensor, Tensor]:
        """Distinct item rows [C], sorted, row 0 first, and the log of how likely each was to be among them.

        ``own`` are the batch's items; ``num_rows`` bounds the uniform draw (rows 1 … num_rows - 1).
        """
        rng = np.random.Generator(np.random.Philox(key=[self._seed, batch]))
        uniform = rng.integers(1, max(num_rows, 2), self._num_uniform)
        num_recent = min(self._num_ever, NUM_RECENT)
        popular = self._recent[rng.integers(0, num_recent, self._num_popular)] if num_recent else uniform[:0]
        columns = np.unique(np.concatenate([[0], uniform, popular, own]))
        share_C = self._count_I[columns] / max(num_recent, 1)
        expected_C = self._num_uniform / max(num_rows - 1, 1) + (self._num_popular + len(own)) * share_C
        # A batch's own item is in the sample for sure, but whose turn it is, is chance: the expectation stands for it.
        log_chance_C = np.log(-np.expm1(-np.maximum(expected_C, 1e-9)))
        return (
            torch.from_numpy(columns.astype(np.int64)).to(self._device),
            torch.from_numpy(log_chance_C.astype(np.float32)).to(self._device),
        )

    def state(self) -> dict[str, Any]:
        """The ring; the counts follow from it."""
        return {"recent": self._recent[: min(self._num_ever, NUM_RECENT)].copy(), "num_ever": self._num_ever}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._recent[:] = 0
        self._recent[: len(state["recent"])] = state["recent"]
        self._num_ever = state["num_ever"]
        self._count_I[:] = np.bincount(self._recent, minlength=len(self._count_I))
        self._count_I[0] = 0
