"""A batch of moments: who, when, in which context, after which history. What follows is what is to be predicted.

Shapes: B = moments, N = history length, C = context slots, P = pairs to leave out, T = tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stream_rec.state.histories import History
from stream_rec.state.shown import ShownLists
from stream_rec.state.vocabulary import Rows


@dataclass
class Moments:
    """On the device, save the host arrays. Moments that are no events have item 0 and weight 0."""

    users: Rows  # host: user rows
    items: Rows  # host: item rows of the events
    counts: NDArray[np.bool_]  # host: whether the event is learnt from
    new_users: list[int]  # host: user rows that got a new owner with these events
    newest_s: float  # host: the largest time
    user_B: Tensor  # user rows, int64; 0 is unknown
    item_B: Tensor  # item rows of the events, int64
    weight_B: Tensor  # of the events in the loss and the statistics, float32
    target_weight_B: Tensor  # as weight_B, but 0 where the item may not be recommended (already consumed)
    time_B: Tensor  # seconds since the epoch, float64
    clock_B: Tensor  # whole seconds since histories' origin, int64
    type_B: Tensor
    situation_B: Tensor
    value_B: Tensor  # bucket of the event's own value: for its history only, the moment before does not know it
    labels_BT: Tensor  # what came of the event by task, float32; NaN where it says nothing of one
    slots_BC: Tensor
    num_slots: int  # host: of these, how many any of the moments uses; they are the first ones
    hour_B: Tensor  # 0–23, UTC
    weekday_B: Tensor  # 0–6
    history: History  # as the event found it
    gaps_BN: Tensor  # seconds from each history entry to the moment, >= 0
    session_lengths_B: Tensor  # newest entries of the history that belong to the running session
    excluded: tuple[Tensor, Tensor] | None  # P moments and P item rows that may not be in their list
    shown: ShownLists | None = None  # what was shown with the events, where that is learnt from

    def __len__(self) -> int:
        return len(self.users)
