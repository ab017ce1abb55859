"""Adagrad (Duchi, Hazan & Singer 2011): a step shrinks with all that has been moved before.

Shapes: I = rows of a table, R = rows of a working set, W = width, P = all parameters of a module, flat.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stream_rec.learning.optimisers.base import DenseOptimiser, Rate, RowOptimiser, Rows, remember
from stream_rec.models.items import RowTable


class RowAdagrad(RowOptimiser):
    """Row-wise Adagrad (as DLRM's embedding tables, Naumov et al. 2019), with accumulators that forget.

    ``retention`` multiplies a row's accumulator at each touch: after a drift, rows that have learnt for long can
    move again.
    """

    accumulates = True

    def __init__(self, *, l2: float = 0.0, retention: float) -> None:
        super().__init__(l2=l2)
        self._retention = retention

    def _move(
        self, table: RowTable, rows_R: Rows, grad_RW: Tensor, square_R: Tensor, touched_R: Tensor, rate: Rate
    ) -> Tensor:
        old_R = table.accumulator_I[rows_R]
        new_R = old_R * self._retention + square_R
        remember(table.accumulator_I, rows_R, touched_R, new_R, old_R)
        return grad_RW * (rate * new_R.rsqrt())[:, None]


class Adagrad(DenseOptimiser):
    """Adagrad without forgetting; weight decay is an L2 term in the gradient."""

    slots = ("square_sum",)

    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        grad_P = grad_P + self._weight_decay * self.flat_P
        sum_P = torch.addcmul(self._slots["square_sum"], grad_P, grad_P)
        return rate * grad_P / (sum_P.sqrt() + 1e-10), {"square_sum": sum_P}
