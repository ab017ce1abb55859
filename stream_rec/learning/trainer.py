"""One guarded step on one batch: loss, gradients, and updates that happen only if all of them are finite.

Shapes: B = moments, I = item rows, R = rows of the working set, C = columns, D = dimension, N = history length,
K = candidates, T = of these the best, or tasks, U = user rows of the batch, E = extra positions, X = of these per
moment, S = statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.learning.adaptation import LISTS, RateAdaptation
from stream_rec.learning.columns import Columns, choose_columns, distinct
from stream_rec.learning.loss_scaling import LossScaler, check_precision, reduced
from stream_rec.learning.negatives import NegativeSampler
from stream_rec.learning.objectives import mixture_loss, softmax_loss, weighted_mean
from stream_rec.learning.optimisers import make_dense_optimiser, make_row_optimiser
from stream_rec.learning.replay import Exams
from stream_rec.learning.reranking import Reranking, listwise_loss
from stream_rec.learning.tasks import TaskLearning
from stream_rec.models.base import Inputs
from stream_rec.models.blend import Blend
from stream_rec.models.candidates import Candidates
from stream_rec.models.items import item_vectors
from stream_rec.models.leader import Leader
from stream_rec.models.mixture import FLOOR
from stream_rec.models.network import Network
from stream_rec.ranking.ranker import Look
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from stream_rec.state.shown import ShownLists

NUM_PROBES = 64  # events of a batch on which the blend's weights are compared
NUM_EXTRA = 4  # further positions per moment for encoders that learn from more than the newest event
NUM_RIVALS = 32  # best candidates that an encoder that weighs single ones learns from
EXTRA_WEIGHT = 0.5  # of their loss
PARTS = ("gate", "encoder", "rows", LISTS)  # each with a learning rate of its own


@dataclass
class StepOutcome:
    """Scalars, still on the device."""

    loss: Tensor
    gradient_norm: Tensor
    sound: Tensor
    statistics_loss: Tensor  # the gate's part of the loss; NaN where it had nothing to learn from
    residual_loss: Tensor  # the encoder's and the rows' part, likewise
    list_loss: Tensor  # 1 - NDCG@10 of the lists as they stood before the step, likewise
    task_losses_T: Tensor  # relative to always saying the average; NaN likewise. No part of ``loss``


class Trainer:
    """Learns from batches of moments."""

    def __init__(self, settings: Settings, memory: Memory, network: Network, blend: Blend, leader: Leader) -> None:
        learning = settings.learning
        self._learning = learning
        self._seed = settings.worker.seed
        self._memory = memory
        self._network = network
        self._blend = blend
        self._leader = leader
        self._encoder = make_dense_optimiser(learning, network.encoder, weight_decay=learning.weight_decay)
        self._gate = make_dense_optimiser(learning, network.mixture, weight_decay=0.0)
        self._rows = make_row_optimiser(learning)
        self._reranking = Reranking(settings, network)
        self._tasks = TaskLearning(learning, network.tasks, network.device) if network.tasks else None
        self._adaptation = RateAdaptation(learning, PARTS)
        check_precision(learning.precision, settings.model.encoder, network.device)
        self._scaler = LossScaler(learning.precision, network.device, grow_after_steps=learning.loss_scale_growth_steps)
        self.sampler = NegativeSampler(
            settings.state.max_items,
            num_uniform=learning.num_uniform_negatives,
            num_popular=learning.num_popular_negatives,
            seed=settings.worker.seed,
            device=network.device,
        )

    def rates(self, batch: int) -> dict[str, float]:
        """Learning rates of a step, by part, as drift and calm have left them."""
        warm = min(1.0, (batch + 1) / (self._learning.warmup_steps + 1))
        factors = self._adaptation.factors()
        rates = {
            "encoder": self._learning.dense_rate * warm * factors["encoder"],
            "gate": self._learning.gate_rate * factors["gate"],
            "rows": self._learning.row_rate * factors["rows"],
            LISTS: self._learning.second_stage_rate * factors[LISTS],
        }
        # The heads stand on the encoder, so they follow its drift.
        return rates | {"tasks": self._learning.task_rate * factors["encoder"]} if self._tasks else rates

    def adapt(self, losses: Sequence[float], num_events: int) -> None:
        """Take in a step's losses (statistics', residual, lists'), once read back; the next step's rates follow.

        ``num_events`` of the batch were learnt from. Rows whose loss has drifted up may move again: their
        accumulators are softened. Where the lists have become worse at once, what went with what counts for less.
        """
        of_statistics, of_residual, of_lists = losses
        by_part = {"gate": of_statistics, "encoder": of_residual, "rows": of_residual, LISTS: of_lists}
        rose = self._adaptation.update(by_part, num_events).rose
        if LISTS in rose:
            self._memory.statistics.fade(self._learning.drift_fade, self._memory.num_item_rows)
        if "rows" not in rose:
            return
        network, memory = self._network, self._memory
        for table, num_rows in (
            (network.item_in, memory.num_item_rows),
            (network.item_out, memory.num_item_rows),
            (network.user_in, memory.num_user_rows),
            (network.attribute_in, memory.catalogue.num_features),
            (network.attribute_out, memory.catalogue.num_features),
        ):
            self._rows.soften(table, num_rows, self._learning.drift_soften)

    def step(self, moments: Moments, look: Look, batch: int) -> StepOutcome:
        """Learn from one batch.

        Effects, all or none of 2–3: 1. the blend's weights are compared on events not learnt yet; 2. rows of the
        tables take a step; 3. encoder, gate and heads take a step. Where loss or gradient is not finite, 2 and 3 are
        left out and the outcome says so. Never waits for the device.
        """
        network, memory = self._network, self._memory
        list_loss = self._rerank(moments, look, batch)
        columns = choose_columns(
            moments,
            batch,
            memory.num_item_rows,
            self.sampler,
            self._learning.full_softmax_max_items,
            network.read_length,
        )
        features_RA = memory.catalogue.features_IA[columns.rows][:, : memory.catalogue.width]
        own_in_RD = network.item_in.weight_IW[columns.rows].clone().requires_grad_()
        own_out_RW = network.item_out.weight_IW[columns.rows].clone().requires_grad_()
        user_rows_U, user_places_B = distinct(F.pad(moments.user_B, (1, 0)))
        own_users_UD = network.user_in.weight_IW[user_rows_U].requires_grad_()
        # Row 0 is whoever is not known: it must stay zero.
        users_BD = own_users_UD[user_places_B[1:]] * (moments.user_B > 0)[:, None]
        tables = [own_in_RD, own_out_RW, own_users_UD]
        num_features = memory.catalogue.num_features
        attributes = [table.weight_IW[:num_features] for table in (network.attribute_in, network.attribute_out)]
        if features_RA.shape[1]:
            attributes = [table.clone().requires_grad_() for table in attributes]
            tables += attributes
        vectors_RD = item_vectors(own_in_RD, attributes[0], features_RA)
        outputs_CW = item_vectors(own_out_RW, attributes[1], features_RA)[columns.local_C]

        # Follows from the seed and the batch alone.
        chance = torch.Generator().manual_seed((self._seed << 31) + batch)
        inputs = network.inputs(moments, self._thinned(vectors_RD, chance), columns.items_BN, users_BD)
        with reduced(self._learning.precision, network.device):
            query_BD: Tensor = network.encoder(inputs)
        prior_BC = self._prior(look, columns)
        residual_BC = logits(query_BD.float(), outputs_CW)
        loss, of_statistics, of_residual = self._loss(moments, look, columns, prior_BC, residual_BC)
        if look.vectors_BKD is not None:
            loss = loss + self._interaction_loss(moments, look, inputs, query_BD, look.vectors_BKD)
        extra = self._extra_loss(inputs, columns, prior_BC, outputs_CW, chance)
        if extra is not None:
            loss = loss + EXTRA_WEIGHT * extra
        total, task_losses_T = loss, loss.new_zeros(0)
        parameters = [*tables, *self._encoder.parameters, *self._gate.parameters]
        if self._tasks:
            taken_BD = F.embedding(columns.target_places(), vectors_RD)
            of_tasks, task_losses_T = self._tasks.loss(moments, query_BD.float(), taken_BD)
            total = loss + of_tasks
            parameters += self._tasks.parameters
        scaled = torch.autograd.grad(self._scaler.scale(total), parameters, allow_unused=True, materialize_grads=True)
        gradients = self._scaler.unscale(scaled)
        norm, sound = self._apply(total.detach(), columns, gradients, user_rows_U, len(tables), len(moments), batch)
        self._scaler.update(sound)
        return StepOutcome(loss.detach(), norm, sound, of_statistics, of_residual, list_loss, task_losses_T)

    def _thinned(self, vectors_RD: Tensor, chance: torch.Generator) -> Tensor:
        """What is read of items while learning: without a share of their vectors' entries, the others as much larger.

        Dropout (Srivastava et al., JMLR 2014). Lists are made with whole vectors.
        """
        kept = 1.0 - self._learning.dropout
        if kept == 1.0:
            return vectors_RD
        draws_RD = torch.rand(vectors_RD.shape, generator=chance, device="cpu")
        return vectors_RD * (draws_RD < kept).to(vectors_RD.device, non_blocking=True) / kept

    def _loss(
        self, moments: Moments, look: Look, columns: Columns, prior_BC: Tensor, residual_BC: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Statistics by themselves, and the encoder on top of them as they are: it learns what they leave over.

        Their sum, and both as ``StepOutcome`` has them.
        """
        evidence, weight_B = look.evidence, moments.target_weight_B
        item_B1 = moments.item_B[:, None]
        target_B1 = columns.target_B[:, None]
        counts_HI = self._memory.statistics.popularity.counts_HI[:, : self._memory.num_item_rows]
        target_p_B = (self._network.mixture.gate(evidence) * evidence.target_shares(counts_HI, moments.item_B)).sum(1)
        with torch.no_grad():
            self._observe(moments, columns, prior_BC, residual_BC.detach())
            if columns.correction_C is not None:
                prior_BC = prior_BC - columns.correction_C
            # The target counts, whatever would keep it out of a list: an item's first event teaches, too.
            prior_BC = prior_BC.scatter(1, target_B1, target_p_B.detach().clamp_min(FLOOR).log()[:, None])
            # The gate has nothing to learn from what no statistic can know.
            listed_B = ~evidence.out_BI.gather(1, item_B1)[:, 0]
        statistics = mixture_loss(target_p_B, weight_B * listed_B)
        residual = softmax_loss(residual_BC + prior_BC, columns.target_B, weight_B)
        return statistics + residual, known(statistics, weight_B * listed_B), known(residual, weight_B)

    def _prior(self, look: Look, columns: Columns) -> Tensor:
        """[B, C] log of what the statistics say, -inf for what may not be listed."""
        if columns.column_of_I is None and look.prior_BI is not None:
            return look.prior_BI
        counts_HI = self._memory.statistics.popularity.counts_HI[:, : self._memory.num_item_rows]
        probabilities_BC = self._network.mixture.probabilities(
            look.gate_BS, look.evidence, counts_HI[:, columns.items], columns.column_of_I
        )
        out_BC = look.evidence.out_BI[:, columns.items]
        return probabilities_BC.clamp_min(FLOOR).log().masked_fill_(out_BC, float("-inf"))

    def _rerank(self, moments: Moments, look: Look, batch: int) -> Tensor:
        """The parts are compared on what happened, then the second stage learns from it. 1 - NDCG@10 of the lists."""
        is_target_BK = is_target(look, moments)
        weight_B, length_B = moments.target_weight_B, moments.history.lengths_B
        with torch.no_grad():
            gain_B = self._leader.observe(look.parts_BKP, is_target_BK, weight_B, length_B)
            list_loss = known(1.0 - weighted_mean(gain_B, (weight_B > 0).float()), weight_B)
        exams, rate = Exams(look.candidates, is_target_BK, weight_B), self.rates(batch)[LISTS]
        self._reranking.learn(exams, look.parts_BKP[:, :, 0], batch, rate)
        return list_loss

    def _interaction_loss(
        self, moments: Moments, look: Look, inputs: Inputs, query_BD: Tensor, vectors_BKD: Tensor
    ) -> Tensor:
        """Loss of what the encoder says of history and candidate together, on top of the first stage as it is.

        The candidates' vectors are taken as they are: as items of histories and as targets they learn already.
        """
        is_target_BK = is_target(look, moments)
        ranked = torch.topk(look.first_BK.masked_fill(is_target_BK, torch.inf), min(NUM_RIVALS, is_target_BK.shape[1]))
        kept_BT = ranked.indices
        first_BT = look.first_BK.gather(1, kept_BT)
        kept_BTD = vectors_BKD.gather(1, kept_BT[:, :, None].expand(-1, -1, vectors_BKD.shape[2]))
        with reduced(self._learning.precision, self._network.device):
            said_BT = self._network.encoder.interact(inputs, query_BD, kept_BTD)
        empty_BT = torch.isinf(first_BT)
        scores_BT = (first_BT.masked_fill(empty_BT, 0.0) + said_BT.float()).masked_fill(empty_BT, -torch.inf)
        return listwise_loss(scores_BT, is_target_BK.gather(1, kept_BT), moments.target_weight_B)

    def learn_from_shown(self, shown: ShownLists, candidates: Candidates, batch: int) -> None:
        """The second stage learns from what was shown and not taken, if it is to; before the step, as of then."""
        if self._learning.impressions == "off":
            return
        column_K = torch.arange(shown.rows_BK.shape[1], device=shown.rows_BK.device)
        is_target_BK = (column_K == shown.taken_B[:, None]) & (shown.rows_BK > 0)
        exams, rate = Exams(candidates, is_target_BK, shown.weight_B), self.rates(batch)[LISTS]
        self._reranking.learn_from_shown(exams, shown.places_BK, rate)

    def _extra_loss(
        self, inputs: Inputs, columns: Columns, prior_BC: Tensor, outputs_CW: Tensor, chance: torch.Generator
    ) -> Tensor | None:
        """Loss of the encoder's further positions. What the statistics said at those times is gone: their mean over
        the batch stands for it, so that here, too, popularity is none of the encoder's business.
        """
        draws_BX = torch.rand(len(inputs.lengths_B), NUM_EXTRA, generator=chance, device="cpu")
        draws_BX = draws_BX.to(self._network.device, non_blocking=True)
        with reduced(self._learning.precision, self._network.device):
            extra = self._network.encoder.extra_targets(inputs, draws_BX)
        if extra is None:
            return None
        queries_ED, places_E, weight_E = extra
        target_E, is_column_E = columns.targets(places_E)
        prior_C = prior_BC.exp().mean(0).clamp_min(FLOOR).log()
        if columns.correction_C is not None:
            prior_C = prior_C - columns.correction_C
        return softmax_loss(logits(queries_ED.float(), outputs_CW) + prior_C, target_E, weight_E * is_column_E)

    def _observe(self, moments: Moments, columns: Columns, prior_BC: Tensor, residual_BC: Tensor) -> None:
        stride = max(1, len(moments) // NUM_PROBES)
        self._blend.observe(
            prior_BC[::stride],
            residual_BC[::stride],
            columns.target_B[::stride],
            moments.target_weight_B[::stride] > 0,
            moments.history.lengths_B[::stride],
        )

    # -- the step ----------------------------------------------------------------------------------------------

    def _apply(
        self,
        loss: Tensor,
        columns: Columns,
        gradients: list[Tensor],
        user_rows_U: Tensor,
        num_tables: int,
        num_events: int,
        batch: int,
    ) -> tuple[Tensor, Tensor]:
        """Move everything, or nothing. The norm of the encoder's gradient, and which of the two it was."""
        rates, network = self.rates(batch), self._network
        num_encoder = len(self._encoder.parameters)
        encoder_P = torch.cat([g.reshape(-1) for g in gradients[num_tables : num_tables + num_encoder]])
        num_shared = num_tables + num_encoder + len(self._gate.parameters)
        gate_P = torch.cat([g.reshape(-1) for g in gradients[num_tables + num_encoder : num_shared]])
        norm = encoder_P.norm()
        # The loss is a mean over the batch, but a row occurs in few of its events: it sees their sum.
        for_tables = [gradient * num_events for gradient in gradients[:num_tables]]
        others = [*for_tables, *gradients[num_shared:]]
        finite = torch.stack([loss, norm, gate_P.norm(), *(gradient.norm() for gradient in others)])
        sound = torch.isfinite(finite).all()
        self._encoder.step(encoder_P * (self._learning.clip_norm / norm).clamp(max=1.0), sound, rate=rates["encoder"])
        self._gate.step(gate_P, sound, rate=rates["gate"])
        if self._tasks:
            self._tasks.step(gradients[num_shared:], sound, rate=rates["tasks"])
        tables = [network.item_in, network.item_out, network.user_in, network.attribute_in, network.attribute_out]
        features = slice(0, self._memory.catalogue.num_features)
        rows = [columns.rows, columns.rows, user_rows_U, features, features]
        # Where there are no attributes, there are no gradients of theirs.
        for table, where, gradient in zip(tables, rows, for_tables, strict=False):
            self._rows.step(table, where, gradient, sound, rate=rates["rows"])
        return norm, sound

    def state(self) -> dict[str, Any]:
        """Optimisers, what they adapt by, and sampler."""
        memory = self._memory
        return {
            "encoder": self._encoder.state(),
            "gate": self._gate.state(),
            "second_stage": self._reranking.state(),
            "adaptation": self._adaptation.state(),
            "loss_scale": self._scaler.state(),
            "sampler": self.sampler.state(),
            "tasks": self._tasks.state(memory.num_item_rows, memory.num_user_rows) if self._tasks else {},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._encoder.load_state(state["encoder"])
        self._gate.load_state(state["gate"])
        self._reranking.load_state(state["second_stage"])
        self._adaptation.load_state(state["adaptation"])
        self._scaler.load_state(state["loss_scale"])
        self.sampler.load_state(state["sampler"])
        if self._tasks:
            self._tasks.load_state(state["tasks"])


def is_target(look: Look, moments: Moments) -> Tensor:
    """[B, K] which candidate was taken."""
    return (look.rows_BK == moments.item_B[:, None]) & (moments.item_B > 0)[:, None]


def known(loss: Tensor, weight_B: Tensor) -> Tensor:
    """A loss as a figure: NaN, not 0, where none of its events weighs anything."""
    return torch.where(weight_B.sum() > 0, loss.detach(), torch.nan)


def logits(queries_ED: Tensor, outputs_CW: Tensor) -> Tensor:
    """[E, C] inner products with the output vectors, plus the items' biases."""
    return torch.addmm(outputs_CW[:, -1], queries_ED, outputs_CW[:, :-1].T)
