"""What a few items of a moment are worth beside each other: a weighted sum of their features and a small network.

Shapes: B = moments, K = items, F = features of an item, X = features of the moment, L = history classes, H = hidden
units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.blend import NUM_CLASSES

HIDDEN = 64


class Weighing(nn.Module):
    """[B, K] w[class] · features + MLP(features, moment); 0 for all at the start."""

    def __init__(self, num_features: int, num_moment_features: int) -> None:
        super().__init__()
        self.straight = nn.Embedding(NUM_CLASSES, num_features)
        nn.init.zeros_(self.straight.weight)
        self.from_moment = nn.Linear(num_moment_features, HIDDEN)
        self.from_item = nn.Linear(num_features, HIDDEN, bias=False)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(
        self, features_BKF: Tensor, moment_BX: Tensor, class_B: Tensor, more_BKH: Tensor | None = None
    ) -> Tensor:
        """[B, K]; features standardised. ``more_BKH`` is added before the first activation."""
        linear_BKH = self.from_item(features_BKF) + self.from_moment(moment_BX)[:, None, :]
        if more_BKH is not None:
            linear_BKH = linear_BKH + more_BKH
        learnt_BK: Tensor = self.output(F.relu(self.hidden(F.relu(linear_BKH)))).squeeze(2)
        return torch.einsum("bkf,bf->bk", features_BKF, self.straight(class_B)) + learnt_BK
