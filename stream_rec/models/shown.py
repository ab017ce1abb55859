"""Puts a given list in order: what each place is worth by itself, and what a small network makes of what stands there.

It starts as the order shown, and learns to depart from it.

Shapes: B = moments, K = places of a list (the first stands for taking nothing), F = features of an item,
X = features of the moment.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.blend import history_class
from stream_rec.models.weighing import Weighing


class ShownOrder(nn.Module):
    """Scores [B, K] = offset + w[class] · features + MLP(features, moment); of taking nothing, the offset alone."""

    def __init__(self, num_features: int, num_moment_features: int) -> None:
        super().__init__()
        self.weighing = Weighing(num_features, num_moment_features)

    def forward(self, offset_BK: Tensor, features_BKF: Tensor, moment_BX: Tensor, length_B: Tensor) -> Tensor:
        """[B, K] scores; features standardised. A score where the offset is -inf is -inf."""
        weighed_BK = self.weighing(features_BKF, moment_BX, history_class(length_B))
        # Nothing has no features of its own: what it is worth is how often a list is left alone.
        is_item_K = torch.arange(offset_BK.shape[1], device=offset_BK.device) > 0
        scores_BK: Tensor = offset_BK + weighed_BK * is_item_K
        return scores_BK
