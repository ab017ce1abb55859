"""Training of the second stage: listwise softmax over the candidates, on the batch and on an older one.

Shapes: B = moments, K = candidates, T = candidates that are learnt from, P = places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stream_rec.config import Settings
from stream_rec.learning.objectives import weighted_mean
from stream_rec.learning.optimisers import AdamW
from stream_rec.learning.replay import Exams, ReplayBuffer
from stream_rec.models.network import Network
from stream_rec.state.exposures import MAX_PLACE

PLACE_RATE = 0.05  # of the bias of places: few numbers, each with many events


def listwise_loss(scores_BK: Tensor, is_target_BK: Tensor, weight_B: Tensor) -> Tensor:
    """Softmax cross-entropy of the item that was taken among its candidates; moments without it are left out."""
    found_B = is_target_BK.any(1)
    target_B = is_target_BK.to(torch.int8).argmax(1)
    losses_B = torch.logsumexp(scores_BK, dim=1) - scores_BK.gather(1, target_B[:, None])[:, 0]
    return weighted_mean(torch.where(found_B, losses_B, 0.0), weight_B * found_B)


def hardest(exams: Exams, scores_BK: Tensor, num_kept: int) -> Exams:
    """The item that was taken and the candidates with the highest scores: the others' gradient is next to nothing."""
    if scores_BK.shape[1] <= num_kept:
        return exams
    ranked = torch.topk(scores_BK.masked_fill(exams.is_target_BK, float("inf")), num_kept, dim=1, sorted=False)
    kept_BT = ranked.indices
    return Exams(exams.candidates.only(kept_BT), exams.is_target_BK.gather(1, kept_BT), exams.weight_B)


class PlaceBias(nn.Module):
    """What a place is worth by itself, whatever stands there; all alike at the start."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.bias_P = nn.Parameter(torch.zeros(MAX_PLACE + 1, device=device))

    def forward(self, places_BK: Tensor) -> Tensor:
        """[B, K] what is added to the scores of items that stand at these places."""
        return self.bias_P[places_BK]


class Reranking:
    """Steps of the second stage, guarded as the first's."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self._learning = settings.learning
        self._seed = settings.worker.seed
        self._network = network
        self._optimiser = AdamW(network.second_stage, weight_decay=settings.learning.weight_decay)
        self._buffer = ReplayBuffer(
            settings.learning.replay_events,
            num_candidates=settings.learning.exam_candidates,
            num_features=network.second_stage.num_features,
            num_moment_features=network.second_stage.num_moment_features,
            history_length=settings.state.history_length,
            attends=network.second_stage.attention is not None,
            device=network.device,
        )
        self._place_bias = PlaceBias(network.device)
        self._bias_optimiser = AdamW(self._place_bias, weight_decay=0.0)

    def learn(self, exams: Exams, scores_BK: Tensor, batch: int, rate: float) -> None:
        """Learn from a batch; of the candidates from those that the stage's own ``scores_BK`` put first.

        Effects: 1. scales of features take it in; 2. a step on the batch; 3. a step on as many old exams; 4. the
        batch joins the old ones. A step whose loss or gradient is not finite is left out.
        """
        with torch.no_grad():
            exams = hardest(exams, scores_BK, self._learning.exam_candidates)
            candidates = exams.candidates
            is_real_BT = torch.isfinite(candidates.first_BK)
            self._network.standardise_candidates.observe(candidates.features_BKF, is_real_BT)
            self._network.standardise_moments.observe(candidates.moment_BX[:, None, :], is_real_BT.any(1, keepdim=True))
        self._step(exams, rate)
        old = self._buffer.draw(exams.weight_B.shape[0], self._seed, batch)
        if old is not None:
            self._step(old, rate)
        self._buffer.add(exams)

    def learn_from_shown(self, exams: Exams, places_BK: Tensor, rate: float) -> None:
        """One step on lists as they were shown: what was not taken is what the item that was taken is told from.

        What stands first is taken more, whatever it is. Debiased, a bias of the place is added while learning and
        left out of every list that is made (Zhao et al., "Recommending what video to watch next", RecSys 2019).
        """
        scores_BK = self._network.rescore(exams.candidates)
        if self._learning.impressions != "debiased":
            self._move(listwise_loss(scores_BK, exams.is_target_BK, exams.weight_B), rate)
            return
        loss = listwise_loss(scores_BK + self._place_bias(places_BK), exams.is_target_BK, exams.weight_B)
        (gradient_P,) = torch.autograd.grad(loss, self._bias_optimiser.parameters, retain_graph=True)
        sound = torch.isfinite(gradient_P.norm()) & torch.isfinite(loss)
        self._move(loss, rate)
        self._bias_optimiser.step(gradient_P, sound, rate=PLACE_RATE)

    def _step(self, exams: Exams, rate: float) -> None:
        scores_BK = self._network.rescore(exams.candidates)
        self._move(listwise_loss(scores_BK, exams.is_target_BK, exams.weight_B), rate)

    def _move(self, loss: Tensor, rate: float) -> None:
        self._optimiser.descend(loss, rate=rate, clip_norm=self._learning.clip_norm)

    def state(self) -> dict[str, Any]:
        """Parameters, moments, scales and old exams."""
        return {
            "optimiser": self._optimiser.state(),
            "candidate_scales": self._network.standardise_candidates.state(),
            "moment_scales": self._network.standardise_moments.state(),
            "buffer": self._buffer.state(),
            "place_bias": self._bias_optimiser.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._optimiser.load_state(state["optimiser"])
        self._network.standardise_candidates.load_state(state["candidate_scales"])
        self._network.standardise_moments.load_state(state["moment_scales"])
        self._buffer.load_state(state["buffer"])
        self._bias_optimiser.load_state(state["place_bias"])
