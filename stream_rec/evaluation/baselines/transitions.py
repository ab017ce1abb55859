"""What usually comes next: the second thing that a recommender has to beat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from stream_rec.evaluation.baselines.base import UNKNOWN, Baseline, put_newest
from stream_rec.evaluation.baselines.decay import ForwardDecay
from stream_rec.records import Event


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

    def scores(self, user_id: str, now_ms: int, items: Sequence[str]) -> list[float]:
        """As ``Scorer``: of the successors of the user's last item."""
        row = self._successors.get(self._last.get(user_id, ""), {})
        return [row.get(item, UNKNOWN) for item in items]

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


class TransitionsAlone(Transitions):
    """Transitions that keep what fills their lists themselves, for where no popularity is measured beside them."""

    def update(self, event: Event, weight: float) -> None:
        """As ``Transitions``, and teach the fill."""
        super().update(event, weight)
        self._fill.update(event, weight)

    def sizes(self) -> dict[str, tuple[int, int]]:
        fill = {f"{self.name}: filled with {store}": size for store, size in self._fill.sizes().items()}
        return {**super().sizes(), **fill}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "fill": self._fill.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._fill.load_state(state["fill"])
