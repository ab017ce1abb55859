"""Popularity among people of a kind: what is taken under a value of the request's context (a country, a referrer).

Of somebody without a history nothing else is known. Each value has a bounded, decayed row of items. What a row says is
told against what all take: an item's lift is how many times as often it is taken under the value as elsewhere, shrunk
towards 1 by a few events (the relative risk of a Gamma–Poisson model; Clayton & Kaldor, Biometrics 1987), so that what
is rare says little. A value speaks as loud as its row departs from the whole (Kullback–Leibler, nats): where a device
makes no difference, only the country is heard.

Shapes: B = moments, C = context slots in use, M = items kept of a value, I = item rows, K = candidates, P = pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.moments import Moments
from stream_rec.state.neighbours import Neighbours

PRIOR_EVENTS = 3.0  # that lift is shrunk with


class Kinds:
    """Items by context value, and by all events that had any. Events without context cost and change nothing."""

    def __init__(
        self, num_values: int, num_items: int, items_per_value: int, half_life_s: float, device: torch.device
    ) -> None:
        self._num_values = num_values
        self._table = Neighbours(num_values - 1, items_per_value, [half_life_s], device, num_neighbours=num_items)
        self._counts_I = zeros(num_items + 1, device=device)  # in the table's frame
        self._total = torch.zeros((), device=device)

    def update(self, moments: Moments) -> None:
        """Count a batch of events; weight 0, item row 0 and slot 0 count for nothing."""
        if moments.num_slots == 0:
            return
        factors = self._table.rebase(moments.newest_s)
        if factors is not None:
            self._counts_I *= factors[0]
            self._total *= factors[0]
        slots_BC, item_B, time_B = moments.slots_BC[:, : moments.num_slots], moments.item_B, moments.time_B
        weight_B = moments.weight_B * (item_B > 0) * (slots_BC > 0).any(1)
        decayed_B = self._table.landmark.weights(time_B)[0] * weight_B
        self._counts_I.index_add_(0, item_B, decayed_B)
        self._total += decayed_B.sum()
        value_P, item_P, time_P, weight_P = (
            (each if each.dim() == 2 else each[:, None]).expand_as(slots_BC).reshape(-1)
            for each in (slots_BC, item_B, time_B, weight_B)
        )
        self._table.count(value_P, time_P, weight_P)
        self._table.update(value_P, item_P, time_P, weight_P)

    def read(self, moments: Moments, seen_from_B: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C · M] items, some several times, and weights >= 0: what each value's row says, times how loud it is."""
        items_BCM, events_BCM = self._rows(moments, seen_from_B)
        expected_BCM = self._masses(moments, seen_from_B) * self._shares(items_BCM)
        log_lift_BCM = torch.log((events_BCM + PRIOR_EVENTS) / (expected_BCM + PRIOR_EVENTS))
        said_BCM = events_BCM / events_BCM.sum(2, keepdim=True).clamp_min(1e-20)
        loudness_BC1 = (said_BCM * log_lift_BCM).sum(2, keepdim=True).clamp_min(0.0)
        return items_BCM.flatten(1), (said_BCM * loudness_BC1).flatten(1)

    def log_lifts(self, moments: Moments, rows_BK: Tensor, place_BI: Tensor) -> Tensor:
        """[B, K] log of how many times as often each candidate is taken under this context as elsewhere.

        The sum over its values, as if they were independent (naive Bayes); 0 where nothing is known of them.
        ``place_BI`` says where each item row is among the candidates, K where it is none.
        """
        if moments.num_slots == 0:
            return torch.zeros(rows_BK.shape, device=rows_BK.device)
        items_BCM, events_BCM = self._rows(moments, moments.time_B)
        place_BE = place_BI.gather(1, items_BCM.flatten(1)).long()
        wide_BK = torch.zeros(rows_BK.shape[0], rows_BK.shape[1] + 1, device=rows_BK.device)
        counted_BK = wide_BK.scatter_add_(1, place_BE, torch.log1p(events_BCM / PRIOR_EVENTS).flatten(1))[:, :-1]
        expected_BCK = self._masses(moments, moments.time_B) * self._shares(rows_BK)[:, None, :]
        return counted_BK - torch.log1p(expected_BCK / PRIOR_EVENTS).sum(1)

    def _rows(self, moments: Moments, seen_from_B: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, M] items under each value, and events of them as seen from a time."""
        slots_BC = moments.slots_BC[:, : moments.num_slots]
        stored_BCM = self._table.weights_WIM[0, slots_BC] * (slots_BC > 0)[:, :, None]
        discount_B = self._table.landmark.discounts(seen_from_B)[0]
        return self._table.neighbours_IM[slots_BC].long(), stored_BCM * discount_B[:, None, None]

    def _masses(self, moments: Moments, seen_from_B: Tensor) -> Tensor:
        """[B, C, 1] events under each value, 0 for an empty slot."""
        discount_B = self._table.landmark.discounts(seen_from_B)[0]
        mass_BC = self._table.mass_WI[0, moments.slots_BC[:, : moments.num_slots]] * discount_B[:, None]
        return mass_BC[:, :, None]

    def _shares(self, items: Tensor) -> Tensor:
        """Of each item among all events that had a context."""
        return self._counts_I[items] / self._total.clamp_min(1e-20)

    def forget_items(self, rows: list[int]) -> None:
        """Retired item rows leave every value's row."""
        self._table.forget_neighbours(rows)
        self._counts_I[torch.tensor(rows, dtype=torch.int64, device=self._counts_I.device)] = 0.0
        self._total = self._counts_I.sum()

    def state(self, num_items: int) -> dict[str, Any]:
        """All of it for item rows below ``num_items``."""
        return {
            "table": self._table.state(self._num_values),
            "counts": self._counts_I[:num_items].clone(),
            "total": self._total.clone(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._table.load_state(state["table"])
        self._counts_I.zero_()
        self._counts_I[: len(state["counts"])] = state["counts"].to(self._counts_I.device)
        self._total.copy_(state["total"])
