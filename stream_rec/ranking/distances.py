"""How far candidates are from where the user has been, by what the catalogue says of both.

The position of an event itself is not read: it would give away where the user is about to have been.

Shapes: B = moments, K = candidates, N = newest interactions that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments

FAR_KM = 20_000.0  # where a place is not known
DISTRICT_KM = 3.0
NUM_NEAR = 40  # newest interactions whose places are compared with those of the candidates


@dataclass
class Distances:
    """From each candidate to the place of each past interaction."""

    away_km_BKN: Tensor
    district_BKN: Tensor  # 1 where both are at one place, e times less every DISTRICT_KM


def distances(memory: Memory, moments: Moments, rows_BK: Tensor) -> Distances | None:
    """None where the catalogue knows no places."""
    catalogue, items_BN = memory.catalogue, moments.history.items_BN[:, :NUM_NEAR]
    if not catalogue.has_places:
        return None
    theirs_BK3, past_BN3 = catalogue.places_I3[rows_BK], catalogue.places_I3[items_BN]
    # Not by way of an inner product: of numbers as large as the Earth little would be left of a hundred metres.
    away_BKN = torch.cdist(theirs_BK3, past_BN3, compute_mode="donot_use_mm_for_euclid_dist")
    known_BKN = theirs_BK3.any(2)[:, :, None] & past_BN3.any(2)[:, None, :]
    away_BKN = torch.where(known_BKN, away_BKN, FAR_KM)
    return Distances(away_BKN, torch.exp(-away_BKN / DISTRICT_KM))
