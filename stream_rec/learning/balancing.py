"""Losses of several tasks made one, so that neither how often a task occurs nor how large its loss is decides alone.

Shapes: B = moments, T = tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LIMIT = 3.0  # of a log-variance: weights stay within e^±3


def task_means(losses_BT: Tensor, weights_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Each task's loss [T] as a mean over its own events, and how many these are [T], by weight.

    ``weights_BT`` is 0 where a moment is no event of the task; what stands in ``losses_BT`` there does not matter. A
    task without events has loss 0. A mean over all events would give a task that is one event in a thousand a
    thousandth of a say.
    """
    losses_BT = torch.where(weights_BT > 0, losses_BT, 0.0)
    counts_T = weights_BT.sum(0)
    means_T = (losses_BT * weights_BT).sum(0) / torch.where(counts_T > 0, counts_T, 1.0)
    return means_T, counts_T


class UncertaintyBalance(nn.Module):
    """Weights by learned homoscedastic uncertainty (Kendall, Gal & Cipolla, CVPR 2018).

    A task's loss L becomes exp(-s)·L + s/2, with a log-variance s of its own that is learnt with everything else: at
    rest exp(-s) is 1 / 2L, so that tasks have a like say whatever the unit and the difficulty of each. Losses are to
    be negative log-likelihoods at unit variance: a cross-entropy, or half a squared error.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.raw_T = nn.Parameter(torch.zeros(num_tasks, device=torch.get_default_device()))

    def log_variances(self) -> Tensor:
        """[T] within ±LIMIT: a task whose loss goes to nothing must not come to outweigh all others."""
        return LIMIT * torch.tanh(self.raw_T / LIMIT)

    def weights(self) -> Tensor:
        """[T] what each task's loss is multiplied with."""
        return torch.exp(-self.log_variances())

    def forward(self, losses_T: Tensor, counts_T: Tensor, importance_T: Tensor | None = None) -> Tensor:
        """The one loss. Tasks without events (``counts_T`` 0) contribute nothing, and neither do their variances.

        ``importance_T`` multiplies the say that a task has after balancing.
        """
        present_T = counts_T > 0
        terms_T = self.weights() * torch.where(present_T, losses_T, 0.0) + self.log_variances() / 2
        if importance_T is not None:
            terms_T = terms_T * importance_T
        return torch.where(present_T, terms_T, 0.0).sum()
