"""Puts a given list in order: what each place is worth by itself, and what a small network makes of what stands there.

It starts as the order shown, and learns to depart from it.

Shapes: B = moments, K = places of a list (the first stands for taking nothing), F = features of an item,
X = features of the moment.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.blend import NUM_CLASSES, history_class

HIDDEN = 64


class ShownOrder(nn.Module):
    """Scores [B, K] = offset + w[class] · features + MLP(features, moment); of taking nothing, the offset alone."""

    def __init__(self, num_features: int, num_moment_features: int) -> None:
        super().__init__()
        self.num_features, self.num_moment_features = num_features, num_moment_features
        self.straight = nn.Embedding(NUM_CLASSES, num_features)
        nn.init.zeros_(self.straight.weight)
        self.from_moment = nn.Linear(num_moment_features, HIDDEN)
        self.from_item = nn.Linear(num_features, HIDDEN, bias=False)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, offset_BK: Tensor, features_BKF: Tensor, moment_BX: Tensor, length_B: Tensor) -> Tensor:
        """[B, K] scores; features standardised. A score where the offset is -inf is -inf."""
        hidden_BKH = F.relu(self.from_item(features_BKF) + self.from_moment(moment_BX)[:, None, :])
        learnt_BK = self.output(F.relu(self.hidden(hidden_BKH))).squeeze(2)
        straight_BK = torch.einsum("bkf,bf->bk", features_BKF, self.straight(history_class(length_B)))
        # Nothing has no features of its own: what it is worth is how often a list is left alone.
        is_item_K = torch.arange(offset_BK.shape[1], device=offset_BK.device) > 0
        scores_BK: Tensor = offset_BK + (straight_BK + learnt_BK) * is_item_K
        return scores_BK
