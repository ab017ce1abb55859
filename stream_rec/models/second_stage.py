"""The second stage: orders a few candidates by all that is known of each of them together.

A sum of statistics cannot say that an item is likely because it is new AND follows the last one; a small network over
what each source says of a candidate can. Candidates attend over the history besides. It starts as the first stage's own
order and learns to depart from it.

Shapes: B = moments, K = candidates, F = features of a candidate, X = features of the moment,
R = what a candidate hears from the history.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.blend import NUM_CLASSES, history_class
from stream_rec.models.candidates import Candidates
from stream_rec.models.history_attention import HistoryAttention
from stream_rec.models.weighing import HIDDEN, Weighing

CLIP = 5.0  # in standard deviations


class SecondStage(nn.Module):
    """Scores [B, K] = b[class] · first stage + w[class] · features + v · heard + MLP(features, moment, heard)."""

    def __init__(self, num_features: int, num_moment_features: int, attention: HistoryAttention | None = None) -> None:
        super().__init__()
        self.num_features, self.num_moment_features = num_features, num_moment_features
        self.trust = nn.Embedding(NUM_CLASSES, 1)
        nn.init.ones_(self.trust.weight)
        self.weighing = Weighing(num_features, num_moment_features)
        self.attention = attention
        if attention is not None:
            self.from_heard = nn.Linear(attention.num_heard, HIDDEN, bias=False)
            self.straight_heard = nn.Linear(attention.num_heard, 1, bias=False)
            # Zero: what is heard is noise until the attention has learnt whom to ask.
            nn.init.zeros_(self.from_heard.weight)
            nn.init.zeros_(self.straight_heard.weight)

    def forward(self, candidates: Candidates, features_BKF: Tensor, moment_BX: Tensor) -> Tensor:
        """[B, K] scores, -inf where ``first_BK`` is; ``features_BKF`` and ``moment_BX`` standardised."""
        first_BK = candidates.first_BK
        class_B = history_class(candidates.length_B)
        if self.attention is None:
            weighed_BK = self.weighing(features_BKF, moment_BX, class_B)
        else:
            heard_BKR = self.attention(candidates, moment_BX)
            weighed_BK = self.weighing(features_BKF, moment_BX, class_B, self.from_heard(heard_BKR))
            weighed_BK = weighed_BK + self.straight_heard(heard_BKR).squeeze(2)
        # Not -inf times a weight: its gradient is no number.
        empty_BK = torch.isinf(first_BK)
        kept_BK = self.trust(class_B) * first_BK.masked_fill(empty_BK, 0.0)
        scores_BK: Tensor = (kept_BK + weighed_BK).masked_fill(empty_BK, float("-inf"))
        return scores_BK


class Standardiser:
    """Running mean and variance of features; what comes out is clipped, since counts have long tails."""

    def __init__(self, num_features: int, device: torch.device, momentum: float = 0.02) -> None:
        self._momentum = momentum
        self._num_seen = torch.zeros((), device=device)
        self.mean_F = torch.zeros(num_features, device=device)
        self.variance_F = torch.ones(num_features, device=device)

    def observe(self, features_BKF: Tensor, is_real_BK: Tensor) -> None:
        """Take in a batch. The first ones count as in a plain mean, so that no wrong start lingers."""
        weight_BK1 = is_real_BK[:, :, None].float()
        total = weight_BK1.sum()
        mean_F = (features_BKF * weight_BK1).sum((0, 1)) / total.clamp_min(1.0)
        variance_F = ((features_BKF - mean_F).square() * weight_BK1).sum((0, 1)) / total.clamp_min(1.0)
        rate = torch.where(total > 0, torch.clamp(1.0 / (self._num_seen + 1.0), min=self._momentum), 0.0)
        self._num_seen += (total > 0).float()
        shift_F = mean_F - self.mean_F
        self.mean_F += rate * shift_F
        # Of two groups of unlike means the whole varies by more than each.
        self.variance_F += rate * (variance_F + (1.0 - rate) * shift_F.square() - self.variance_F)

    def __call__(self, features_BKF: Tensor) -> Tensor:
        """Standardised and clipped."""
        scaled_BKF = (features_BKF - self.mean_F) * (self.variance_F + 1e-6).rsqrt()
        return scaled_BKF.clamp(-CLIP, CLIP)

    def state(self) -> dict[str, Tensor]:
        """All of it."""
        return {"num_seen": self._num_seen.clone(), "mean": self.mean_F.clone(), "variance": self.variance_F.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._num_seen.copy_(state["num_seen"])
        self.mean_F.copy_(state["mean"])
        self.variance_F.copy_(state["variance"])
