"""Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019): steps of like size for all parameters.

Shapes: I = rows of a table, R = rows of a working set, W = width, P = all parameters of a module, flat.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stream_rec.learning.optimisers.base import DenseOptimiser, Rate, RowOptimiser, Rows, remember
from stream_rec.models.items import RowTable

BETA_MEAN, BETA_SQUARE, EPSILON = 0.9, 0.999, 1e-8


def moments_and_direction(
    grad: Tensor, mean: Tensor, square: Tensor, num_steps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both moments after this gradient, and the direction of the step; the bias of the start is taken out."""
    mean = mean.lerp(grad, 1 - BETA_MEAN)
    square = square * BETA_SQUARE + grad.square() * (1 - BETA_SQUARE)
    denominator = (square / _weight_so_far(BETA_SQUARE, num_steps)).sqrt() + EPSILON
    return mean, square, mean / _weight_so_far(BETA_MEAN, num_steps) / denominator


def _weight_so_far(beta: float, num_steps: Tensor) -> Tensor:
    """1 - beta^num_steps, as float32 can say it: subtracting from 1 would be wrong by up to 6e-5 of it."""
    return -torch.expm1(num_steps * math.log(beta))


class RowAdam(RowOptimiser):
    """Lazy Adam: each row is an Adam of its own, which counts only the steps that touch the row.

    A count of all steps, as torch's SparseAdam has it, would correct no bias in a row that comes late: its first
    steps would be three times as large. Keeps two more tables of the same size.
    """

    def _move(
        self, table: RowTable, rows_R: Rows, grad_RW: Tensor, square_R: Tensor, touched_R: Tensor, rate: Rate
    ) -> Tensor:
        width = grad_RW.shape[1]
        mean_IW, square_IW = table.slot("mean", width), table.slot("square", width)
        num_steps_I = table.slot("num_steps")
        old_RW, old_square_RW, old_num_R = mean_IW[rows_R], square_IW[rows_R], num_steps_I[rows_R]
        num_R = old_num_R + 1
        mean_RW, square_RW, direction_RW = moments_and_direction(grad_RW, old_RW, old_square_RW, num_R[:, None])
        remember(mean_IW, rows_R, touched_R, mean_RW, old_RW)
        remember(square_IW, rows_R, touched_R, square_RW, old_square_RW)
        remember(num_steps_I, rows_R, touched_R, num_R, old_num_R)
        return rate * direction_RW


class Adam(DenseOptimiser):
    """Adam; weight decay is an L2 term in the gradient."""

    slots = ("mean", "square")

    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        grad_P = grad_P + self._weight_decay * self.flat_P
        mean_P, square_P, direction_P = moments_and_direction(
            grad_P, self._slots["mean"], self._slots["square"], num_steps
        )
        return rate * direction_P, {"mean": mean_P, "square": square_P}


class AdamW(DenseOptimiser):
    """Adam with decoupled weight decay: it shrinks all parameters alike, however large their gradients."""

    slots = ("mean", "square")

    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        mean_P, square_P, direction_P = moments_and_direction(
            grad_P, self._slots["mean"], self._slots["square"], num_steps
        )
        return rate * (direction_P + self._weight_decay * self.flat_P), {"mean": mean_P, "square": square_P}
