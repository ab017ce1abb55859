"""The learner where an event brings the items that can be listed: it ranks those, and learns to choose among them.

Everything else is left out of the list just as what the user has consumed is: to ranking and learning there is no
difference, so that the choice is the learner's own, and what was shown and not taken is what it learns against.

Shapes: B moments, I item rows, P pairs of a moment and an item row to leave out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.evaluation.study.choices import Choices
from stream_rec.learning.learner import Learner
from stream_rec.records import Event
from stream_rec.state.moments import Moments


class ChoosingLearner(Learner):
    """A learner whose lists hold all of an event's choices; those that it does not know follow, as they are shown."""

    def __init__(self, settings: Settings, choices: Choices) -> None:
        super().__init__(settings)
        self._choices = choices
        self._among: list[tuple[str, ...] | None] = []

    def enter(self, events: Sequence[Event]) -> Moments:
        """As ``Learner``."""
        moments = super().enter(events)
        self._among = []
        for event in events:
            self._among.append(self._choices.of(event, self.memory.weight(event)))
            self._choices.take(event)
        moments.excluded = self._all_else(moments)
        return moments

    def rank_entered(self, moments: Moments) -> list[list[str]]:
        """As ``Learner``; no list of an event without choices is of use."""
        lists = super().rank_entered(moments)
        return [
            items if among is None else [*items, *(item for item in among if item not in items)]
            for items, among in zip(lists, self._among, strict=True)
        ]

    def _all_else(self, moments: Moments) -> tuple[Tensor, Tensor] | None:
        """What was left out already, and where there are choices every other item."""
        left_out_BI = np.zeros((len(moments), self.memory.num_item_rows), dtype=np.bool_)
        for index, among in enumerate(self._among):
            if among is not None:
                left_out_BI[index] = True
                left_out_BI[index, self.memory.items.rows(among)] = False
        device = self.memory.device
        pairs = tuple(torch.from_numpy(axis_P).to(device) for axis_P in np.nonzero(left_out_BI))
        if moments.excluded is not None:
            pairs = tuple(torch.cat(both) for both in zip(moments.excluded, pairs, strict=True))
        return (pairs[0], pairs[1]) if len(pairs[0]) else None
