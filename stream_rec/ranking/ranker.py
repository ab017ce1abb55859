"""Lists: every item that may be recommended is scored for every moment, the best K are kept.

Score = log of the statistics' mixture + weight · (query · item + bias). Exact over the whole catalogue.

Shapes: B = moments, I = item rows, K = list length, D = dimension, H = half-lives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_rec.models.blend import Blend
from stream_rec.models.mixture import Evidence, gather_evidence
from stream_rec.models.network import Network
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments

MAX_SCORES = 8_000_000  # of one block of moments: 32 MB a matrix
FLOOR = 1e-12  # least probability of an item: keeps the logarithm finite
REASONS = ("popular now", "follows your last item", "you had it before", "fits your history")


@dataclass
class Ranked:
    """Lists of item rows, best first; row 0 where fewer than K items may be recommended."""

    rows_BK: Tensor
    scores_BK: Tensor
    reason_BK: Tensor  # index into REASONS: what speaks most for the item


@dataclass
class Catalogue:
    """What all moments of a batch share."""

    vectors_ID: Tensor
    outputs_IW: Tensor
    barred_I: Tensor
    uniform_I: Tensor


def shared_catalogue(memory: Memory, network: Network) -> Catalogue:
    """Item vectors and who may be recommended, for the rows in use."""
    num_rows = memory.num_item_rows
    features_IA = memory.catalogue.features_IA[:num_rows, : memory.catalogue.width]
    vectors_ID, outputs_IW = network.vectors(features_IA, memory.catalogue.num_features, slice(0, num_rows))
    allowed_I = memory.recommendable()
    return Catalogue(vectors_ID, outputs_IW, ~allowed_I, allowed_I / allowed_I.sum().clamp_min(1))


def log_prior(probabilities_BI: Tensor, barred_I: Tensor, excluded: tuple[Tensor, Tensor] | None) -> Tensor:
    """[B, I] logarithm, -inf for items that may not be in the list. In place."""
    scores_BI = probabilities_BI.clamp_min_(FLOOR).log_()
    scores_BI.masked_fill_(barred_I[None, :], float("-inf"))
    if excluded is not None:
        scores_BI.index_put_(excluded, scores_BI.new_tensor(float("-inf")))
    return scores_BI


class Ranker:
    """Ranks moments. Reads state and parameters, changes nothing."""

    def __init__(self, memory: Memory, network: Network, blend: Blend) -> None:
        self._memory = memory
        self._network = network
        self._blend = blend

    @torch.no_grad()
    def rank(self, moments: Moments, list_length: int) -> Ranked:
        """The best ``list_length`` items of each moment."""
        catalogue = shared_catalogue(self._memory, self._network)
        memory = self._memory
        evidence = gather_evidence(memory.popularity, memory.transitions, moments, repeats=memory.allows_repeats)
        gate_BS = self._network.mixture.gate(evidence)
        query_BD = self._network.encode(moments, catalogue.vectors_ID, moments.history.items_BN)
        weight_B1 = self._blend.weight(moments.history.lengths_B)[:, None]
        num_rows = catalogue.barred_I.shape[0]
        block = max(1, MAX_SCORES // num_rows)
        parts = [
            self._rank_block(
                slice(start, start + block), moments, catalogue, evidence, gate_BS, query_BD, weight_B1, list_length
            )
            for start in range(0, len(moments), block)
        ]
        if len(parts) == 1:
            return parts[0]
        return Ranked(
            torch.cat([p.rows_BK for p in parts]),
            torch.cat([p.scores_BK for p in parts]),
            torch.cat([p.reason_BK for p in parts]),
        )

    def _rank_block(
        self,
        block: slice,
        moments: Moments,
        catalogue: Catalogue,
        evidence: Evidence,
        gate_BS: Tensor,
        query_BD: Tensor,
        weight_B1: Tensor,
        list_length: int,
    ) -> Ranked:
        evidence = evidence.of(block)
        gate_BS, query_BD, weight_B1 = gate_BS[block], query_BD[block], weight_B1[block]
        counts_HI = self._memory.popularity.counts_HI[:, : catalogue.barred_I.shape[0]]
        probabilities_BI = self._network.mixture.probabilities(gate_BS, evidence, counts_HI, catalogue.uniform_I, None)
        prior_BI = log_prior(probabilities_BI, catalogue.barred_I, _within(moments.excluded, block))
        weights_ID, bias_I = catalogue.outputs_IW[:, :-1], catalogue.outputs_IW[:, -1]
        residual_BI = torch.addmm(bias_I, query_BD, weights_ID.T)
        scores_BI = torch.addcmul(prior_BI, residual_BI, weight_B1)
        scores_BK, rows_BK = torch.topk(scores_BI, min(list_length, scores_BI.shape[1]), dim=1)
        rows_BK = torch.where(torch.isfinite(scores_BK), rows_BK, 0)
        attention_BK = weight_B1 * (residual_BI.gather(1, rows_BK) - residual_BI.mean(1, keepdim=True))
        reason_BK = self._network.mixture.reasons(gate_BS, evidence, counts_HI, rows_BK, attention_BK)
        return Ranked(rows_BK, scores_BK, reason_BK)


def _within(excluded: tuple[Tensor, Tensor] | None, block: slice) -> tuple[Tensor, Tensor] | None:
    """The pairs of a block of moments, renumbered; pairs of others are turned into pairs of row 0, which is barred."""
    if excluded is None:
        return None
    moment_P, row_P = excluded
    inside_P = (moment_P >= block.start) & (moment_P < block.stop)
    return torch.where(inside_P, moment_P - block.start, 0), torch.where(inside_P, row_P, 0)
