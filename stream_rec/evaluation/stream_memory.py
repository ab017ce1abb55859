"""What the protocol must remember of a stream to set its exams: which items it has shown, and who has had which.

Works on ids alone, so that it can judge any method: the live one and everything that ``evaluate`` runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import KeysView, Mapping
from typing import Any

from stream_rec.config import StateSettings
from stream_rec.evaluation.baselines.base import put_newest
from stream_rec.records import Event

_NOTHING: dict[str, None] = {}


class StreamMemory:
    """Items seen in the stream and, where ``novel``, the items that each user has consumed.

    ``event_weights`` are those of ``learning.event_weights``; types not named weigh 1. Bounds are those of the
    learner: ``state.max_items``, ``state.max_users``, ``state.max_seen_per_user``; what was touched longest ago goes.
    """

    def __init__(self, state: StateSettings, event_weights: Mapping[str, float], *, novel: bool) -> None:
        self.novel = novel
        self._event_weights = dict(event_weights)
        self._max_users = state.max_users
        self._max_items = state.max_items
        self._max_seen_per_user = state.max_seen_per_user
        self._items: OrderedDict[str, None] = OrderedDict()  # by last touch
        self._consumed: OrderedDict[str, dict[str, None]] = OrderedDict()  # user → items, oldest first; novel only

    def weight(self, event: Event) -> float:
        """What the event counts; 0 for one that is neither scored nor learnt from."""
        return max(0.0, self._event_weights.get(event.type, 1.0))

    def consumed(self, user_id: str) -> KeysView[str]:
        """What the user has had and no list may hold, a live view; empty where repeats are allowed."""
        return self._consumed.get(user_id, _NOTHING).keys()

    def known(self) -> KeysView[str]:
        """The items that the stream has shown, a live view."""
        return self._items.keys()

    def take(self, event: Event) -> None:
        """The event has happened: its item is known, and consumed by its user."""
        put_newest(self._items, event.item_id, None, self._max_items)
        if not self.novel:
            return
        consumed = self._consumed.get(event.user_id, {})
        put_newest(self._consumed, event.user_id, consumed, self._max_users)
        consumed.setdefault(event.item_id)
        if len(consumed) > self._max_seen_per_user:
            del consumed[next(iter(consumed))]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Store → entries, capacity."""
        return {
            "items in the stream": (len(self._items), self._max_items),
            "users with consumed items": (len(self._consumed), self._max_users),
        }

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "items": list(self._items),
            "consumed": [[user, list(items)] for user, items in self._consumed.items()],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave; what goes beyond the bounds of now is dropped, the oldest first."""
        self._items, self._consumed = OrderedDict(), OrderedDict()
        for item in state["items"]:
            put_newest(self._items, item, None, self._max_items)
        for user, items in state["consumed"] if self.novel else ():
            newest = dict.fromkeys(items[-self._max_seen_per_user :])
            put_newest(self._consumed, user, newest, self._max_users)
