"""What goes with what: decayed weights of ordered pairs of items, a bounded number of neighbours per item.

One table serves transitions (pairs of consecutive items), sequential rules (pairs up to a few items apart, weighted
by distance; Ludewig & Jannach, UMUAI 2018) and co-occurrence for item-kNN (pairs within a window, both ways; Sarwar
et al., WWW 2001). What differs is which pairs are counted, and how a row is read.

A row is set-associative, as a processor's cache is: a neighbour may stand in one of WAYS places that follow from its
number, and a new one takes the weakest of them. A pair then costs WAYS comparisons instead of a row's length, so
that twenty pairs an event can be counted. Updates have static shapes and never wait for the device.

Shapes: I = item rows, M = neighbours kept, W = half-lives, P = pairs of a batch, V = ways.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.decay import Landmark

WAYS = 8


class Neighbours:
    """``neighbours_IM`` with weights in the frame of a landmark, one weight for each half-life."""

    def __init__(
        self,
        capacity: int,
        max_neighbours: int,
        half_lives_s: list[float],
        device: torch.device,
        *,
        num_neighbours: int | None = None,
    ) -> None:
        """``num_neighbours`` is the largest number of a neighbour, where it is not an item that has a row itself."""
        self.landmark = Landmark(half_lives_s, device)
        self._num_sets = max(1, max_neighbours // WAYS)
        self._num_numbers = (capacity if num_neighbours is None else num_neighbours) + 1
        width = self._num_sets * WAYS
        self.neighbours_IM = zeros(capacity + 1, width, dtype=torch.int32, device=device)
        self.weights_WIM = zeros(len(half_lives_s), capacity + 1, width, device=device)
        # How often each item was counted, in the same frame: what a cosine divides by.
        self.mass_WI = zeros(len(half_lives_s), capacity + 1, device=device)

    def rebase(self, newest_s: float) -> list[float] | None:
        """Move the landmark where it must; before ``count`` and ``update`` of a batch.

        What else is kept in its frame is to be multiplied with what is returned, by half-life, if anything is.
        """
        factors = self.landmark.rebase(newest_s)
        if factors is not None:
            factors_W = torch.tensor(factors, device=self.mass_WI.device)
            self.weights_WIM *= factors_W[:, None, None]
            self.mass_WI *= factors_W[:, None]
        return factors

    def count(self, item_B: Tensor, time_B: Tensor, weight_B: Tensor) -> None:
        """Count items as such; weight 0 and row 0 count for nothing."""
        self.mass_WI.index_add_(1, item_B, self.landmark.weights(time_B) * (weight_B * (item_B > 0)))

    def update(self, row_P: Tensor, neighbour_P: Tensor, time_P: Tensor, weight_P: Tensor) -> None:
        """Add ``weight_P`` to the pairs row → neighbour. Pairs with row 0 on either side, or weight 0, are left out.

        A neighbour that is not kept yet takes the weakest of its places; at most WAYS of one batch find room there.
        """
        weight_P = weight_P * ((row_P > 0) & (neighbour_P > 0))
        set_P = self._set(neighbour_P)
        # Pairs that fall together are summed into the first of their run; those of one set of places stand together.
        num_numbers = self._num_numbers
        key_P, order_P = torch.sort((row_P * self._num_sets + set_P) * num_numbers + neighbour_P)
        row_P, neighbour_P, set_P = row_P[order_P], neighbour_P[order_P], set_P[order_P]
        weight_WP = self.landmark.weights(time_P[order_P]) * weight_P[order_P]
        is_first_P = starts_run(key_P)
        run_P = torch.cumsum(is_first_P, 0) - 1
        summed_WP = torch.zeros_like(weight_WP).index_add_(1, run_P, weight_WP)[:, run_P]
        live_P = is_first_P & (summed_WP[-1] > 0)

        # 1. Neighbours already kept gain weight.
        place_PV = (set_P * WAYS)[:, None] + torch.arange(WAYS, device=row_P.device)
        kept_PV = self.weights_WIM[-1, row_P[:, None], place_PV]
        match_PV = (self.neighbours_IM[row_P[:, None], place_PV] == neighbour_P[:, None]) & (kept_PV > 0)
        known_P = match_PV.any(1)
        gain_WP = torch.where(live_P & known_P, summed_WP, 0.0)
        place_P = place_PV.gather(1, match_PV.to(torch.int8).argmax(1, keepdim=True))[:, 0]
        # Row 0 is nobody's: what is left out adds 0 there.
        row_or_none_P = torch.where(live_P & known_P, row_P, 0)
        self._flat().index_add_(1, row_or_none_P * self.width + place_P, gain_WP)

        # 2. New ones replace the weakest: the r-th new one of a set takes its r-th weakest place.
        new_P = live_P & ~known_P
        starts_set_P = starts_run(key_P // num_numbers)
        num_new_P = torch.cumsum(new_P, 0)
        before_P = torch.cummax(torch.where(starts_set_P, num_new_P - new_P.long(), 0), 0).values
        rank_P = num_new_P - 1 - before_P
        new_P = new_P & (rank_P < WAYS)
        # What gained in step 1 is read again, so that it is not the weakest for having been so before.
        weakest_PV = torch.argsort(self.weights_WIM[-1, row_P[:, None], place_PV], dim=1, stable=True)
        place_P = place_PV.gather(1, weakest_PV.gather(1, rank_P.clamp(0, WAYS - 1)[:, None]))[:, 0]
        row_or_none_P = torch.where(new_P, row_P, 0)
        self.neighbours_IM[row_or_none_P, place_P] = torch.where(new_P, neighbour_P, 0).int()
        self.weights_WIM[:, row_or_none_P, place_P] = torch.where(new_P, summed_WP, 0.0)

    @property
    def width(self) -> int:
        """Neighbours kept per item."""
        return int(self.neighbours_IM.shape[1])

    def _set(self, neighbour_P: Tensor) -> Tensor:
        # Rows are given out in order: neighbours in number are neighbours in time, and must not share a set.
        return (neighbour_P * 2_654_435_761 >> 15) % self._num_sets

    def _flat(self) -> Tensor:
        return self.weights_WIM.view(self.weights_WIM.shape[0], -1)

    def fade(self, share: float, num_rows: int, half_life: int = 0) -> None:
        """What rows below ``num_rows`` have counted at one half-life weighs only ``share`` beside what comes."""
        self.weights_WIM[half_life, :num_rows] *= share
        self.mass_WI[half_life, :num_rows] *= share

    def forget_items(self, rows: list[int]) -> None:
        """Retired rows lose their neighbours and are nobody's neighbour. One pass over the table."""
        rows_R = torch.tensor(rows, dtype=torch.int64, device=self.mass_WI.device)
        self.mass_WI[:, rows_R] = 0.0
        self.weights_WIM[:, rows_R] = 0.0
        self.forget_neighbours(rows)

    def forget_neighbours(self, numbers: list[int]) -> None:
        """What has these numbers is nobody's neighbour any more. One pass over the table."""
        is_gone = torch.zeros(self._num_numbers, dtype=torch.bool, device=self.mass_WI.device)
        is_gone[torch.tensor(numbers, dtype=torch.int64, device=self.mass_WI.device)] = True
        self.weights_WIM.masked_fill_(is_gone[self.neighbours_IM.long()][None], 0.0)

    def state(self, num_rows: int) -> dict[str, Any]:
        """All of it for item rows below ``num_rows``."""
        return {
            "neighbours": self.neighbours_IM[:num_rows].clone(),
            "weights": self.weights_WIM[:, :num_rows].clone(),
            "mass": self.mass_WI[:, :num_rows].clone(),
            "landmark_s": self.landmark.time_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        num_rows = state["mass"].shape[1]
        for name in ("neighbours_IM", "weights_WIM", "mass_WI"):
            getattr(self, name).zero_()
        self.neighbours_IM[:num_rows] = state["neighbours"].to(self.neighbours_IM.device)
        self.weights_WIM[:, :num_rows] = state["weights"].to(self.weights_WIM.device)
        self.mass_WI[:, :num_rows] = state["mass"].to(self.mass_WI.device)
        self.landmark.time_s = state["landmark_s"]


def starts_run(key_P: Tensor) -> Tensor:
    """[P] whether each of the sorted keys differs from the one before it."""
    is_first_P = torch.ones_like(key_P, dtype=torch.bool)
    is_first_P[1:] = key_P[1:] != key_P[:-1]
    return is_first_P
