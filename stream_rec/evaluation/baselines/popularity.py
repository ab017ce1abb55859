"""What is popular now, or of all time: the first thing that a recommender has to beat."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from heapq import nsmallest
from typing import Any

from stream_rec.evaluation.baselines.base import UNKNOWN
from stream_rec.evaluation.baselines.decay import ForwardDecay, half_life_name
from stream_rec.records import Event

NUM_KEPT_SORTED = 2_048  # the default bound of a user's consumed items, plus a list: then no walk ever runs out
EVICTED_SHARE = 16  # 1/16 of the items goes at once


class Popularity:
    """The most popular items, counts decayed with a half-life or not at all. Equals: last touched first.

    The ``num_kept_sorted`` best are kept in order at all times: a score only ever grows, so whoever is among them
    leaves only when overtaken, and the rest needs no order. ``top`` walks them past the excluded ones and, if they run
    out, looks through all. Beyond ``max_items`` the least popular sixteenth is evicted at once.
    """

    def __init__(self, half_life_s: float | None, *, max_items: int, num_kept_sorted: int = NUM_KEPT_SORTED) -> None:
        self.name = f"popularity {half_life_name(half_life_s)}"
        self._decay = ForwardDecay(half_life_s)
        self._max_items = max_items
        self._num_kept_sorted = num_kept_sorted
        self._sequence = 0
        self._keys: dict[str, tuple[float, int, str]] = {}  # item → (−score, −sequence, item)
        self._sorted: list[tuple[float, int, str]] = []  # the smallest keys, ascending

    def update(self, event: Event, weight: float) -> None:
        """Count the event. O(log n) on the sorted part; amortised O(log n) where items are evicted."""
        old = self._keys.get(event.item_id)
        score = self._decay.added(None if old is None else -old[0], event.timestamp_ms, weight)
        self._put(event.item_id, score, old)
        if len(self._keys) > self._max_items:
            self._evict(max(1, self._max_items // EVICTED_SHARE))

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """Exactly the k most popular that are not excluded, the same whatever ``now_ms`` is."""
        items: list[str] = []
        for _, _, item in self._sorted:
            if item not in exclude:
                items.append(item)
                if len(items) == k:
                    return items
        if len(self._keys) > len(self._sorted):
            last = self._sorted[-1]
            rest = (key for key in self._keys.values() if key > last and key[2] not in exclude)
            items.extend(key[2] for key in nsmallest(k - len(items), rest))
        return items

    def scores(self, user_id: str, now_ms: int, items: Sequence[str]) -> list[float]:
        """As ``Scorer``: the same for everybody."""
        keys = [self._keys.get(item) for item in items]
        return [UNKNOWN if key is None else -key[0] for key in keys]

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {self.name: (len(self._keys), self._max_items)}

    def state(self) -> dict[str, Any]:
        by_touch = sorted(self._keys.values(), key=lambda key: -key[1])
        return {"landmark_ms": self._decay.landmark_ms, "items": [[key[2], -key[0]] for key in by_touch]}

    def load_state(self, state: dict[str, Any]) -> None:
        self._decay.landmark_ms = state["landmark_ms"]
        self._keys, self._sorted, self._sequence = {}, [], 0
        for item, score in state["items"]:
            self._put(item, score, None)
        if len(self._keys) > self._max_items:
            self._evict(len(self._keys) - self._max_items)

    def _put(self, item: str, score: float, old: tuple[float, int, str] | None) -> None:
        self._sequence += 1
        key = (-score, -self._sequence, item)
        self._keys[item] = key
        best = self._sorted
        if old is not None and old <= best[-1]:
            del best[bisect_left(best, old)]
            insort(best, key)
        elif len(best) < self._num_kept_sorted:
            insort(best, key)
        elif key < best[-1]:
            best.pop()
            insort(best, key)

    def _evict(self, num_evicted: int) -> None:
        kept = sorted(self._keys.values())[:-num_evicted]
        self._keys = {key[2]: key for key in kept}
        self._sorted = kept[: self._num_kept_sorted]
