"""Optimisers that can leave a step out without asking the device whether to: ``sound`` is a tensor.

Shapes: R = rows, W = width, P = all parameters of a module, flat.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stream_rec.models.items import RowTable


def step_rows(
    table: RowTable, rows_R: Tensor | slice, grad_RW: Tensor, sound: Tensor, *, rate: float, retention: float
) -> None:
    """Row-wise Adagrad (as DLRM's embedding tables, Naumov et al. 2019), with accumulators that forget.

    ``retention`` multiplies a row's accumulator at each touch: after a drift, rows that have learnt for long can
    move again. ``rows_R`` must not repeat a row, save row 0: its first gradient counts, the others are fillers. Rows
    whose gradient is zero are left exactly as they are.
    """
    if isinstance(rows_R, Tensor):
        # Which of several writes to one row stays is undefined on an accelerator: let all of them write the same.
        grad_RW = torch.where(rows_R[:, None] > 0, grad_RW, grad_RW[:1])
    square_R = grad_RW.square().mean(1)
    touched_R = sound & (square_R > 0)
    old_R = table.accumulator_I[rows_R]
    new_R = torch.where(touched_R, old_R * retention + square_R, old_R)
    table.accumulator_I[rows_R] = new_R
    scale_R = torch.where(touched_R, rate * new_R.rsqrt(), 0.0)
    # Not grad * 0: a non-finite gradient times zero would still poison the row.
    step_RW = torch.where(touched_R[:, None], grad_RW * scale_R[:, None], 0.0)
    table.weight_IW[rows_R] -= step_RW


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) over one flat copy of a module's parameters.

    The module's parameters become views of ``flat_P``, so a step is a handful of kernels whatever their number.
    """

    def __init__(self, module: nn.Module, *, weight_decay: float) -> None:
        self.parameters = list(module.parameters())
        self._weight_decay = weight_decay
        self.flat_P = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        start = 0
        for parameter in self.parameters:
            end = start + parameter.numel()
            parameter.data = self.flat_P[start:end].view(parameter.shape)
            start = end
        self._mean_P = torch.zeros_like(self.flat_P)
        self._square_P = torch.zeros_like(self.flat_P)
        self._num_steps = torch.zeros((), device=self.flat_P.device)

    def step(self, grad_P: Tensor, sound: Tensor, *, rate: float) -> None:
        """One step where ``sound``, else none: parameters, moments and the step count stay as they were."""
        beta_mean, beta_square = 0.9, 0.999
        num_steps = self._num_steps + 1
        mean_P = self._mean_P.lerp(grad_P, 1 - beta_mean)
        square_P = self._square_P * beta_square + grad_P.square() * (1 - beta_square)
        denominator_P = (square_P / (1 - beta_square**num_steps)).sqrt() + 1e-8
        step_P = rate * (mean_P / (1 - beta_mean**num_steps) / denominator_P + self._weight_decay * self.flat_P)
        self.flat_P.copy_(torch.where(sound, self.flat_P - step_P, self.flat_P))
        self._mean_P = torch.where(sound, mean_P, self._mean_P)
        self._square_P = torch.where(sound, square_P, self._square_P)
        self._num_steps = torch.where(sound, num_steps, self._num_steps)

    def state(self) -> dict[str, Any]:
        """Parameters and moments."""
        return {
            "parameters": self.flat_P.clone(),
            "mean": self._mean_P.clone(),
            "square": self._square_P.clone(),
            "num_steps": self._num_steps.clone(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``. Raises ValueError where the shapes are another model's."""
        if state["parameters"].shape != self.flat_P.shape:
            raise ValueError(f"{state['parameters'].numel()} parameters where the model has {self.flat_P.numel()}")
        self.flat_P.copy_(state["parameters"])
        self._mean_P.copy_(state["mean"])
        self._square_P.copy_(state["square"])
        self._num_steps.copy_(state["num_steps"])
