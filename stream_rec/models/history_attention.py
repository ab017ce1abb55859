"""What the history says of a candidate: attention whose values are statistics of the pair.

Item-kNN and rules sum what is known of (past interaction, candidate) with weights that are given: the newer, the more.
Here the weights are found. What a past interaction was like (how long ago, at what hour, of which type and value, in
the running session or not) and the moment say how much it is asked, apart for each kind of statistic. The user's own
past with the candidate is one of them: there a candidate hears the attention that points at itself (pointer networks,
Vinyals et al., NeurIPS 2015).

Shapes: B = moments, K = candidates, N = history length (newest first), L = of these the ones a statistic is read for,
P = pairs of a candidate (statistic by statistic, newest first), Y = features of a past interaction, X = features of the
moment, W = hidden units, H = heads, R = statistics × heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.candidates import Candidates
from stream_rec.state.context import NUM_EVENT_TYPES, NUM_VALUE_BUCKETS
from stream_rec.state.statistics import NUM_KNN_LAGS, NUM_RULE_LAGS

# What is known of a pair, and of how many of the newest interactions: cosine in the table of the item-kNN, share of
# what follows in the rules (roots of both: they have long tails), cosine of input vectors, nearness of places.
PAIRS = {"cosine": NUM_KNN_LAGS, "rule": NUM_RULE_LAGS, "vectors": 20, "near": 20}
NUM_PAST_FEATURES = 6
NUM_HEADS = 4
NUM_TOLD = len(PAIRS) + 2  # cosines as they are and as roots; and the candidate itself
HIDDEN = 32
CLIP = 5.0
MASKED = -1e4  # not -inf: of an empty history all would be, and their softmax no number


class HistoryAttention(nn.Module):
    """[B, K, R] what each candidate hears, beside what the other candidates of its moment hear."""

    def __init__(self, history_length: int, num_moment_features: int) -> None:
        super().__init__()
        self.num_heard = NUM_TOLD * NUM_HEADS
        self.lags = nn.Embedding(history_length, HIDDEN)
        self.types = nn.Embedding(NUM_EVENT_TYPES, HIDDEN)
        self.values = nn.Embedding(NUM_VALUE_BUCKETS, HIDDEN)
        for table in (self.lags, self.types, self.values):
            nn.init.normal_(table.weight, std=0.1)
        self.from_past = nn.Linear(NUM_PAST_FEATURES, HIDDEN)
        self.from_moment = nn.Linear(num_moment_features, HIDDEN, bias=False)
        self.output = nn.Linear(HIDDEN, self.num_heard)

    def forward(self, candidates: Candidates, moment_BX: Tensor) -> Tensor:
        """[B, K, R] in standard deviations; ``moment_BX`` standardised."""
        *asked, asked_itself_BNH = self._asked(candidates, moment_BX).chunk(NUM_TOLD, dim=2)
        cosine, rule, vectors, near = candidates.pairs_BKP.split_with_sizes(list(PAIRS.values()), dim=2)
        told = (cosine, cosine.square(), rule, vectors, near)
        in_use_BN1 = candidates.in_use()[:, :, None]
        heard = []
        for told_BKL, asked_BNH in zip(told, asked, strict=True):
            num_lags = min(told_BKL.shape[2], asked_BNH.shape[1])
            weights_BLH = _softmax(asked_BNH[:, :num_lags], in_use_BN1[:, :num_lags])
            heard.append(told_BKL[:, :, :num_lags] @ weights_BLH)
        heard.append(_pointed_at(candidates, _softmax(asked_itself_BNH, in_use_BN1)))
        return _beside_the_others(torch.cat(heard, dim=2), torch.isfinite(candidates.first_BK))

    def _asked(self, candidates: Candidates, moment_BX: Tensor) -> Tensor:
        """[B, N, R] how much each past interaction is asked."""
        hidden_BNW = F.relu(
            self.from_past(candidates.past_BNY)
            + self.from_moment(moment_BX)[:, None, :]
            + self.lags.weight[: candidates.past_BNY.shape[1]]
            + self.types(candidates.types_BN)
            + self.values(candidates.values_BN)
        )
        asked_BNR: Tensor = self.output(hidden_BNW)
        return asked_BNR


def _softmax(asked_BNH: Tensor, in_use_BN1: Tensor) -> Tensor:
    return torch.softmax(asked_BNH.masked_fill(~in_use_BN1, MASKED), dim=1)


def _pointed_at(candidates: Candidates, weights_BNH: Tensor) -> Tensor:
    """[B, K, H] attention to the past interactions that were with the candidate itself."""
    num_candidates = candidates.first_BK.shape[1]
    heads = (-1, -1, weights_BNH.shape[2])
    room_BKH = weights_BNH.new_zeros(weights_BNH.shape[0], num_candidates + 1, weights_BNH.shape[2])
    return room_BKH.scatter_add(1, candidates.place_BN[:, :, None].expand(heads), weights_BNH)[:, :num_candidates]


def _beside_the_others(heard_BKR: Tensor, is_real_BK: Tensor) -> Tensor:
    """Standardised over the candidates of a moment: what all hear alike puts none of them first."""
    real_BK1 = is_real_BK[:, :, None].float()
    num_real_B11 = real_BK1.sum(1, keepdim=True).clamp_min(1.0)
    centred_BKR = (heard_BKR - (heard_BKR * real_BK1).sum(1, keepdim=True) / num_real_B11) * real_BK1
    variance_B1R = centred_BKR.square().sum(1, keepdim=True) / num_real_B11
    return (centred_BKR * (variance_B1R + 1e-4).rsqrt()).clamp(-CLIP, CLIP)
