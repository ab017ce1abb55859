"""Item-to-item transitions: what people took next, decayed, a bounded number of successors per item.

Shapes: I = item rows, M = successors kept, B = pairs of a batch. Updates have static shapes and never wait for
the device: pairs that fall together are summed into the first of them, the others write to row 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.decay import Landmark


class Transitions:
    """``successors_IM`` with weights in the frame of a landmark."""

    def __init__(self, capacity: int, max_neighbours: int, half_life_s: float, device: torch.device) -> None:
        self.landmark = Landmark([half_life_s], device)
        self.successors_IM = zeros(capacity + 1, max_neighbours, dtype=torch.int32, device=device)
        self.weights_IM = zeros(capacity + 1, max_neighbours, device=device)

    def update(self, previous_B: Tensor, item_B: Tensor, time_B: Tensor, weight_B: Tensor, newest_s: float) -> None:
        """Learn previous → item. Pairs with row 0 on either side, or weight 0, are left out.

        A successor that is not kept yet takes the place of the weakest one, if the batch gives it any weight.
        """
        factors = self.landmark.rebase(newest_s)
        if factors is not None:
            self.weights_IM *= factors[0]
        num_pairs = previous_B.shape[0]
        weight_B = weight_B * self.landmark.weights(time_B)[0] * ((previous_B > 0) & (item_B > 0))
        # Sum equal pairs into the first of each run of the sorted keys.
        key_B = previous_B * self.successors_IM.shape[0] + item_B
        key_B, order_B = torch.sort(key_B, stable=True)
        previous_B, item_B, weight_B = previous_B[order_B], item_B[order_B], weight_B[order_B]
        is_first_B = torch.ones(num_pairs, dtype=torch.bool, device=key_B.device)
        is_first_B[1:] = key_B[1:] != key_B[:-1]
        run_B = torch.cumsum(is_first_B, 0) - 1
        summed_B = torch.zeros_like(weight_B).index_add_(0, run_B, weight_B)[run_B]
        live_B = is_first_B & (summed_B > 0)

        # 1. Successors already kept gain weight.
        match_BM = (self.successors_IM[previous_B] == item_B[:, None]) & (self.weights_IM[previous_B] > 0)
        known_B = match_BM.any(1)
        gain_B = torch.where(live_B & known_B, summed_B, 0.0)
        slot_B = match_BM.to(torch.int8).argmax(1)
        self.weights_IM.index_put_((previous_B, slot_B), gain_B, accumulate=True)

        # 2. New ones replace the weakest.
        self._replace_weakest(previous_B, item_B, summed_B, live_B & ~known_B)

    def _replace_weakest(self, previous_B: Tensor, item_B: Tensor, weight_B: Tensor, new_B: Tensor) -> None:
        """The r-th new successor of an item takes the r-th weakest place.

        Heaviest first, since a large batch may bring a popular item more of them than there are places.
        """
        order_B = torch.argsort(torch.where(new_B, weight_B, -1.0), descending=True, stable=True)
        order_B = order_B[torch.argsort(previous_B[order_B], stable=True)]
        previous_B, item_B, weight_B, new_B = previous_B[order_B], item_B[order_B], weight_B[order_B], new_B[order_B]
        starts_group_B = torch.ones_like(new_B)
        starts_group_B[1:] = previous_B[1:] != previous_B[:-1]
        place_B = torch.arange(new_B.shape[0], device=new_B.device)
        rank_B = place_B - torch.cummax(torch.where(starts_group_B, place_B, 0), 0).values
        max_neighbours = self.successors_IM.shape[1]
        new_B = new_B & (rank_B < max_neighbours)
        weakest_BM = torch.argsort(self.weights_IM[previous_B], dim=1, stable=True)
        slot_B = weakest_BM.gather(1, rank_B.clamp(0, max_neighbours - 1)[:, None]).squeeze(1)
        row_B = torch.where(new_B, previous_B, 0)
        self.successors_IM[row_B, slot_B] = torch.where(new_B, item_B, 0).int()
        self.weights_IM[row_B, slot_B] = torch.where(new_B, weight_B, 0.0)

    def forget_items(self, rows: list[int]) -> None:
        """Retired rows lose their successors and are nobody's successor. One pass over the table."""
        rows_R = torch.tensor(rows, dtype=torch.int64, device=self.weights_IM.device)
        is_gone_I = torch.zeros(self.weights_IM.shape[0], dtype=torch.bool, device=self.weights_IM.device)
        is_gone_I[rows_R] = True
        self.weights_IM[rows_R] = 0.0
        self.weights_IM.masked_fill_(is_gone_I[self.successors_IM.long()], 0.0)

    def state(self, num_rows: int) -> dict[str, Any]:
        """All of it for item rows below ``num_rows``."""
        return {
            "successors": self.successors_IM[:num_rows].clone(),
            "weights": self.weights_IM[:num_rows].clone(),
            "landmark_s": self.landmark.time_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        num_rows = state["weights"].shape[0]
        self.weights_IM.zero_()
        self.weights_IM[:num_rows] = state["weights"].to(self.weights_IM.device)
        self.successors_IM[:num_rows] = state["successors"].to(self.successors_IM.device)
        self.landmark.time_s = state["landmark_s"]
