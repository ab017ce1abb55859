"""How the heads of the tasks are learnt: their losses made one, and how much of it reaches the body.

Shapes: B = moments, T = tasks, D = dimension, P = parameters of the heads and of their balance, flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stream_rec.config import LearningSettings
from stream_rec.learning.balancing import UncertaintyBalance, task_means
from stream_rec.learning.optimisers import make_dense_optimiser
from stream_rec.models.tasks import TaskHeads
from stream_rec.state.moments import Moments


class TaskLearning:
    """Losses of the tasks and steps of their heads."""

    def __init__(self, learning: LearningSettings, heads: TaskHeads, device: torch.device) -> None:
        self._heads = heads
        self._by_uncertainty = learning.task_balance == "uncertainty"
        self._share = learning.task_share
        with device:
            self._balance = UncertaintyBalance(len(heads.names))
        module = nn.ModuleList([heads, self._balance])
        # What they are, but not how much they count in a list: that may change from one start to the next.
        self._of = {name: task.model_dump(exclude={"weight"}) for name, task in learning.tasks.items()}
        self._optimiser = make_dense_optimiser(learning, module, weight_decay=0.0)
        self.parameters = self._optimiser.parameters

    def loss(self, moments: Moments, query_BD: Tensor, vectors_BD: Tensor) -> tuple[Tensor, Tensor]:
        """What the tasks add to the loss, and their losses [T] as figures. ``vectors_BD`` are of the items taken.

        Effects, whatever becomes of the step: 1. everybody's averages take the batch in; 2. those of its items and
        users do, once they have been read.

        A figure is relative: 1 is what always saying the average costs; NaN where no event said anything.
        The list's own loss keeps its weight, and its share of the gradient with it: the list is what all of this is
        for, and a task that is switched on must not slow it down. The heads themselves learn at their full rate.
        """
        labels_BT, items_B = moments.labels_BT, moments.item_B
        with torch.no_grad():
            self._heads.scales.observe(labels_BT)
            constant_T = self._heads.scales.constant_loss()
        said_BT = (~torch.isnan(labels_BT)).float()
        body = self._shared(query_BD), self._shared(vectors_BD)[:, None]
        scores_BT = self._heads(*body, moments.user_B, items_B[:, None])[:, 0]
        self._heads.observe(labels_BT, moments.user_B, items_B)
        losses_BT = self._heads.losses(scores_BT, labels_BT)
        means_T, counts_T = task_means(losses_BT, said_BT)
        relative_T = means_T / constant_T
        figures_T = torch.where(counts_T > 0, relative_T.detach(), torch.nan)
        if not self._by_uncertainty:
            return (losses_BT * said_BT).sum() / len(labels_BT), figures_T
        # Half of it, as of a squared error: a task that knows the average alone rests at a weight of one.
        return self._balance(relative_T / 2, counts_T), figures_T

    def _shared(self, body: Tensor) -> Tensor:
        """As it is; of the gradient only the share goes back."""
        return torch.lerp(body.detach(), body, self._share)

    def step(self, gradients: Sequence[Tensor], sound: Tensor, rate: float) -> None:
        """Move the heads and their balance where ``sound``."""
        self._optimiser.step(torch.cat([gradient.reshape(-1) for gradient in gradients]), sound, rate=rate)

    def state(self, num_items: int, num_users: int) -> dict[str, Any]:
        """Heads, balance, what the optimiser remembers, averages of rows below these; and whose they are."""
        return {
            "of": self._of,
            "optimiser": self._optimiser.state(),
            "scales": self._heads.scales.state(),
            "items": self._heads.items.state(num_items),
            "users": self._heads.users.state(num_users),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``. Of other tasks than those that were saved the heads begin anew."""
        if state.get("of") == self._of:
            self._optimiser.load_state(state["optimiser"])
            for name in ("scales", "items", "users"):
                getattr(self._heads, name).load_state(state[name])
