"""Stochastic gradient descent (Robbins & Monro 1951), on dense parameters with momentum (Polyak 1964).

Shapes: R = rows of a working set, W = width, P = all parameters of a module, flat.
"""

from __future__ import annotations

from torch import Tensor

from stream_rec.learning.optimisers.base import DenseOptimiser, Rate, RowOptimiser, Rows
from stream_rec.models.items import RowTable

MOMENTUM = 0.9


class RowSGD(RowOptimiser):
    """Without momentum: it would have to move rows on that no gradient has touched."""

    def _move(
        self, table: RowTable, rows_R: Rows, grad_RW: Tensor, square_R: Tensor, touched_R: Tensor, rate: Rate
    ) -> Tensor:
        return rate * grad_RW


class SGD(DenseOptimiser):
    """With momentum; weight decay is an L2 term in the gradient."""

    slots = ("velocity",)

    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        grad_P = grad_P + self._weight_decay * self.flat_P
        velocity_P = MOMENTUM * self._slots["velocity"] + grad_P
        return rate * velocity_P, {"velocity": velocity_P}
