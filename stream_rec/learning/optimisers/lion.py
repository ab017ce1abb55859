"""Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms"): only signs, and half of Adam's memory.

Shapes: P = all parameters of a module, flat.
"""

from __future__ import annotations

from torch import Tensor

from stream_rec.learning.optimisers.base import DenseOptimiser, Rate

BETA_STEP, BETA_MEAN = 0.9, 0.99


class Lion(DenseOptimiser):
    """Every parameter moves by the whole rate, so the rate wants to be 3 to 10 times below AdamW's.

    Weight decay is decoupled.
    """

    slots = ("mean",)

    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        mean_P = self._slots["mean"]
        sign_P = mean_P.lerp(grad_P, 1 - BETA_STEP).sign()
        return rate * (sign_P + self._weight_decay * self.flat_P), {"mean": mean_P.lerp(grad_P, 1 - BETA_MEAN)}
