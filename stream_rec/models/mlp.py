"""Two towers (Covington et al., RecSys 2016): an MLP over what is known of the user on one side, items on the other.

The user's tower reads his vector and what he has touched, the last of it, and the moment. The item's is its
row plus its attributes, as for every encoder.

Shapes: B = moments, D = dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, item_vectors_of, taste


class TwoTowerEncoder(Encoder):
    """``num_layers`` hidden layers, each twice as wide as the query."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.norm_in = nn.LayerNorm(3 * dimension)
        tower: list[nn.Module] = []
        width = 3 * dimension
        for _ in range(num_layers):
            tower += [nn.Linear(width, 2 * dimension), nn.GELU(approximate="tanh")]
            width = 2 * dimension
        self.tower = nn.Sequential(*tower, nn.Linear(width, dimension))
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        moment_BD, taste_BD, last_BD = self.moment(inputs), taste(inputs), item_vectors_of(inputs)[:, 0]
        queries_BD: Tensor = self.tower(self.norm_in(torch.cat([moment_BD, taste_BD, last_BD], dim=1)))
        # The sum is a short cut: what a factorisation would say need not be learnt by the tower anew.
        normed_BD: Tensor = self.norm_out(queries_BD + moment_BD + taste_BD + last_BD)
        return normed_BD
