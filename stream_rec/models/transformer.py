"""SASRec (Kang & McAuley, ICDM 2018): causal self-attention over the history, every prefix predicts what followed it.

As there, but positions are distances (a history slides), and user, hour and context join the newest outcome: they are
known of this moment only, so prefixes do without.

Shapes: B = moments, N = history length (newest first), T = N + 1 tokens (the last stands before the history), D =
dimension, R = every EVERY-th moment, P = prefixes of each, E = R · P.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, PastReader, start_tables, steps_between
from stream_rec.models.self_attention import SelfAttentionStack

# Prefixes of one history share its pass through the layers: many of a few moments cost less than few of many.
EVERY = 4


class CausalEncoder(Encoder):
    """The newest outcome, with the moment, is the query."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.start = nn.Embedding(1, dimension)
        start_tables(self)
        self.past = PastReader(dimension, num_context_buckets)
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.stack = SelfAttentionStack(dimension, num_layers, num_heads, history_length + 1, causal=True)
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        # Tokens know how long before them the one before was, not how long ago they are: that is the future to them.
        mask_BT = F.pad(inputs.items_BN > 0, (0, 1), value=True)
        newest_B1 = mask_BT.int().argmax(1, keepdim=True)
        outcome_BD = self._outcomes(inputs, mask_BT, newest_B1)[:, 0]
        queries_BD: Tensor = self.norm_out(outcome_BD + self.moment(inputs))
        return queries_BD

    def _outcomes(self, inputs: Inputs, mask_BT: Tensor, asked_BQ: Tensor) -> Tensor:
        past_BND = self.past(inputs, steps_between(inputs.gaps_BN))
        start_B1D = self.start.weight.expand(len(past_BND), 1, -1)
        # Before all that a history could hold, however wide this one is.
        place_T = F.pad(
            torch.arange(past_BND.shape[1], device=past_BND.device), (0, 1), value=self.stack.max_tokens - 1
        )
        outcomes_BQD: Tensor = self.stack(torch.cat([past_BND, start_B1D], dim=1), place_T, mask_BT, asked_BQ)
        return outcomes_BQD

    def extra_targets(self, inputs: Inputs, draws_BX: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """What followed each of the newest prefixes of every EVERY-th history; no chance in it."""
        some = every(inputs, EVERY)
        num_moments, length = some.items_BN.shape
        num_prefixes = min(EVERY * draws_BX.shape[1], length - 1)
        in_use_RN = some.items_BN > 0
        newest_P = torch.arange(1, num_prefixes + 1, device=some.items_BN.device)
        outcomes_RPD = self._outcomes(some, F.pad(in_use_RN, (0, 1), value=True), newest_P.expand(num_moments, -1))
        queries_RPD = self.norm_out(outcomes_RPD)
        weights_RP = (in_use_RN[:, :num_prefixes] & in_use_RN[:, 1 : num_prefixes + 1]).float()
        return queries_RPD.flatten(0, 1), some.items_BN[:, :num_prefixes].flatten(), weights_RP.flatten()


def every(inputs: Inputs, step: int) -> Inputs:
    """Every ``step``-th moment of a batch."""
    return Inputs(
        vectors_RD=inputs.vectors_RD,
        **{name: value[::step] for name, value in vars(inputs).items() if name != "vectors_RD"},
    )
