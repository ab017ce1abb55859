"""How much the attention's logit weighs on top of the statistics, by what has proved best lately.

For each length of history (none, 1–4, 5 and more) the candidate weights are compared on NDCG@20 of the events
just before they are learnt, with a half-life in events; the leader is used (follow the leader). Weight 0 is among
them: a network that hurts is left out until it helps, and goes on learning meanwhile.

Shapes: B = moments, L = history classes, G = candidate weights, I = items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WEIGHTS = (0.0, 0.2, 0.5, 1.0)
HALF_LIFE_EVENTS = 20_000.0
DEPTH = 20
NUM_CLASSES = 3  # of history: none, 1–4, 5 and more


def history_class(length_B: Tensor) -> Tensor:
    """[B] class of a length of history."""
    return (length_B > 0).long() + (length_B > 4).long()


class Blend:
    """Decayed NDCG of each weight for each class of history."""

    def __init__(self, device: torch.device) -> None:
        self._weights_G = torch.tensor(WEIGHTS, device=device)
        self._classes_L = torch.arange(NUM_CLASSES, device=device)
        self._ndcg_LG = torch.zeros(NUM_CLASSES, len(WEIGHTS), device=device)

    def weight(self, length_B: Tensor) -> Tensor:
        """[B] weight of the network's logit; 0 for a start."""
        return self._weights_G[self._ndcg_LG.argmax(1)][history_class(length_B)]

    def observe(
        self, base_BI: Tensor, residual_BI: Tensor, target_B: Tensor, judged_B: Tensor, length_B: Tensor
    ) -> None:
        """Compare the weights on what happened. -inf in ``base_BI`` is out of the list; ties count against us."""
        target_B1 = target_B[:, None]
        base_target_B1, residual_target_B1 = base_BI.gather(1, target_B1), residual_BI.gather(1, target_B1)
        is_candidate_B = torch.isfinite(base_target_B1[:, 0]) & judged_B
        gains = []
        for weight in WEIGHTS:
            threshold_B1 = base_target_B1 + weight * residual_target_B1
            # Not "at least": a score that is no number counts against us as well.
            ahead_B = (~(base_BI.add(residual_BI, alpha=weight) < threshold_B1)).sum(1) - 1
            gain_B = torch.where(ahead_B < DEPTH, 1.0 / torch.log2(ahead_B.clamp_min(0).float() + 2.0), 0.0)
            gains.append(torch.where(is_candidate_B, gain_B, 0.0))
        class_BL = (history_class(length_B)[:, None] == self._classes_L).float()
        self._ndcg_LG *= 2.0 ** (-target_B.shape[0] / HALF_LIFE_EVENTS)
        self._ndcg_LG += class_BL.T @ torch.stack(gains, dim=1)

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {"ndcg": self._ndcg_LG.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._ndcg_LG.copy_(state["ndcg"])
