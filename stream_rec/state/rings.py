"""Rings: the newest N entries of every owner, written a batch at a time, no slot twice.

Shapes: B = events of a batch, N = length of a ring.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_rec.state.vocabulary import Rows


def places_before(owner_B: Rows, counts_B: NDArray[np.bool_]) -> tuple[Rows, Rows, Rows]:
    """Of the events that count, those of the same owner that come earlier in the batch.

    Returns ``order`` (events that count, by owner, then in order) and for each event ``end_B`` (the place in
    ``order`` after the last earlier one) and ``rank_B`` (how many there are).
    """
    num_events = len(owner_B)
    key_B = owner_B * num_events + np.arange(num_events)
    order = np.flatnonzero(counts_B & (owner_B > 0))
    order = order[np.argsort(owner_B[order], kind="stable")]
    end_B = np.searchsorted(key_B[order], key_B)
    return order, end_B, end_B - np.searchsorted(key_B[order], owner_B * num_events)


def slots_to_write(
    owner_B: Rows, counts_B: NDArray[np.bool_], num_ever: Rows, length: int
) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    """Which events to write and where: ``kept`` (events), ``slot`` (of each), and the events that count.

    Only an owner's newest N are written. Whoever calls adds the events that count to ``num_ever`` afterwards.
    """
    _, _, rank_B = places_before(owner_B, counts_B)
    counts_B = counts_B & (owner_B > 0)
    num_of_owner = np.bincount(owner_B[counts_B], minlength=int(owner_B.max(initial=0)) + 1)
    kept = np.flatnonzero(counts_B & (num_of_owner[owner_B] - rank_B <= length))
    return kept, (num_ever[owner_B] + rank_B)[kept] % length, counts_B
