"""The learner where an event brings the items that can be listed: it puts those in order, and learns to do so.

What was shown and not taken is what it learns against. In a log of a policy's draws every event shows one item, taken
or not; there the actions are ordered as if none of them had a place yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream_rec.config import Settings
from stream_rec.evaluation.study.choices import Choices
from stream_rec.learning.learner import Learner
from stream_rec.records import Event
from stream_rec.state.moments import Moments
from stream_rec.state.shown import ShownList, shown_with


class ChoosingLearner(Learner):
    """A learner whose lists hold all of an event's choices. Needs ``learning.order_shown``."""

    def __init__(self, settings: Settings, choices: Choices) -> None:
        super().__init__(settings)
        self._choices = choices
        self._to_list: list[ShownList | None] = []
        self._new_rows: list[int] = []

    def enter(self, events: Sequence[Event]) -> Moments:
        """As ``Learner``."""
        self._new_rows = []
        events = [self._choices.shown(event) for event in events]
        moments = super().enter(events)
        self._to_list = []
        for event in events:
            among = self._choices.of(event, self.memory.weight(event))
            self._choices.take(event)
            self._to_list.append(self._to_order(event, among))
        return moments

    def rank_entered(self, moments: Moments) -> list[list[str]]:
        """As ``Learner``; no list of an event without choices is of use."""
        return self.rerank_entered(moments, self._to_list, self._new_rows)

    def _new_items(self, rows: list[int]) -> None:
        self._new_rows += rows
        super()._new_items(rows)

    def _to_order(self, event: Event, among: Sequence[str] | None) -> ShownList | None:
        if among is None:
            return None
        shown = shown_with(event, 1.0)
        if shown and tuple(shown.items) == tuple(among):
            return shown
        return ShownList(among, [0] * len(among), [None] * len(among))
