"""Neural collaborative filtering (NeuMF, He et al., WWW 2017): a factorisation and an MLP over the pair, side by side.

The first part, GMF, is h · (user ⊙ item): an inner product, which makes the query and ranks a whole catalogue. The
second, the MLP over user and item together, is none: it is ``interact``, asked for few candidates at a time.

Shapes: B = moments, K = candidates per moment, D = dimension, H = hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import FACTOR_SCALE, taste


class NeuralFactorEncoder(Encoder):
    """GMF as the query, the MLP as the interaction; the tower narrows by half a layer."""

    interacts = True

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.scales = nn.Embedding(1, dimension)
        nn.init.constant_(self.scales.weight, FACTOR_SCALE)  # the h of GMF
        # The first layer over [user, item], as a sum of two: what it says of the user is computed once, not K times.
        self.of_user = nn.Linear(dimension, dimension)
        self.of_item = nn.Linear(dimension, dimension, bias=False)
        tower: list[nn.Module] = []
        width = dimension
        for _ in range(num_layers - 1):
            narrower = max(8, width // 2)
            tower += [nn.ReLU(), nn.Linear(width, narrower)]
            width = narrower
        self.tower = nn.Sequential(*tower, nn.ReLU(), nn.Linear(width, 1))

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        queries_BD: Tensor = taste(inputs) * self.scales.weight[0]
        return queries_BD

    def interact(self, inputs: Inputs, query_BD: Tensor, candidates_BKD: Tensor) -> Tensor:
        """[B, K] what the MLP says of user and candidate together."""
        hidden_BKH = torch.unsqueeze(self.of_user(taste(inputs)), 1) + self.of_item(candidates_BKD)
        logits_BK: Tensor = self.tower(hidden_BKH)[..., 0]
        return logits_BK
