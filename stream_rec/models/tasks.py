"""What is expected of an item once it is taken: a head for each task, on the body that the list has.

The list says how likely an item is next. A task says what comes of it then: whether the event will be of some types
(it is bought, it is liked), or what value it will have (stars, seconds). A head reads the encoder's query and the
item's input vector, so that what all of them need is learnt once, from all.

Shapes: B = moments, K = candidates, T = tasks, D = dimension, W = D + 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.config import Settings
from stream_rec.models.task_averages import RowAverages, TaskScales
from stream_rec.settings_tasks import TaskSettings


class TaskHeads(nn.Module):
    """Score [B, K, T] = (map of the query) · (item's vector, 1) + what the averages of item and user are off by.

    Bilinear, with what query and item say each alone. The map starts at zero: the averages are said of everything, and
    the body is left alone. Build it where its device is the default one.
    """

    def __init__(self, tasks: Mapping[str, TaskSettings], dimension: int, *, max_items: int, max_users: int) -> None:
        super().__init__()
        device = torch.get_default_device()
        self.names = tuple(tasks)
        self.is_weighted = any(task.weight > 0 for task in tasks.values())
        self._weight_T = torch.tensor([task.weight for task in tasks.values()], device=device)
        self.scales = TaskScales(torch.tensor([task.kind == "value" for task in tasks.values()], device=device))
        self.items = RowAverages(max_items + 1, len(tasks), device)
        self.users = RowAverages(max_users + 1, len(tasks), device)
        self.of_item_T = nn.Parameter(torch.ones(len(tasks), device=device))
        self.of_user_T = nn.Parameter(torch.ones(len(tasks), device=device))
        width = len(tasks) * (dimension + 1)
        self.weight = nn.Parameter(torch.zeros(width, dimension, device=device))
        self.bias = nn.Parameter(torch.zeros(width, device=device))

    def forward(self, query_BD: Tensor, vectors_BKD: Tensor, users_B: Tensor, items_BK: Tensor) -> Tensor:
        """[B, K, T] log-odds of what happens against the average; values in standard deviations from it.

        ``users_B`` and ``items_BK`` are their rows, ``vectors_BKD`` the items' input vectors.
        """
        heads_BTW = F.linear(query_BD, self.weight, self.bias).view(len(query_BD), len(self.names), -1)
        of_items_BKT = vectors_BKD @ heads_BTW[:, :, :-1].transpose(1, 2)
        of_items_BKT = of_items_BKT + self.of_item_T * self.items.offsets(items_BK, self.scales)
        of_user_BT = heads_BTW[:, :, -1] + self.of_user_T * self.users.offsets(users_B, self.scales)
        scores_BKT: Tensor = of_items_BKT + of_user_BT[:, None]
        return scores_BKT

    def observe(self, labels_BT: Tensor, users_B: Tensor, items_B: Tensor) -> None:
        """Averages of items and users take a batch in; everybody's (``scales``) do before it is learnt from."""
        self.items.observe(items_B, labels_BT)
        self.users.observe(users_B, labels_BT)

    def losses(self, scores_BT: Tensor, labels_BT: Tensor) -> Tensor:
        """[B, T] negative log-likelihoods (nats); NaN labels give numbers without meaning, but finite ones.

        Cross-entropy of what happens; of values half the squared error at a variance of one.
        """
        labels_BT = self.scales.standardised(torch.nan_to_num(labels_BT))
        happens_BT = F.binary_cross_entropy_with_logits(
            scores_BT + self.scales.log_odds(), labels_BT.clamp(0.0, 1.0), reduction="none"
        )
        return torch.where(self.scales.is_value_T, 0.5 * (scores_BT - labels_BT).square(), happens_BT)

    def promise(self, scores_BKT: Tensor) -> Tensor:
        """[B, K, T] between 0 and 1: the chance that it happens, or that the value comes out above its average."""
        chance_BKT = torch.sigmoid(scores_BKT + self.scales.log_odds())
        return torch.where(self.scales.is_value_T, torch.special.ndtr(scores_BKT), chance_BKT)

    def log_worth(self, scores_BKT: Tensor) -> Tensor:
        """[B, K] log of what taking the item is worth: 1, and each task's weight times its promise."""
        return torch.log1p(self.promise(scores_BKT) @ self._weight_T)


def make_heads(settings: Settings) -> TaskHeads | None:
    """Heads for the tasks that the settings name; None where they name none."""
    state, tasks = settings.state, settings.learning.tasks
    if not tasks:
        return None
    return TaskHeads(tasks, settings.model.dimension, max_items=state.max_items, max_users=state.max_users)
