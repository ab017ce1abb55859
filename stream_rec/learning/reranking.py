"""Training of the second stage: listwise softmax over the candidates, on the batch and on an older one.

Shapes: B = moments, K = candidates, T = candidates that are learnt from, P = all parameters of the stage, flat.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.learning.objectives import weighted_mean
from stream_rec.learning.optimisers import AdamW
from stream_rec.learning.replay import Exams, ReplayBuffer
from stream_rec.models.network import Network


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

    def learn(self, exams: Exams, scores_BK: Tensor, batch: int) -> None:
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
        self._step(exams)
        old = self._buffer.draw(exams.weight_B.shape[0], self._seed, batch)
        if old is not None:
            self._step(old)
        self._buffer.add(exams)

    def _step(self, exams: Exams) -> None:
        scores_BK = self._network.rescore(exams.candidates)
        loss = listwise_loss(scores_BK, exams.is_target_BK, exams.weight_B)
        gradients = torch.autograd.grad(loss, self._optimiser.parameters)
        flat_P = torch.cat([gradient.reshape(-1) for gradient in gradients])
        norm = flat_P.norm()
        sound = torch.isfinite(norm) & torch.isfinite(loss)
        flat_P = flat_P * (self._learning.clip_norm / norm).clamp(max=1.0)
        self._optimiser.step(flat_P, sound, rate=self._learning.second_stage_rate)

    def state(self) -> dict[str, Any]:
        """Parameters, moments, scales and old exams."""
        return {
            "optimiser": self._optimiser.state(),
            "candidate_scales": self._network.standardise_candidates.state(),
            "moment_scales": self._network.standardise_moments.state(),
            "buffer": self._buffer.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._optimiser.load_state(state["optimiser"])
        self._network.standardise_candidates.load_state(state["candidate_scales"])
        self._network.standardise_moments.load_state(state["moment_scales"])
        self._buffer.load_state(state["buffer"])
