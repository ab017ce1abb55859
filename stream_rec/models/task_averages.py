"""Averages of what the tasks are to say: everybody's, and those of each item and of each user.

Counting knows at once what a network takes thousands of steps to find: that this one is bought by nobody, and that he
gives five stars to everything.

Shapes: B = moments, T = tasks, R = rows asked for, I = rows of a table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros

HALF_LIFE_EVENTS = 20_000.0  # of a task's own events, in what is held for its average
CLIP = 5.0  # in standard deviations: one absurd value must not outweigh a day
PRIOR = 0.5  # events of either outcome that a chance starts from, so that it is neither 0 nor 1
SHRINK = 10.0  # events that a row's average needs to be worth as much as everybody's
MEMORY = 500.0  # events of a row that count: what came before fades


class TaskScales:
    """Running mean and variance of what the tasks are to say; of something that happens the mean is its chance.

    Heads learn what differs from it. A bias that has to learn by itself that one event in a thousand is a purchase is
    busy with that for thousands of steps, and stars and seconds would need rates of their own.
    """

    def __init__(self, is_value_T: Tensor) -> None:
        self.is_value_T = is_value_T
        self._num_seen_T = torch.zeros_like(is_value_T, dtype=torch.float32)
        self._mean_T = torch.zeros_like(self._num_seen_T)
        self._variance_T = torch.ones_like(self._num_seen_T)

    def observe(self, labels_BT: Tensor) -> None:
        """Take in a batch, NaN where a moment says nothing. The first ones count as in a plain mean."""
        said_BT = ~torch.isnan(labels_BT)
        labels_BT = torch.where(said_BT, labels_BT, 0.0)
        counts_T = said_BT.sum(0).float()
        num_T = counts_T.clamp_min(1.0)
        mean_T = labels_BT.sum(0) / num_T
        variance_T = (torch.where(said_BT, labels_BT - mean_T, 0.0)).square().sum(0) / num_T
        self._num_seen_T = self._num_seen_T * torch.exp2(-counts_T / HALF_LIFE_EVENTS) + counts_T
        rate_T = counts_T / self._num_seen_T.clamp_min(1.0)
        shift_T = mean_T - self._mean_T
        self._mean_T = self._mean_T + rate_T * shift_T
        self._variance_T = self._variance_T + rate_T * (
            variance_T + (1.0 - rate_T) * shift_T.square() - self._variance_T
        )

    def chance(self) -> Tensor:
        """[T] how often it happens, above 0 and below 1; without meaning for values."""
        return (self._mean_T * self._num_seen_T + PRIOR) / (self._num_seen_T + 2 * PRIOR)

    def log_odds(self) -> Tensor:
        """[T] of the chance; 0 for values."""
        return torch.where(self.is_value_T, 0.0, torch.logit(self.chance().clamp(0.0, 1.0)))

    def standardised(self, labels_BT: Tensor) -> Tensor:
        """[B, T] values in standard deviations from their mean, clipped; what happens as it is."""
        values_BT = ((labels_BT - self._mean_T) / self._deviation()).clamp(-CLIP, CLIP)
        return torch.where(self.is_value_T, values_BT, labels_BT)

    def _deviation(self) -> Tensor:
        # A variance of nothing but rounding would make noise of values that are all the same.
        return (self._variance_T + 1e-6 * (1.0 + self._mean_T.square())).sqrt()

    def offsets(self, sums_RT: Tensor, counts_RT: Tensor) -> Tensor:
        """[R, T] how far averages over a few events are from everybody's, as scores: log-odds, standard deviations.

        As if SHRINK average events had come before them; 0 where there were none.
        """
        chance_T = self.chance()
        chance_RT = (sums_RT + SHRINK * chance_T) / (counts_RT + SHRINK)
        value_RT = (sums_RT - counts_RT * self._mean_T) / ((counts_RT + SHRINK) * self._deviation())
        # Sums are of values where it is one, and then no chance comes of them.
        happens_RT = torch.logit(chance_RT.clamp(1e-7, 1.0 - 1e-7)) - torch.logit(chance_T.clamp(1e-7, 1.0 - 1e-7))
        return torch.where(self.is_value_T, value_RT.clamp(-CLIP, CLIP), happens_RT)

    def constant_loss(self) -> Tensor:
        """[T] loss (nats) of always saying the average: entropy of the chance; half the variance, which is one."""
        chance_T = self.chance()
        entropy_T = -torch.xlogy(chance_T, chance_T) - torch.xlogy(1.0 - chance_T, 1.0 - chance_T)
        return torch.where(self.is_value_T, 0.5, entropy_T)

    def state(self) -> dict[str, Tensor]:
        """All of it."""
        return {
            "num_seen": self._num_seen_T.clone(),
            "mean": self._mean_T.clone(),
            "variance": self._variance_T.clone(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of ``state``."""
        device = self._mean_T.device
        self._num_seen_T = state["num_seen"].to(device, copy=True)
        self._mean_T = state["mean"].to(device, copy=True)
        self._variance_T = state["variance"].to(device, copy=True)


class RowAverages:
    """Sums and counts of labels by row, for as many of its newest events as ``MEMORY`` says."""

    def __init__(self, num_rows: int, num_tasks: int, device: torch.device) -> None:
        self._sums_IT = zeros(num_rows, num_tasks, device=device)
        self._counts_IT = zeros(num_rows, num_tasks, device=device)

    def observe(self, rows_B: Tensor, labels_BT: Tensor) -> None:
        """Take in a batch; NaN says nothing, and row 0 is nobody."""
        said_BT = ~torch.isnan(labels_BT) & (rows_B > 0)[:, None]
        self._sums_IT.index_add_(0, rows_B, torch.where(said_BT, labels_BT, 0.0))
        self._counts_IT.index_add_(0, rows_B, said_BT.float())
        kept_BT = (MEMORY / self._counts_IT[rows_B].clamp_min(1.0)).clamp(max=1.0)
        # A row that stands several times in the batch gets the same written every time.
        self._sums_IT[rows_B], self._counts_IT[rows_B] = (
            self._sums_IT[rows_B] * kept_BT,
            self._counts_IT[rows_B] * kept_BT,
        )

    def offsets(self, rows_R: Tensor, scales: TaskScales) -> Tensor:
        """[R, T] (R of any shape) how far each row's averages are from everybody's; 0 for who is not known."""
        return scales.offsets(self._sums_IT[rows_R], self._counts_IT[rows_R])

    def forget(self, rows_R: Tensor) -> None:
        """Rows got new owners."""
        self._sums_IT[rows_R] = 0.0
        self._counts_IT[rows_R] = 0.0

    def state(self, num_rows: int) -> dict[str, Tensor]:
        """Rows below ``num_rows``."""
        return {"sums": self._sums_IT[:num_rows].clone(), "counts": self._counts_IT[:num_rows].clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of ``state``."""
        num_rows = len(state["sums"])
        self._sums_IT[:num_rows] = state["sums"].to(self._sums_IT.device)
        self._counts_IT[:num_rows] = state["counts"].to(self._counts_IT.device)
