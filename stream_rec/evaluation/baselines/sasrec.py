"""SASRec, plain and online (Kang & McAuley, ICDM 2018), with the full softmax that later work found it to need.

Shapes: B events of a batch, L places of a history, D dimensions, H heads, E dimensions of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.evaluation.baselines.online_network import OnlineNetwork, SequenceEncoder


class CausalBlock(nn.Module):
    """Self-attention that sees the past, then a two-layer network; both residual, norm first."""

    def __init__(self, dimension: int, num_heads: int) -> None:
        super().__init__()
        self._num_heads = num_heads
        self._norm_in = nn.LayerNorm(dimension)
        self._project = nn.Linear(dimension, 3 * dimension)
        self._out = nn.Linear(dimension, dimension)
        self._norm_forward = nn.LayerNorm(dimension)
        self._forward = nn.Sequential(nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension))

    def forward(self, inputs_BLD: Tensor) -> Tensor:
        """Outputs (B, L, D)."""
        num_events, length, dimension = inputs_BLD.shape
        split = (num_events, length, 3, self._num_heads, dimension // self._num_heads)
        query_BHLE, key_BHLE, value_BHLE = self._project(self._norm_in(inputs_BLD)).view(split).permute(2, 0, 3, 1, 4)
        read_BHLE = F.scaled_dot_product_attention(query_BHLE, key_BHLE, value_BHLE, is_causal=True)
        states_BLD = inputs_BLD + self._out(read_BHLE.transpose(1, 2).reshape(inputs_BLD.shape))
        outputs_BLD: Tensor = states_BLD + self._forward(self._norm_forward(states_BLD))
        return outputs_BLD


class SelfAttentionEncoder(SequenceEncoder):
    """Blocks over items and places, places counted back from the newest; its last output is the query."""

    def __init__(self, dimension: int, length: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self._places = nn.Parameter(torch.empty(length, dimension, device="cpu"))
        nn.init.normal_(self._places, std=0.02)
        self._blocks = nn.ModuleList(CausalBlock(dimension, num_heads) for _ in range(num_layers))
        self._norm = nn.LayerNorm(dimension)

    def forward(self, inputs_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """As ``SequenceEncoder``."""
        length = inputs_BLD.shape[1]
        back_BL = lengths_B[:, None] - 1 - torch.arange(length, device=inputs_BLD.device)
        states_BLD = inputs_BLD + F.embedding(back_BL.clamp(min=0), self._places)
        for block in self._blocks:
            states_BLD = block(states_BLD)
        last_B11 = (lengths_B - 1).view(-1, 1, 1)
        last_BD = states_BLD.gather(1, last_B11.expand(-1, 1, states_BLD.shape[2])).squeeze(1)
        queries_BD: Tensor = self._norm(last_BD)
        return queries_BD


class SasRec(OnlineNetwork):
    """Two blocks, tied embeddings, no biases. Dropout is left out: nothing is seen twice."""

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        seed: int = 1,
        dimension: int = 64,
        length: int = 50,
        num_layers: int = 2,
        num_heads: int = 2,
        rate: float = 0.003,
        batch_size: int = 256,
    ) -> None:
        # Weights are drawn under the seed, and what draws elsewhere goes on as if nothing had been drawn.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = SelfAttentionEncoder(dimension, length, num_layers, num_heads)
        super().__init__(
            "SASRec",
            encoder,
            max_users=max_users,
            max_items=max_items,
            dimension=dimension,
            length=length,
            rate=rate,
            has_bias=False,
            seed=seed,
            batch_size=batch_size,
        )
