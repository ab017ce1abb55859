"""No architecture: the query is zero, so that an item's logit is its bias. What the statistics say by themselves.

For ablations: the difference to it is what an encoder is worth.

Shapes: B = moments, D = dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs


class NoEncoder(Encoder):
    """Reads nothing and learns nothing."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        # Of no element: optimisers and snapshots need no case of their own for a module without parameters.
        self.nothing = nn.Embedding(0, dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] zeros."""
        return torch.zeros_like(inputs.users_BD)
