"""Layers in which interactions attend to each other, by what they are and how many lie between them.

Shapes: B = moments, T = tokens (newest first), Q = tokens whose outcome is asked for, H = heads, D = dimension,
d = dimension of a head, F = distances.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Pre-norm attention and MLP, residual."""

    def __init__(self, dimension: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(dimension)
        self.norm_mlp = nn.LayerNorm(dimension)
        self.to_query = nn.Linear(dimension, dimension)
        self.to_keys_values = nn.Linear(dimension, 2 * dimension)
        self.to_output = nn.Linear(dimension, dimension)
        self.mlp = nn.Sequential(
            nn.Linear(dimension, 2 * dimension), nn.GELU(approximate="tanh"), nn.Linear(2 * dimension, dimension)
        )

    def forward(self, tokens_BTD: Tensor, asked_BQ: Tensor | None, bias_BHQT: Tensor) -> Tensor:
        """[B, Q, D] outcomes of the tokens asked for (places [B, Q]; None: all of them). ``bias_BHQT`` -inf: unseen."""
        num_moments, _, dimension = tokens_BTD.shape
        split = (num_moments, -1, self.num_heads, dimension // self.num_heads)
        normed_BTD = self.norm_attention(tokens_BTD)
        outcome_BQD, asking_BQD = tokens_BTD, normed_BTD
        if asked_BQ is not None:
            where_BQD = asked_BQ[:, :, None].expand(-1, -1, dimension)
            outcome_BQD, asking_BQD = tokens_BTD.gather(1, where_BQD), normed_BTD.gather(1, where_BQD)
        query_BHQd = self.to_query(asking_BQD).view(split).transpose(1, 2)
        keys_BTD, values_BTD = self.to_keys_values(normed_BTD).chunk(2, dim=-1)
        keys_BHTd, values_BHTd = keys_BTD.reshape(split).transpose(1, 2), values_BTD.reshape(split).transpose(1, 2)
        read_BHQd = F.scaled_dot_product_attention(query_BHQd, keys_BHTd, values_BHTd, attn_mask=bias_BHQT)
        outcome_BQD = outcome_BQD + self.to_output(read_BHQd.transpose(1, 2).reshape(outcome_BQD.shape))
        mixed_BQD: Tensor = outcome_BQD + self.mlp(self.norm_mlp(outcome_BQD))
        return mixed_BQD


class SelfAttentionStack(nn.Module):
    """Layers on top of each other. Positions enter as a bias by distance (T5, Raffel et al. 2020), one for each head.

    Histories slide: the place of an interaction from the end changes with every event, its distance to the next does
    not. What has been learnt of one prefix holds for all of them.
    """

    def __init__(self, dimension: int, num_layers: int, num_heads: int, max_tokens: int, *, causal: bool) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.causal = causal
        # Tokens enter as small as tables begin: what the layers find soon outweighs what a token was, and in a mask
        # that is all there is to know.
        self.distances = nn.Embedding(2 * max_tokens, num_heads)
        nn.init.normal_(self.distances.weight, std=0.02)
        self.layers = nn.ModuleList(SelfAttention(dimension, num_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, tokens_BTD: Tensor, place_T: Tensor, mask_BT: Tensor, asked_BQ: Tensor) -> Tensor:
        """[B, Q, D] outcomes of the tokens asked for; the last layer is computed for no others.

        ``place_T`` says where tokens stand in [0, max_tokens), the newest first. Those outside ``mask_BT`` are seen by
        none.
        """
        bias_HTT, hidden_TT = self._bias(place_T)
        unseen_BTT = hidden_TT | ~mask_BT[:, None, :]
        # A token that sees none (an empty slot) sees itself, or its softmax is 0/0; nobody reads what it becomes.
        unseen_BTT = unseen_BTT & ~torch.eye(tokens_BTD.shape[1], dtype=torch.bool, device=tokens_BTD.device)
        bias_BHTT = bias_HTT.masked_fill(unseen_BTT[:, None], float("-inf"))
        for layer in self.layers[:-1]:
            tokens_BTD = layer(tokens_BTD, None, bias_BHTT)
        num_heads = bias_BHTT.shape[1]
        where_BHQT = asked_BQ[:, None, :, None].expand(-1, num_heads, -1, tokens_BTD.shape[1])
        outcome_BQD: Tensor = self.norm_out(self.layers[-1](tokens_BTD, asked_BQ, bias_BHTT.gather(2, where_BHQT)))
        return outcome_BQD

    def _bias(self, place_T: Tensor) -> tuple[Tensor, Tensor]:
        """[H, T, T] bias from token to token by distance, and [T, T] which ones may not be seen whatever they hold."""
        older_TT = place_T[None, :] - place_T[:, None]
        bias_HTT = self.distances(older_TT + self.max_tokens).permute(2, 0, 1)
        return bias_HTT, (older_TT < 0) & self.causal
