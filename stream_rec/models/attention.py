"""Target attention over the history (DIN, Zhou et al., KDD 2018), with the moment to be predicted as the target.

In DIN every candidate attends over the history. To rank a whole catalogue that costs items × history for every
event, so here the query is what is known of the next interaction before the item is: the last item, the time, the
gap, the context. The candidate enters by an inner product with the result. Two layers let the second look at the
history in the light of what the first has found.

Shapes: B = moments, N = history length, D = dimension, H = heads, L = layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, PastReader, item_vectors_of, start_tables


class CrossAttention(nn.Module):
    """One layer: the query token reads the keys, then an MLP. Pre-norm, residual."""

    def __init__(self, dimension: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_query = nn.LayerNorm(dimension)
        self.norm_mlp = nn.LayerNorm(dimension)
        self.to_query = nn.Linear(dimension, dimension)
        self.to_output = nn.Linear(dimension, dimension)
        self.mlp = nn.Sequential(
            nn.Linear(dimension, 2 * dimension), nn.GELU(approximate="tanh"), nn.Linear(2 * dimension, dimension)
        )

    def forward(self, token_BD: Tensor, keys_BND: Tensor, values_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """[B, D]"""
        num_moments, _, dimension = keys_BND.shape
        split = (num_moments, -1, self.num_heads, dimension // self.num_heads)
        query_BH1d = self.to_query(self.norm_query(token_BD)).view(split).transpose(1, 2)
        keys_BHNd = keys_BND.view(split).transpose(1, 2)
        values_BHNd = values_BND.view(split).transpose(1, 2)
        mask_B11N = mask_BN[:, None, None, :]
        read_BH1d = F.scaled_dot_product_attention(query_BH1d, keys_BHNd, values_BHNd, attn_mask=mask_B11N)
        token_BD = token_BD + self.to_output(read_BH1d.transpose(1, 2).reshape(num_moments, dimension))
        mixed_BD: Tensor = token_BD + self.mlp(self.norm_mlp(token_BD))
        return mixed_BD


class AttentionEncoder(Encoder):
    """The default encoder."""

    def __init__(
        self,
        *,
        dimension: int,
        history_length: int,
        num_layers: int,
        num_heads: int,
        num_context_buckets: int,
    ) -> None:
        super().__init__()
        self.positions = nn.Embedding(history_length + 1, dimension)  # the last one is the empty key
        start_tables(self)
        self.past = PastReader(dimension, num_context_buckets)
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.norm_keys = nn.LayerNorm(dimension)
        self.to_keys_values = nn.Linear(dimension, 2 * num_layers * dimension)
        self.layers = nn.ModuleList(CrossAttention(dimension, num_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        num_moments, length = inputs.items_BN.shape
        keys_BND = self.past(inputs, inputs.gaps_BN) + self.positions.weight[None, :length]
        # One key more that is always there, so that an empty history attends to something: no 0/0 in the softmax.
        empty_B1D = self.positions.weight[-1].expand(num_moments, 1, -1)
        keys_BND = self.norm_keys(torch.cat([keys_BND, empty_B1D], dim=1))
        mask_BN = F.pad(inputs.items_BN > 0, (0, 1), value=True)
        token_BD = item_vectors_of(inputs)[:, 0] + self.moment(inputs)
        keys_values = self.to_keys_values(keys_BND).chunk(2 * len(self.layers), dim=-1)
        for index, layer in enumerate(self.layers):
            token_BD = layer(token_BD, keys_values[2 * index], keys_values[2 * index + 1], mask_BN)
        normed_BD: Tensor = self.norm_out(token_BD)
        return normed_BD
