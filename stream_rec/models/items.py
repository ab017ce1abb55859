"""Item vectors: a row of its own for each item, plus the mean of its attributes' rows.

An item that nobody has touched has only its attributes, and with them a place among the others.

Shapes: I = item rows, F = attribute buckets, R = rows of a working set, A = attributes per item, W = width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stream_rec.state.allocation import zeros


class RowTable:
    """Rows of parameters with one Adagrad accumulator each, and whatever else an optimiser remembers of a row."""

    def __init__(
        self, num_rows: int, width: int, *, std: float, accumulator_start: float, device: torch.device
    ) -> None:
        self.weight_IW = zeros(num_rows, width, device=device)
        self.accumulator_I = torch.full((num_rows,), accumulator_start, device=device)
        self._std = std
        self._accumulator_start = accumulator_start
        self._slots: dict[str, Tensor] = {}

    def slot(self, name: str, width: int | None = None) -> Tensor:
        """What an optimiser remembers of each row under ``name``: [I], or [I, width] where there is a width.

        Made at the first call, zero at start, and gone with the row.
        """
        if name not in self._slots:
            shape = (len(self.accumulator_I),) if width is None else (len(self.accumulator_I), width)
            self._slots[name] = zeros(*shape, device=self.accumulator_I.device)
        return self._slots[name]

    def soften(self, num_rows: int, factor: float) -> None:
        """Accumulators of rows below ``num_rows`` times ``factor``, not below their start, so that rows move again.

        One that has decayed below its start already stays as it is.
        """
        accumulator_R = self.accumulator_I[:num_rows]
        lowered_R = (accumulator_R * factor).clamp_min(self._accumulator_start)
        accumulator_R.copy_(torch.minimum(accumulator_R, lowered_R))

    def reset(self, rows_R: Tensor, generator: torch.Generator) -> None:
        """Give rows to new owners: fresh values from the generator (a CPU one), accumulators and slots at the start."""
        shape = (rows_R.shape[0], self.weight_IW.shape[1])
        fresh_RW = torch.randn(shape, generator=generator, device=generator.device) * self._std
        self.weight_IW[rows_R] = fresh_RW.to(self.weight_IW.device)
        self.accumulator_I[rows_R] = self._accumulator_start
        for slot_I in self._slots.values():
            slot_I[rows_R] = 0.0

    def state(self, num_rows: int) -> dict[str, Any]:
        """Rows below ``num_rows``."""
        return {
            "weight": self.weight_IW[:num_rows].clone(),
            "accumulator": self.accumulator_I[:num_rows].clone(),
            "slots": {name: slot_I[:num_rows].clone() for name, slot_I in self._slots.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        num_rows = len(state["accumulator"])
        self.weight_IW[:num_rows] = state["weight"].to(self.weight_IW.device)
        self.accumulator_I[:num_rows] = state["accumulator"].to(self.accumulator_I.device)
        for name, stored_I in state["slots"].items():
            slot_I = self.slot(name, stored_I.shape[1] if stored_I.dim() > 1 else None)
            slot_I[:num_rows] = stored_I.to(slot_I.device)


def item_vectors(own_RW: Tensor, attributes_FW: Tensor, features_RA: Tensor) -> Tensor:
    """[R, W]: each item's own row plus the mean over its attributes; feature 0 is none."""
    if features_RA.shape[1] == 0:
        return own_RW
    bag_RW = F.embedding_bag(features_RA.long(), attributes_FW, mode="mean", padding_idx=0)
    return own_RW + bag_RW
