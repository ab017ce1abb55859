"""BERT4Rec (Sun et al., CIKM 2019): self-attention in both directions, masked items are told from what is around them.

The moment to be predicted is a mask, too, the newest of all; with user, hour and context it makes the query. The mask
learns from the history besides: a few of its items are hidden, and what they were is to be said.

Shapes: B = moments, N = history length (newest first), T = N + 1 tokens (the first is the mask of now), D = dimension,
R = every EVERY-th moment, X = items hidden of each, E = R · X.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, PastReader, gap_bucket, start_tables
from stream_rec.models.self_attention import SelfAttentionStack
from stream_rec.models.transformer import every

EVERY = 2  # a pass of its own is needed for hidden items: half a batch a time


class MaskedEncoder(Encoder):
    """The outcome of the mask of now is the query."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.mask = nn.Embedding(1, dimension)
        self.positions = nn.Embedding(history_length + 1, dimension)
        start_tables(self)
        self.past = PastReader(dimension, num_context_buckets)
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.stack = SelfAttentionStack(dimension, num_layers, num_heads, history_length + 1, causal=False)
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        past_BND = self.past(inputs, inputs.gaps_BN)
        now_B1 = torch.zeros(len(past_BND), 1, dtype=torch.int64, device=past_BND.device)
        return self._outcomes(inputs, past_BND, now_B1)[:, 0]

    def _outcomes(self, inputs: Inputs, past_BND: Tensor, asked_BQ: Tensor) -> Tensor:
        now_B1D = (self.mask.weight + self.moment(inputs))[:, None]
        mask_BT = F.pad(inputs.items_BN > 0, (1, 0), value=True)
        tokens_BTD = torch.cat([now_B1D, past_BND], dim=1)
        place_T = torch.arange(tokens_BTD.shape[1], device=tokens_BTD.device)
        # Now is always the newest place, so that a place counted from it means something by itself, too.
        tokens_BTD = tokens_BTD + self.positions.weight[: len(place_T)]
        outcomes_BQD: Tensor = self.norm_out(self.stack(tokens_BTD, place_T, mask_BT, asked_BQ))
        return outcomes_BQD

    def extra_targets(self, inputs: Inputs, draws_BX: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """The hidden items of every EVERY-th history, drawn evenly from what it holds."""
        some = every(inputs, EVERY)
        place_RX = (draws_BX[::EVERY] * some.lengths_B[:, None]).long()  # a draw is below 1: within the history
        hidden_RN = torch.zeros_like(some.items_BN, dtype=torch.bool).scatter_(1, place_RX, True)
        # How long ago it was is all that a mask knows: type, situation and value may give the item away.
        mask_RND = self.mask.weight + self.past.gaps(gap_bucket(some.gaps_BN))
        past_RND = torch.where(hidden_RN[:, :, None], mask_RND, self.past(some, some.gaps_BN))
        queries_RXD = self._outcomes(some, past_RND, 1 + place_RX)
        targets_RX = some.items_BN.gather(1, place_RX)
        return queries_RXD.flatten(0, 1), targets_RX.flatten(), (targets_RX > 0).float().flatten()
