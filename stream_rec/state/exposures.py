"""How often items were shown and taken, and how often they would have been if only their place counted.

What stands first is taken most, whatever it is: clicks over expected clicks (COEC; Zhang & Jones, "Comparing click
logs and editorial labels for training query rewriting", 2007) tells an item's own pull from that of its place. Items
are hashed into a table of fixed size, so that those that nobody has taken, and that have no row, are counted as well.

Shapes: B = moments, K = places of a list (J of those that were shown), N = buckets of the
table, P = places that are told apart, X = all of those that ask and tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.decay import Landmark

if TYPE_CHECKING:
    from stream_rec.state.shown import ShownLists

MAX_PLACE = 63  # places beyond are one
START_SHOWN = 20.0  # of each place, in shows: with which its rate begins …
START_RATE = 0.05  # … at this
LEAST_RATE = 1e-5


class Exposures:
    """Decayed counts: of each bucket shown, taken and expected to be taken; of each place shown and taken."""

    def __init__(self, num_buckets: int, half_life_s: float, device: torch.device) -> None:
        self.num_buckets = num_buckets
        self._landmark = Landmark([half_life_s], device)
        self._counts_3N = zeros(3, num_buckets, device=device)  # shown, taken, expected
        self._places_2P = torch.zeros(2, MAX_PLACE + 1, device=device)  # shown, taken
        self._lists_2 = torch.zeros(2, device=device)  # all of them, those of which nothing was taken

    def of_items(self, buckets_BK: Tensor, time_B: Tensor, happened: ShownLists | None) -> Tensor:
        """[3, B, K] how often each item was shown, was taken, and would have been if its place alone counted.

        ``happened`` are the lists that were shown with the moments, of which each moment knows those before it: a
        person who looks at a list twice within a batch has seen it before. Within a batch nothing fades.
        """
        seen_3BK = self._counts_3N[:, buckets_BK] * self._landmark.discounts(time_B)[0][None, :, None]
        if happened is None:
            return seen_3BK
        counts_3BJ = torch.stack(self._counts_of(happened, (happened.weight_B > 0).float()))
        return seen_3BK + _earlier(buckets_BK, happened.buckets_BK, counts_3BJ)

    def rates(self, places_BK: Tensor) -> Tensor:
        """[B, K] how often what stands at a place is taken; of place 0, the mean over places."""
        shown_P, taken_P = self._places_2P
        mean = (taken_P.sum() + START_SHOWN * START_RATE) / (shown_P.sum() + START_SHOWN)
        rate_P = (taken_P + START_SHOWN * mean) / (shown_P + START_SHOWN)
        rate_P = torch.cat([mean[None], rate_P[1:]]).clamp(LEAST_RATE, 1.0)
        return rate_P[places_BK]

    def num_taken(self, time_B: Tensor) -> Tensor:
        """[B] how many items have been taken of lists."""
        return (self._lists_2[0] - self._lists_2[1]) * self._landmark.discounts(time_B)[0]

    def empty_share(self) -> Tensor:
        """Of how many lists nothing was taken, a scalar in (0, 1)."""
        return (self._lists_2[1] + 0.5) / (self._lists_2[0] + 1.0)

    def update(self, shown: ShownLists, time_B: Tensor, newest_s: float) -> None:
        """Count a batch of lists; one that weighs nothing is not counted. ``newest_s`` is the largest time."""
        factors = self._landmark.rebase(newest_s)
        if factors is not None:
            for counts in (self._counts_3N, self._places_2P, self._lists_2):
                counts *= factors[0]
        counts_B = self._landmark.weights(time_B)[0] * (shown.weight_B > 0)
        seen_BK, took_BK, expected_BK = self._counts_of(shown, counts_B)
        for counts_N, more_BK in zip(self._counts_3N, (seen_BK, took_BK, expected_BK), strict=True):
            counts_N.index_add_(0, shown.buckets_BK.flatten(), more_BK.flatten())
        for places_P, more_BK in zip(self._places_2P, (seen_BK, took_BK), strict=True):
            places_P.index_add_(0, shown.places_BK.flatten(), more_BK.flatten())
        self._lists_2 += torch.stack([counts_B.sum(), (counts_B * (shown.taken_B < 0)).sum()])

    def _counts_of(self, shown: ShownLists, counts_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, K] what each place of lists that count so much adds: shown, taken, expected to be taken."""
        seen_BK = counts_B[:, None] * shown.is_real_BK
        column_K = torch.arange(seen_BK.shape[1], device=seen_BK.device)
        took_BK = seen_BK * (column_K == shown.taken_B[:, None])
        return seen_BK, took_BK, seen_BK * self.rates(shown.places_BK)

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {
            "counts": self._counts_3N.clone(),
            "places": self._places_2P.clone(),
            "lists": self._lists_2.clone(),
            "landmark_s": self._landmark.time_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._counts_3N.copy_(state["counts"])
        self._places_2P.copy_(state["places"])
        self._lists_2.copy_(state["lists"])
        self._landmark.time_s = state["landmark_s"]


def _earlier(asked_BK: Tensor, buckets_BJ: Tensor, counts_3BJ: Tensor) -> Tensor:
    """[3, B, K] for each bucket asked for at a moment, the sum of what moments before it have added to it."""
    num_moments, num_asked = asked_BK.shape
    moment_B1 = torch.arange(num_moments, device=asked_BK.device)[:, None]
    # By bucket, then by moment, who asks before who tells: then what is asked for is a sum over what stands before it.
    asked_BK = (asked_BK * num_moments + moment_B1) * 2
    told_BJ = (buckets_BJ * num_moments + moment_B1) * 2 + 1
    key_X, order_X = torch.sort(torch.cat([asked_BK.flatten(), told_BJ.flatten()]), stable=True)
    added_3X = torch.cat([counts_3BJ.new_zeros(3, num_moments * num_asked), counts_3BJ.flatten(1)], dim=1)
    running_3X = added_3X[:, order_X].double().cumsum(1)
    # Where its bucket begins: what had run up by then is not its own.
    place_X = torch.arange(len(key_X), device=key_X.device)
    bucket_X = key_X // (2 * num_moments)
    is_first_X = torch.ones_like(bucket_X, dtype=torch.bool)
    is_first_X[1:] = bucket_X[1:] != bucket_X[:-1]
    first_X = torch.cummax(torch.where(is_first_X, place_X, 0), dim=0).values
    before_3X = torch.where(first_X > 0, running_3X[:, (first_X - 1).clamp_min(0)], 0.0)
    sums_3X = torch.zeros_like(running_3X).index_copy_(1, order_X, running_3X - before_3X)
    return sums_3X[:, : num_moments * num_asked].view(3, num_moments, num_asked).to(counts_3BJ.dtype)
