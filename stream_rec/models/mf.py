"""Matrix factorisation with implicit feedback (SVD++, Koren, KDD 2008): a user's vector times an item's.

A user is a vector of his own plus what he has touched, so that one who is new has a query from his second event on.

Shapes: B = moments, D = dimension.
"""

from __future__ import annotations

from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import FACTOR_SCALE, taste


class FactorEncoder(Encoder):
    """Knows who it is, not when nor in which order."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.scales = nn.Embedding(1, dimension)  # of the factors
        nn.init.constant_(self.scales.weight, FACTOR_SCALE)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        queries_BD: Tensor = taste(inputs) * self.scales.weight[0]
        return queries_BD
