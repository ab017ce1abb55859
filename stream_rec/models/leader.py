"""The floor: which part orders the list, by what has proved best lately (follow the leader).

The parts are the second stage, the first, and every single statistic. For each length of history they are compared on
NDCG@10 of the events just before they are learnt; a list is never ordered by a part that another one has beaten over
that window. A part that hurts is faded out so, and goes on learning in the shadow.

Shapes: B = moments, K = candidates, P = parts, L = history classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.models.blend import NUM_CLASSES, history_class

HALF_LIFE_EVENTS = 10_000.0
DEPTH = 10
HEAD_START = 20.0  # NDCG that the second stage, which starts as the first, begins with: a leader by chance is none


class Leader:
    """Decayed NDCG@10 of each part for each class of history. Part 0 is the second stage, part 1 the first."""

    def __init__(self, num_parts: int, device: torch.device) -> None:
        self.ndcg_LP = torch.zeros(NUM_CLASSES, num_parts, device=device)
        self.ndcg_LP[:, 0] = HEAD_START
        self._classes_L = torch.arange(NUM_CLASSES, device=device)

    def scores(self, parts_BKP: Tensor, length_B: Tensor) -> Tensor:
        """[B, K] the scores of the part that leads."""
        leader_B = self.ndcg_LP.argmax(1)[history_class(length_B)]
        where_BK1 = leader_B[:, None, None].expand(-1, parts_BKP.shape[1], 1)
        return parts_BKP.gather(2, where_BK1).squeeze(2)

    def observe(self, parts_BKP: Tensor, is_target_BK: Tensor, weight_B: Tensor, length_B: Tensor) -> Tensor:
        """Compare the parts on what happened; weight 0 leaves a moment out. Ties count against a part.

        Returns [B] NDCG@10 of the part that led until then, 0 for what is left out.
        """
        target_BP = torch.where(is_target_BK[:, :, None], parts_BKP, 0.0).sum(1)
        ahead_BP = (~(parts_BKP < target_BP[:, None, :])).sum(1) - 1
        judged_B = (weight_B > 0) & is_target_BK.any(1)
        # Left out by choice, not by a factor 0: where the item is no candidate, what is reckoned here is no number.
        counts_BP = (ahead_BP < DEPTH) & judged_B[:, None]
        gain_BP = torch.where(counts_BP, torch.log2(ahead_BP.float() + 2.0).reciprocal(), 0.0)
        class_BL = (history_class(length_B)[:, None] == self._classes_L).float()
        led_B = gain_BP.gather(1, self.ndcg_LP.argmax(1)[history_class(length_B)][:, None])[:, 0]
        self.ndcg_LP *= 2.0 ** (-weight_B.shape[0] / HALF_LIFE_EVENTS)
        self.ndcg_LP += class_BL.T @ gain_BP
        return led_B

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {"ndcg": self.ndcg_LP.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self.ndcg_LP.copy_(state["ndcg"])
