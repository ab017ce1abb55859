"""Lists that were shown, or are to be put in order: which items, where each stood, what it cost, which was taken.

Shapes: B = moments, K = places, the longest list's.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stream_rec.records import Event
from stream_rec.state.exposures import MAX_PLACE
from stream_rec.state.vocabulary import Vocabulary

POSITION = "position"  # context field: where a single item stood
NOTHING_TAKEN = -1


class ShownList(NamedTuple):
    """One list by ids, each once. ``places`` count from 1; 0 says that an item has none yet."""

    items: Sequence[str]
    places: Sequence[int]
    prices: Sequence[float | None]
    taken: str | None = None
    weight: float = 0.0  # in the loss


@dataclass
class ShownLists:
    """Those of a batch of moments, on the device; a moment without one has only empty places."""

    is_real_BK: Tensor  # whether a place holds an item
    rows_BK: Tensor  # item rows; 0 for an item that has none, and in empty places
    buckets_BK: Tensor  # rows of the exposures; 0 in empty places
    places_BK: Tensor  # as shown, from 1; 0 where there is none
    prices_BK: Tensor  # > 0; 0 where there is none
    taken_B: Tensor  # column of the item that was taken; NOTHING_TAKEN if none
    weight_B: Tensor  # in the loss; 0 also where what was taken is not in the list


def shown_with(event: Event, weight: float) -> ShownList | None:
    """What was shown with an event of this weight; None where it does not say.

    An event that weighs nothing (an impression) says that nothing of its list was taken. A single item stood where the
    context's ``position`` says.
    """
    if not event.impressions:
        return None
    # The first price of an item that is named twice goes with its first place.
    first = dict(zip(reversed(event.impressions), range(len(event.impressions) - 1, -1, -1), strict=True))
    items = list(dict.fromkeys(event.impressions))
    places = [min(first[item] + 1, MAX_PLACE) for item in items]
    position = event.context.get(POSITION)
    if len(items) == 1 and isinstance(position, float | int) and position >= 1:
        places = [min(int(position), MAX_PLACE)]
    prices = [event.prices[first[item]] if event.prices else None for item in items]
    if weight <= 0:
        return ShownList(items, places, prices, None, 1.0)
    return ShownList(items, places, prices, event.item_id, weight if event.item_id in first else 0.0)


def put_together(
    lists: Sequence[ShownList | None],
    vocabulary: Vocabulary,
    first_at: Mapping[int, int],
    num_buckets: int,
    device: torch.device,
) -> ShownLists | None:
    """Lists of a batch as tensors, ids looked up and none given a row; None where no moment has any.

    ``first_at`` are the item rows that came with this batch, and the moments whose events brought them: up to these,
    such an item is as unknown as the others that nobody has touched.
    """
    length = max((len(shown.items) for shown in lists if shown), default=0)
    if not length:
        return None
    shape = (len(lists), length)
    rows, buckets, places = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    prices = np.zeros(shape, dtype=np.float32)
    taken, weight = np.full(shape[0], NOTHING_TAKEN, dtype=np.int64), np.zeros(shape[0], dtype=np.float32)
    for index, shown in enumerate(lists):
        if shown is None or not shown.items:
            continue
        held = slice(len(shown.items))
        rows[index, held] = vocabulary.rows(shown.items)
        buckets[index, held] = [bucket_of(item, num_buckets) for item in shown.items]
        places[index, held] = shown.places
        prices[index, held] = [price if price and price > 0 else 0.0 for price in shown.prices]
        weight[index] = shown.weight
        if shown.taken is not None and shown.taken in shown.items:
            taken[index] = shown.items.index(shown.taken)
    for row, index in first_at.items():
        earlier = rows[: index + 1]
        earlier[earlier == row] = 0
    arrays = (buckets > 0, rows, buckets, places, prices, taken, weight)
    return ShownLists(*(torch.from_numpy(array).to(device, non_blocking=True) for array in arrays))


@lru_cache(maxsize=65_536)
def bucket_of(item_id: str, num_buckets: int) -> int:
    """Row of an item's exposures in [1, num_buckets); the same in every process."""
    return 1 + zlib.crc32(item_id.encode("utf-8", "surrogatepass")) % (num_buckets - 1)
