"""What the baselines that score items in arrays share: the best k of all items, and what fills a short list.

Shapes: I items that have a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.baselines.base import UNKNOWN
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.evaluation.baselines.rows import Rows
from stream_rec.records import Event

Floats = NDArray[np.float64]

FILL_HALF_LIFE_S = 900.0  # the freshest: where taste moves, filling up with that of all time halves the hits


class ScoredBaseline(ABC):
    """A baseline that gives items scores and lists the best.

    A list that is not full is filled up from decayed popularity, which it keeps itself: a baseline that shows three
    items where others show twenty is beaten for the wrong reason.
    """

    def __init__(self, name: str, rows: Rows, *, fill_half_life_s: float | None = FILL_HALF_LIFE_S) -> None:
        self.name = name
        self.rows = rows
        self._fill = Popularity(fill_half_life_s, max_items=rows.capacity)

    @abstractmethod
    def _learn(self, event: Event, weight: float) -> None:
        """Learn from one event; its item gets a row."""

    @abstractmethod
    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        """Scores (I,) in an array of its own; None where nothing is known of the user. Changes nothing."""

    def update(self, event: Event, weight: float) -> None:
        """As ``Baseline``."""
        self._learn(event, weight)
        self._fill.update(event, weight)

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """As ``Baseline``; equal scores are ordered by row, so that the same state gives the same list."""
        scores_I = self._scores(user_id, now_ms)
        items: list[str] = []
        if scores_I is not None:
            scores_I[self.rows.find_all(exclude)] = UNKNOWN
            scores_I[self.rows.free] = UNKNOWN
            items = [self.rows.id(row) for row in best_rows(scores_I, k)]
        if len(items) < k:
            popular = self._fill.top(user_id, now_ms, k, exclude)
            items.extend([item for item in popular if item not in items][: k - len(items)])
        return items

    def scores(self, user_id: str, now_ms: int, items: Sequence[str]) -> list[float]:
        """As ``Scorer``."""
        scores_I = self._scores(user_id, now_ms)
        if scores_I is None:
            return [UNKNOWN] * len(items)
        rows = [self.rows.find(item) for item in items]
        return [UNKNOWN if row is None else float(scores_I[row]) for row in rows]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        fill = {f"{self.name}: filled with {store}": size for store, size in self._fill.sizes().items()}
        return {f"{self.name} items": (len(self.rows), self.rows.capacity), **fill}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        return {"fill": self._fill.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        self._fill.load_state(state["fill"])


def best_rows(scores_I: Floats, k: int) -> list[int]:
    """Rows of the k highest scores that are not ``UNKNOWN``, best first; equals in the order of their rows."""
    candidates = np.flatnonzero(scores_I > UNKNOWN)
    if len(candidates) > k:
        # All that are as good as the k-th, so that ties at the edge do not depend on how the partition went.
        edge = np.partition(scores_I[candidates], len(candidates) - k)[len(candidates) - k]
        candidates = candidates[scores_I[candidates] >= edge]
    order = np.argsort(-scores_I[candidates], kind="stable")[:k]
    return [int(row) for row in candidates[order]]


def counted(scores_I: Floats) -> Floats:
    """Scores that are sums of counts: 0 says that nothing is known."""
    scores_I[scores_I <= 0] = UNKNOWN
    return scores_I
