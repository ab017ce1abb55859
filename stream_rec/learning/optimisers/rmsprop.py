"""RMSprop (Tieleman & Hinton 2012): steps measured by the gradients of late.

Shapes: R = rows of a working set, W = width, P = all parameters of a module, flat.
"""

from __future__ import annotations

from torch import Tensor

from stream_rec.learning.optimisers.base import DenseOptimiser, Rate, RowOptimiser, Rows, remember
from stream_rec.models.items import RowTable

DECAY, EPSILON = 0.99, 1e-8


class RowRMSprop(RowOptimiser):
    """Row-wise: one mean square a row, over the gradients that touched it."""

    def _move(
        self, table: RowTable, rows_R: Rows, grad_RW: Tensor, square_R: Tensor, touched_R: Tensor, rate: Rate
    ) -> Tensor:
        square_I = table.slot("mean_square")
        old_R = square_I[rows_R]
        new_R = DECAY * old_R + (1 - DECAY) * square_R
        remember(square_I, rows_R, touched_R, new_R, old_R)
        return grad_RW * (rate / (new_R.sqrt() + EPSILON))[:, None]


class RMSprop(DenseOptimiser):
    """One mean square a parameter; weight decay is an L2 term in the gradient."""

    slots = ("mean_square",)

    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        grad_P = grad_P + self._weight_decay * self.flat_P
        square_P = DECAY * self._slots["mean_square"] + (1 - DECAY) * grad_P.square()
        return rate * grad_P / (square_P.sqrt() + EPSILON), {"mean_square": square_P}
