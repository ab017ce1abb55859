"""Training of the second stage: listwise softmax over the candidates, on the batch and on an older one.

Shapes: B = moments, K = candidates, F = features of a candidate, X = features of the moment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.config import LearningSettings
from stream_rec.learning.objectives import weighted_mean
from stream_rec.learning.optimisers import AdamW
from stream_rec.models.second_stage import SecondStage


def listwise_loss(scores_BK: Tensor, is_target_BK: Tensor, weight_B: Tensor) -> Tensor:
    """Softmax cross-entropy of the item that was taken among its candidates; moments without it are left out."""
    found_B = is_target_BK.any(1)
    target_B = is_target_BK.to(torch.int8).argmax(1)
    losses_B = torch.logsumexp(scores_BK, dim=1) - scores_BK.gather(1, target_B[:, None])[:, 0]
    return weighted_mean(torch.where(found_B, losses_B, 0.0), weight_B * found_B)


class Reranking:
    """Steps of the second stage, guarded as the first's."""

    def __init__(self, learning: LearningSettings, stage: SecondStage) -> None:
        self._learning = learning
        self._stage = stage
        self._optimiser = AdamW(stage, weight_decay=learning.weight_decay)

    def step(
        self,
        first_BK: Tensor,
        features_BKF: Tensor,
        moment_BX: Tensor,
        length_B: Tensor,
        is_target_BK: Tensor,
        weight_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One step. Returns the loss and whether it was sound."""
        scores_BK = self._stage(first_BK, features_BKF, moment_BX, length_B)
        loss = listwise_loss(scores_BK, is_target_BK, weight_B)
        grads = torch.autograd.grad(loss, self._optimiser.parameters)
        flat_P = torch.cat([g.reshape(-1) for g in grads])
        norm = flat_P.norm()
        sound = torch.isfinite(norm) & torch.isfinite(loss)
        flat_P = flat_P * (self._learning.clip_norm / norm).clamp(max=1.0)
        self._optimiser.step(flat_P, sound, rate=self._learning.second_stage_rate)
        return loss.detach(), sound

    def state(self) -> dict[str, Any]:
        """Parameters and moments."""
        return {"optimiser": self._optimiser.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._optimiser.load_state(state["optimiser"])
