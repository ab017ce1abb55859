"""Deep interest network (DIN, Zhou et al., KDD 2018): the candidate asks the history, and its answer is what is scored.

An activation unit, a small MLP over a past interaction and the candidate, says how much that interaction matters to
it; the weighted sum of the history joins the candidate in an MLP. That is ``interact``. To rank a whole catalogue the
last item stands in for the candidate: what it asks for makes the query.

Shapes: B = moments, N = history length, K = candidates (or other targets) per moment, D = dimension, H = hidden units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, PastReader, item_vectors_of, start_tables


class ActivationUnit(nn.Module):
    """How much each past interaction matters to each target.

    The paper's MLP over [past, target, difference] has a linear first layer: it is a sum of one part that knows the
    past and one that knows the target, which costs N + K products and not N × K.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        num_hidden = max(8, dimension // 4)
        self.of_past = nn.Linear(dimension, num_hidden)
        self.of_target = nn.Linear(dimension, num_hidden, bias=False)
        self.to_score = nn.Linear(num_hidden, 1)

    def forward(self, past_BND: Tensor, targets_BKD: Tensor, mask_BN: Tensor) -> Tensor:
        """[B, K, D] the history as each target sees it; zeros where it is empty."""
        hidden_BKNH = self.of_past(past_BND)[:, None] + self.of_target(targets_BKD)[:, :, None]
        alike_BKN = targets_BKD @ past_BND.transpose(1, 2) / math.sqrt(past_BND.shape[2])
        scores_BKN = self.to_score(nn.functional.silu(hidden_BKNH))[..., 0] + alike_BKN
        # No softmax: how much of the history matters is itself an answer. The root keeps long ones in range.
        num_past_B = mask_BN.sum(1).clamp_min(1).float()
        weights_BKN = torch.sigmoid(scores_BKN) * mask_BN[:, None] * torch.rsqrt(num_past_B)[:, None, None]
        return weights_BKN @ past_BND


class InterestEncoder(Encoder):
    """One activation unit for both: what the last item asks for, and what a candidate asks for."""

    interacts = True

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.positions = nn.Embedding(history_length, dimension)
        start_tables(self)
        self.past = PastReader(dimension, num_context_buckets)
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.norm_past = nn.LayerNorm(dimension)
        self.unit = ActivationUnit(dimension)
        self.to_query = self._tower(3 * dimension, dimension, num_layers)
        self.norm_out = nn.LayerNorm(dimension)
        self.to_logit = self._tower(4 * dimension, 1, num_layers)

    @staticmethod
    def _tower(width: int, out: int, num_layers: int) -> nn.Sequential:
        tower: list[nn.Module] = [nn.LayerNorm(width)]
        for _ in range(num_layers):
            tower += [nn.Linear(width, max(64, out)), nn.GELU(approximate="tanh")]
            width = max(64, out)
        return nn.Sequential(*tower, nn.Linear(width, out))

    def _past(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        past_BND = self.past(inputs, inputs.gaps_BN) + self.positions.weight[: inputs.items_BN.shape[1]]
        return self.norm_past(past_BND), inputs.items_BN > 0

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        past_BND, mask_BN = self._past(inputs)
        last_BD, moment_BD = item_vectors_of(inputs)[:, 0], self.moment(inputs)
        interest_BD = self.unit(past_BND, (last_BD + moment_BD)[:, None], mask_BN)[:, 0]
        known_BX = torch.cat([interest_BD, last_BD, moment_BD], dim=1)
        queries_BD: Tensor = self.norm_out(self.to_query(known_BX) + last_BD + moment_BD)
        return queries_BD

    def interact(self, inputs: Inputs, query_BD: Tensor, candidates_BKD: Tensor) -> Tensor:
        """[B, K] what the MLP says of each candidate beside the history as it sees it."""
        past_BND, mask_BN = self._past(inputs)
        interest_BKD = self.unit(past_BND, candidates_BKD, mask_BN)
        known_BKX = torch.cat(
            [
                interest_BKD,
                candidates_BKD,
                interest_BKD * candidates_BKD,
                (query_BD + self.moment(inputs))[:, None].expand_as(candidates_BKD),
            ],
            dim=2,
        )
        logits_BK: Tensor = self.to_logit(known_BKX)[..., 0]
        return logits_BK
