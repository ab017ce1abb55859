"""Lists in two stages: all items are scored, a few candidates are weighed against each other, the best K are kept.

First stage: log of the statistics' mixture + weight · (query · item + bias), exact over the whole catalogue.
Second stage: what every source says of the candidates, together.
Objective: how likely an item is next, times what the tasks promise of it.

Shapes: B = moments, I = item rows, K = candidates or list length, D = dimension, S = statistics, F = features of a
candidate, P = parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.models.blend import Blend
from stream_rec.models.candidates import Candidates
from stream_rec.models.evidence import Evidence, gather_evidence
from stream_rec.models.leader import Leader
from stream_rec.models.mixture import FLOOR
from stream_rec.models.network import Network
from stream_rec.ranking.candidates import ATTENTION, FIRST_STAGE, STATISTICS, gather_candidates, past_places, places
from stream_rec.ranking.distances import distances
from stream_rec.ranking.features import candidate_features
from stream_rec.ranking.pairs import pair_statistics, past_features
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from stream_rec.state.statistics import SPARSE

MAX_SCORES = 8_000_000  # of one block of moments: 32 MB a matrix
REASONS = (
    "popular now",
    "follows your last items",
    "goes with what you had",
    "people with your history took it",
    "popular with people like you",
    "you had it before",
    "fits your history",
)
# Which reason each sparse statistic is; popularity is 0, and so is uniform.
SPARSE_REASONS = {"transitions fast": 1, "transitions slow": 1, "rules": 1, "item kNN": 2, "session kNN": 3, "kind": 4}
OWN, BY_ATTENTION = 5, 6


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
    counts_HI: Tensor
    barred_I: Tensor


@dataclass
class Look:
    """What the model sees at a batch of moments. The candidates are in no order; row 0 is an empty place."""

    evidence: Evidence
    gate_BS: Tensor
    rows_BK: Tensor
    shares_BKS: Tensor
    first_BK: Tensor  # first stage's score; -inf in empty places
    residual_BK: Tensor  # the encoder's logit, over its mean; and what it says of history and candidate together
    vectors_BKD: Tensor | None  # the candidates' input vectors, for encoders that weigh single candidates
    candidates: Candidates
    prior_BI: Tensor | None  # the statistics' over all items, -inf out of the list; None if there were several blocks
    new_first_BN: Tensor  # first stage's score of the rows that were asked for besides, -inf out of the list
    parts_BKP: Tensor  # scores by each part: second stage, first stage, every statistic alone
    prior_BK: Tensor  # the statistics' score of the candidates
    query_BD: Tensor  # the encoder's
    catalogue: Catalogue
    log_worth_BK: Tensor | None  # of what an item is worth once taken; None where no task has a weight


@dataclass
class Seen:
    """What the first stage says of its candidates."""

    rows_BK: Tensor
    place_BI: Tensor  # as ``places`` has it
    shares_BKS: Tensor
    first_BK: Tensor
    prior_BK: Tensor
    residual_BK: Tensor


def shared_catalogue(memory: Memory, network: Network) -> Catalogue:
    """Item vectors, counts and who may be recommended, for the rows in use."""
    num_rows = memory.num_item_rows
    features_IA = memory.catalogue.features_IA[:num_rows, : memory.catalogue.width]
    vectors_ID, outputs_IW = network.vectors(features_IA, memory.catalogue.num_features, slice(0, num_rows))
    counts_HI = memory.statistics.popularity.counts_HI[:, :num_rows]
    return Catalogue(vectors_ID, outputs_IW, counts_HI, ~memory.recommendable())


class Ranker:
    """Ranks moments. Reads state and parameters, changes nothing."""

    def __init__(self, settings: Settings, memory: Memory, network: Network, blend: Blend, leader: Leader) -> None:
        self._num_candidates = max(settings.ranking.num_candidates, settings.ranking.list_length)
        self._two_stages = settings.ranking.second_stage
        self._memory = memory
        self._network = network
        self._blend = blend
        self._leader = leader

    @torch.no_grad()
    def look(self, moments: Moments, new_N: Tensor | None = None) -> Look:
        """Evidence, candidates and what is known of them; and what the first stage says of ``new_N``, item rows."""
        memory = self._memory
        new_N = torch.zeros(0, dtype=torch.int64, device=memory.device) if new_N is None else new_N
        catalogue = shared_catalogue(memory, self._network)
        evidence = gather_evidence(memory, moments)
        gate_BS = self._network.mixture.gate(evidence)
        inputs = self._network.inputs(moments, catalogue.vectors_ID, moments.history.items_BN)
        query_BD: Tensor = self._network.encoder(inputs)
        block = max(1, MAX_SCORES // catalogue.barred_I.shape[0])
        parts = [
            self._first_stage(slice(start, start + block), moments, catalogue, evidence, gate_BS, query_BD, new_N)
            for start in range(0, len(moments), block)
        ]
        *of_candidates, prior_BI = parts[0]
        rows_BK, prior_BK, residual_BK, first_BK, new_first_BN = (
            of_candidates
            if len(parts) == 1
            else (torch.cat(each) for each in zip(*(part[:-1] for part in parts), strict=True))
        )
        vectors_BKD = F.embedding(rows_BK, catalogue.vectors_ID) if self._network.encoder.interacts else None
        if vectors_BKD is not None:
            residual_BK = residual_BK + self._network.encoder.interact(inputs, query_BD, vectors_BKD)
        place_BI = places(rows_BK, catalogue.barred_I.shape[0])
        shares_BKS = evidence.shares_at(catalogue.counts_HI, rows_BK, place_BI)
        seen = Seen(rows_BK, place_BI, shares_BKS, first_BK, prior_BK, residual_BK)
        candidates = self._candidates(moments, catalogue, evidence, seen)
        return Look(
            evidence=evidence,
            gate_BS=gate_BS,
            rows_BK=rows_BK,
            shares_BKS=shares_BKS,
            first_BK=first_BK,
            residual_BK=residual_BK,
            vectors_BKD=vectors_BKD,
            candidates=candidates,
            prior_BI=prior_BI if len(parts) == 1 else None,
            new_first_BN=new_first_BN,
            parts_BKP=self._parts(candidates, rows_BK, prior_BK, shares_BKS),
            prior_BK=prior_BK,
            query_BD=query_BD,
            catalogue=catalogue,
            log_worth_BK=self._log_worth(moments, query_BD, rows_BK, catalogue),
        )

    def _log_worth(self, moments: Moments, query_BD: Tensor, rows_BK: Tensor, catalogue: Catalogue) -> Tensor | None:
        tasks = self._network.tasks
        if tasks is None or not tasks.is_weighted:
            return None
        vectors_BKD = F.embedding(rows_BK, catalogue.vectors_ID)
        return tasks.log_worth(tasks(query_BD, vectors_BKD, moments.user_B, rows_BK))

    @torch.no_grad()
    def look_at(self, rows_BK: Tensor, moments: Moments, look: Look) -> tuple[Seen, Candidates]:
        """Other distinct items as the two stages would see them if they were among the candidates; none of row 0."""
        catalogue, known_BK = look.catalogue, rows_BK > 0
        place_BI = places(rows_BK, catalogue.barred_I.shape[0])
        shares_BKS = look.evidence.shares_at(catalogue.counts_HI, rows_BK, place_BI) * known_BK[:, :, None]
        prior_BK = (shares_BKS * look.gate_BS[:, None, :]).sum(2).clamp_min(FLOOR).log()
        # A candidate's residual is what its logit has over a mean that is the moment's; the same is taken off here.
        mean_B1 = _logits(look, look.rows_BK[:, :1]) - look.residual_BK[:, :1]
        residual_BK = (_logits(look, rows_BK) - mean_B1) * known_BK
        weight_B1 = self._blend.weight(moments.history.lengths_B)[:, None]
        first_BK = (prior_BK + weight_B1 * residual_BK).masked_fill(~known_BK, float("-inf"))
        seen = Seen(rows_BK, place_BI, shares_BKS, first_BK, prior_BK, residual_BK)
        return seen, self._candidates(moments, catalogue, look.evidence, seen, look.prior_BK)

    def _candidates(
        self,
        moments: Moments,
        catalogue: Catalogue,
        evidence: Evidence,
        seen: Seen,
        beside_BK: Tensor | None = None,
    ) -> Candidates:
        """What the second stage reads of them; ``beside_BK`` as for ``candidate_features``."""
        memory, history, rows_BK = self._memory, moments.history, seen.rows_BK
        num_moments, num_candidates = rows_BK.shape
        in_use_BN = history.items_BN > 0
        away = distances(memory, moments, rows_BK)
        features_BKF = candidate_features(
            memory, moments, rows_BK, seen.place_BI, seen.shares_BKS, seen.prior_BK, seen.residual_BK, away, beside_BK
        )
        if self._network.second_stage.attention is None:
            pairs_BKP = torch.empty(num_moments, num_candidates, 0, device=rows_BK.device)
            past_BNY = torch.empty(*in_use_BN.shape, 0, device=rows_BK.device)
        else:
            pairs_BKP = pair_statistics(moments, evidence, rows_BK, seen.place_BI, catalogue.vectors_ID, away)
            past_BNY = past_features(memory, moments)
        return Candidates(
            first_BK=seen.first_BK,
            features_BKF=features_BKF,
            moment_BX=evidence.features_BX,
            length_B=history.lengths_B,
            pairs_BKP=pairs_BKP,
            past_BNY=past_BNY,
            types_BN=history.types_BN * in_use_BN,
            values_BN=history.values_BN * in_use_BN,
            place_BN=past_places(moments, seen.place_BI, num_candidates),
        )

    def _first_stage(
        self,
        block: slice,
        moments: Moments,
        catalogue: Catalogue,
        evidence: Evidence,
        gate_BS: Tensor,
        query_BD: Tensor,
        new_N: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Rows, prior, residual and first stage's score of the candidates of a block of moments; the last of ``new_N``,
        too; prior of all items.
        """
        evidence = evidence.of(block)
        weight_B1 = self._blend.weight(moments.history.lengths_B[block])[:, None]
        prior_BI = self._network.mixture.probabilities(gate_BS[block], evidence, catalogue.counts_HI)
        prior_BI = prior_BI.clamp_min_(FLOOR).log_().masked_fill_(evidence.out_BI, float("-inf"))
        residual_BI = torch.addmm(catalogue.outputs_IW[:, -1], query_BD[block], catalogue.outputs_IW[:, :-1].T)
        # Over what may be listed: what appears later in the batch must not move it.
        listed_BI = ~evidence.out_BI
        residual_BI -= ((residual_BI * listed_BI).sum(1) * evidence.uniform_B)[:, None]
        first_BI = torch.addcmul(prior_BI, residual_BI, weight_B1)
        only_BI = torch.where(evidence.out_BI, float("-inf"), residual_BI)
        scores = {FIRST_STAGE: first_BI, STATISTICS: prior_BI, ATTENTION: only_BI}
        rows_BK = gather_candidates(evidence, scores, catalogue.counts_HI, catalogue.barred_I, self._num_candidates)
        empty_BK = rows_BK == 0
        prior_BK = prior_BI.gather(1, rows_BK).masked_fill(empty_BK, -30.0)
        first_BK = first_BI.gather(1, rows_BK).masked_fill(empty_BK, float("-inf"))
        return rows_BK, prior_BK, residual_BI.gather(1, rows_BK), first_BK, first_BI[:, new_N], prior_BI

    def _parts(self, candidates: Candidates, rows_BK: Tensor, prior_BK: Tensor, shares_BKS: Tensor) -> Tensor:
        """[B, K, P] scores of the candidates by each part."""
        second_BK = self._network.rescore(candidates)
        # What a statistic does not know is ordered by the mixture, below what it does.
        alone_BKS = candidates.features_BKF[:, :, : shares_BKS.shape[2]] + 1e-3 * prior_BK[:, :, None]
        alone_BKS = alone_BKS.masked_fill((rows_BK == 0)[:, :, None], float("-inf"))
        return torch.cat([second_BK[:, :, None], candidates.first_BK[:, :, None], alone_BKS], dim=2)

    @torch.no_grad()
    def order(self, look: Look, moments: Moments, list_length: int) -> Ranked:
        """The best ``list_length`` of the candidates."""
        if self._two_stages:
            scores_BK = self._leader.scores(look.parts_BKP, moments.history.lengths_B)
        else:
            scores_BK = look.first_BK
        if look.log_worth_BK is not None:
            # Scores are log-probabilities up to a constant: the sum orders by expected worth.
            scores_BK = scores_BK + look.log_worth_BK
        best = torch.topk(scores_BK, min(list_length, scores_BK.shape[1]), dim=1)
        rows_BK = torch.where(torch.isfinite(best.values), look.rows_BK.gather(1, best.indices), 0)
        return Ranked(rows_BK, best.values, self._reasons(look, moments).gather(1, best.indices))

    def rank(self, moments: Moments, list_length: int) -> Ranked:
        """The best ``list_length`` items of each moment."""
        return self.order(self.look(moments), moments, list_length)

    def _reasons(self, look: Look, moments: Moments) -> Tensor:
        """[B, K] what speaks most for each candidate.

        Attention is named where its logit lifts the item by more than a factor e and by more than the strongest
        statistic gives it over a listing by chance.
        """
        num_half_lives = self._network.mixture.num_half_lives
        reason_S = [0] * (num_half_lives + 1) + [SPARSE_REASONS.get(name, OWN) for name in SPARSE]
        said_BKS = look.shares_BKS * look.gate_BS[:, None, :]
        said = torch.zeros(*look.rows_BK.shape, BY_ATTENTION, device=look.rows_BK.device)
        said.index_add_(2, torch.tensor(reason_S, device=said.device), said_BKS)
        strongest = said.max(2)
        chance_B1 = look.evidence.uniform_B[:, None]
        lift_BK = torch.log(strongest.values / chance_B1 + 1e-12)
        attention_BK = self._blend.weight(moments.history.lengths_B)[:, None] * look.residual_BK
        by_attention_BK = (attention_BK > 1.0) & (attention_BK > lift_BK)
        return torch.where(by_attention_BK, BY_ATTENTION, strongest.indices)


def _logits(look: Look, rows_BK: Tensor) -> Tensor:
    """[B, K] the encoder's inner products with these items, biases added."""
    outputs_BKW = look.catalogue.outputs_IW[rows_BK]
    return torch.einsum("bkd,bd->bk", outputs_BKW[:, :, :-1], look.query_BD) + outputs_BKW[:, :, -1]
