"""What the user has taken before, by how often and how lately: nothing else, and on check-ins hard to beat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from stream_rec.evaluation.baselines.base import UNKNOWN, put_newest
from stream_rec.evaluation.baselines.decay import ForwardDecay
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.records import Event

DAY_S = 86_400.0
_NOTHING: dict[str, float] = {}


class OwnRepeats:
    """The user's own items by their decayed counts, then the most popular of all time. Equals: last touched first.

    Counting with a long half-life is the strongest of the simple forms for repeat consumption (Anderson, Kumar,
    Tomkins & Vassilvitskii, WWW 2014, weigh quality and recency). Bounds: of a user's ``max_items_per_user`` items
    the smallest makes room for a new one, the least recently seen of ``max_users`` users goes.
    """

    def __init__(
        self, *, max_users: int, max_items: int, max_items_per_user: int = 500, half_life_s: float | None = 60 * DAY_S
    ) -> None:
        self.name = "own repeats"
        self._max_users = max_users
        self._max_items_per_user = max_items_per_user
        self._decay = ForwardDecay(half_life_s)
        self._counts: OrderedDict[str, dict[str, float]] = OrderedDict()  # user → item → log2 of count, by last touch
        self._fill = Popularity(None, max_items=max_items)

    def update(self, event: Event, weight: float) -> None:
        """As ``Baseline``."""
        counts = self._counts.get(event.user_id, {})
        put_newest(self._counts, event.user_id, counts, self._max_users)
        # Taken out and put in again: the dict then stays in order of touch, which is what breaks ties.
        count = self._decay.added(counts.pop(event.item_id, None), event.timestamp_ms, weight)
        if len(counts) >= self._max_items_per_user:
            del counts[min(counts, key=counts.__getitem__)]
        counts[event.item_id] = count
        self._fill.update(event, weight)

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """As ``Baseline``; the same whatever ``now_ms`` is."""
        counts = self._counts.get(user_id, _NOTHING)
        own = [item for item in reversed(counts) if item not in exclude]
        items = sorted(own, key=counts.__getitem__, reverse=True)[:k]
        if len(items) < k:
            popular = self._fill.top(user_id, now_ms, k, exclude)
            items.extend([item for item in popular if item not in items][: k - len(items)])
        return items

    def scores(self, user_id: str, now_ms: int, items: Sequence[str]) -> list[float]:
        """As ``Scorer``."""
        counts = self._counts.get(user_id, _NOTHING)
        return [counts.get(item, UNKNOWN) for item in items]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        fill = {f"{self.name}: filled with {store}": size for store, size in self._fill.sizes().items()}
        return {f"{self.name} users": (len(self._counts), self._max_users), **fill}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        counts = [[user, [list(pair) for pair in own.items()]] for user, own in self._counts.items()]
        return {"landmark_ms": self._decay.landmark_ms, "counts": counts, "fill": self._fill.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        self._decay.landmark_ms = state["landmark_ms"]
        self._counts = OrderedDict()
        for user, pairs in state["counts"]:
            put_newest(self._counts, user, dict(pairs[-self._max_items_per_user :]), self._max_users)
        self._fill.load_state(state["fill"])
