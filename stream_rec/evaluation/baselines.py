"""The simple things that a recommender has to beat: what is popular now, and what usually comes next.

Counts decay by forward decay (Cormode, Shkapenyuk, Srivastava & Xu, ICDE 2009): an event of weight w at time t adds
w · 2^((t − L)/h) for a fixed landmark L and half-life h. Dividing by 2^((now − L)/h) would give the usual decayed
count, but it is the same factor for all, so the order only changes for the item that is touched, no matter how much
time passes, and an event that arrives late simply adds what it would have added in its place. Scores are kept as
log2 of that sum: it grows by one per half-life for ever, where the sum itself would overflow after 1,024 of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from heapq import nsmallest
from typing import Any, Protocol, TypeVar

from stream_rec.records import Event

_K = TypeVar("_K")
_V = TypeVar("_V")

LOG2_E = 1.0 / math.log(2.0)
NUM_KEPT_SORTED = 2_048  # the default bound of a user's consumed items, plus a list: then no walk ever runs out
EVICTED_SHARE = 16  # 1/16 of the items goes at once


def put_newest(store: OrderedDict[_K, _V], key: _K, value: _V, capacity: int) -> None:
    """Set the key as the most recently used; beyond ``capacity`` the least recently used goes."""
    store[key] = value
    store.move_to_end(key)
    if len(store) > capacity:
        store.popitem(last=False)


def half_life_name(half_life_s: float | None) -> str:
    """In the largest unit that divides it: 900 → ``15 min``, 10800 → ``3 h``; None → ``all time``."""
    if half_life_s is None:
        return "all time"
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if half_life_s % unit_s == 0:
            return f"{half_life_s / unit_s:.15g} {unit}"
    return f"{half_life_s:.15g} s"


class Baseline(Protocol):
    """What is measured beside the model: learns from every event that counts, and gives a list at any moment."""

    name: str

    def update(self, event: Event, weight: float) -> None:
        """Learn from one event; ``weight`` is greater than 0. Events come in the order of the log."""
        ...

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """At most k (from 1) distinct item ids, best first, none of them excluded. Changes nothing."""
        ...

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Store → entries, capacity."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything learnt, JSON-able."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; what goes beyond the bounds of now is dropped."""
        ...


class ForwardDecay:
    """Adds events to scores. A half-life of None never decays, and its scores are plain sums of weights."""

    def __init__(self, half_life_s: float | None) -> None:
        if half_life_s is not None and not half_life_s >= 0.001:
            raise ValueError(
                f"half_life_s is {half_life_s}; allowed is from 0.001 s, a tick of the timestamps, or None"
            )
        self._half_life_ms = None if half_life_s is None else half_life_s * 1000.0
        self.landmark_ms: int | None = None

    def added(self, score: float | None, timestamp_ms: int, weight: float) -> float:
        """The score after one more event; ``score`` is None for the first. Never less than before."""
        if self._half_life_ms is None:
            return weight if score is None else score + weight
        if self.landmark_ms is None:
            # The first event rather than the epoch: small exponents keep the precision of the fraction.
            self.landmark_ms = timestamp_ms
        gain = math.log2(weight) + (timestamp_ms - self.landmark_ms) / self._half_life_ms
        if score is None:
            return gain
        high, low = (score, gain) if score >= gain else (gain, score)
        return high + math.log1p(2.0 ** (low - high)) * LOG2_E


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


class Transitions:
    """What usually follows the user's last item, in order of arrival, counts decayed. Equals: last touched first.

    Short lists are filled up from ``fill`` (asked, never taught: its owner does that), because a baseline that shows
    three items where others show twenty is beaten for the wrong reason. Bounds: of an item's
    ``max_neighbours`` successors the smallest makes room for a new one (as in Space-Saving, Metwally et al. 2005, but
    without inheriting its count); the least recently used of ``max_users`` and ``max_items`` goes.
    """

    def __init__(
        self, half_life_s: float | None, max_neighbours: int, *, max_users: int, max_items: int, fill: Baseline
    ) -> None:
        self.name = "transitions"
        self._decay = ForwardDecay(half_life_s)
        self._max_neighbours = max_neighbours
        self._max_users = max_users
        self._max_items = max_items
        self._fill = fill
        self._last: OrderedDict[str, str] = OrderedDict()  # user → item
        self._successors: OrderedDict[str, dict[str, float]] = OrderedDict()  # item → next item → score, by last touch

    def update(self, event: Event, weight: float) -> None:
        """Count the step from the user's last item to this one, which becomes the last."""
        last = self._last.get(event.user_id)
        put_newest(self._last, event.user_id, event.item_id, self._max_users)
        if last is None:
            return
        successors = self._successors.get(last, {})
        put_newest(self._successors, last, successors, self._max_items)
        # Taken out and put in again: the dict then stays in order of touch, which is what breaks ties.
        score = self._decay.added(successors.pop(event.item_id, None), event.timestamp_ms, weight)
        if len(successors) >= self._max_neighbours:
            del successors[min(successors, key=successors.__getitem__)]
        successors[event.item_id] = score

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """The likeliest successors of the user's last item, then the most popular; the same whatever ``now_ms`` is."""
        items = [item for item in self._ranked_successors(user_id) if item not in exclude][:k]
        if len(items) < k:
            # k of them are enough: at most len(items) can be in the list already.
            popular = self._fill.top(user_id, now_ms, k, exclude)
            items.extend([item for item in popular if item not in items][: k - len(items)])
        return items

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {
            f"{self.name} users": (len(self._last), self._max_users),
            f"{self.name} items": (len(self._successors), self._max_items),
        }

    def state(self) -> dict[str, Any]:
        return {
            "landmark_ms": self._decay.landmark_ms,
            "last": [list(pair) for pair in self._last.items()],
            "successors": [[item, [list(pair) for pair in row.items()]] for item, row in self._successors.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._decay.landmark_ms = state["landmark_ms"]
        self._last, self._successors = OrderedDict(), OrderedDict()
        for user, item in state["last"]:
            put_newest(self._last, user, item, self._max_users)
        for item, pairs in state["successors"]:
            row = dict(pairs)
            for _ in range(len(row) - self._max_neighbours):
                del row[min(row, key=row.__getitem__)]
            put_newest(self._successors, item, row, self._max_items)

    def _ranked_successors(self, user_id: str) -> list[str]:
        last = self._last.get(user_id)
        row = self._successors.get(last) if last is not None else None
        if not row:
            return []
        # A stable sort of the newest first leaves equals in that order.
        newest_first = list(reversed(row))
        newest_first.sort(key=row.__getitem__, reverse=True)
        return newest_first
