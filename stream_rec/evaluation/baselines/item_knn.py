"""Item-based nearest neighbours, counted event by event (Sarwar et al., WWW 2001; Huang et al., SIGMOD 2015).

Shapes: L items of a past at most, M of one user's, R rows that there is room for, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_rec.evaluation.baselines.decayed_weights import DecayedWeights
from stream_rec.evaluation.baselines.neighbour_table import NeighbourTable
from stream_rec.evaluation.baselines.recent_items import RecentItems
from stream_rec.evaluation.baselines.rows import Rows
from stream_rec.evaluation.baselines.scored import Floats, ScoredBaseline, counted
from stream_rec.records import Event

DAY_S = 86_400.0


class ItemKnn(ScoredBaseline):
    """Two items are near by the cosine of who took them: n_ij / √(n_i n_j), all three counts decayed.

    A pair counts 1/√lag when the two are ``lag`` different items apart in one user's past, up to ``num_recent``. An
    item's score is the sum of its nearness to the user's last ``num_recent`` items, each weighing 1/√lag again; an
    item is nearest to itself, which matters where repeats are allowed.
    """

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        num_recent: int = 20,
        num_neighbours: int = 256,
        half_life_s: float | None = 60 * DAY_S,
    ) -> None:
        super().__init__("item-kNN", Rows(max_items, self._forget))
        self._recent = RecentItems(num_recent, max_users)
        self._pairs = NeighbourTable(num_neighbours)
        self._counts_R: Floats = np.zeros(0)
        self._shares_L = 1.0 / np.sqrt(np.arange(1, num_recent + 1))
        self._decay = DecayedWeights(half_life_s, self._rescale)

    def _learn(self, event: Event, weight: float) -> None:
        row = self.rows.touch(event.item_id)
        gain = self._decay.gain(event.timestamp_ms, weight)
        if row >= len(self._counts_R):
            self._counts_R = np.concatenate([self._counts_R, np.zeros(max(256, len(self._counts_R)))])
        self._counts_R[row] += gain
        others = [other for other in self._newest_first(event.user_id) if other != row]
        if others:
            others_M = np.array(others, dtype=np.int32)
            gains_M = gain * self._shares_L[: len(others)]
            self._pairs.add_to_rows(others_M, row, gains_M)
            self._pairs.add_to_row(row, others_M, gains_M)
        self._recent.add(event.user_id, event.item_id)

    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        own = self._newest_first(user_id)
        if not own:
            return None
        own_M = np.array(own, dtype=np.int32)
        roots_R = np.sqrt(self._counts_R)
        shares_M = self._shares_L[: len(own)]
        scores_I = self._pairs.sums(own_M, shares_M / roots_R[own_M], self.rows.num_rows)
        roots_I = roots_R[: len(scores_I)]
        np.divide(scores_I, roots_I, out=scores_I, where=roots_I > 0)
        scores_I[own_M] += shares_M
        return counted(scores_I)

    def _newest_first(self, user_id: str) -> list[int]:
        return self.rows.find_all(dict.fromkeys(reversed(self._recent.of(user_id))))

    def _rescale(self, factor: float) -> None:
        self._pairs.rescale(factor)
        self._counts_R *= factor

    def _forget(self, rows: list[int]) -> None:
        self._pairs.forget(rows)
        self._counts_R[rows] = 0.0

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        most = self.rows.capacity * self._pairs.num_neighbours
        pairs = {f"{self.name} neighbours": (self._pairs.num_entries(), most)}
        return {**super().sizes(), f"{self.name} users": self._recent.size(), **pairs}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        arrays = {"pairs": self._pairs.state(), "counts": self._counts_R.copy()}
        own = {"recent": self._recent.state(), "landmark_ms": self._decay.landmark_ms}
        return {**super().state(), "rows": self.rows.state(), **arrays, **own}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        super().load_state(state)
        self.rows.load_state(state["rows"])
        self._recent.load_state(state["recent"])
        self._pairs.load_state(state["pairs"])
        self._counts_R = state["counts"].copy()
        self._decay.landmark_ms = state["landmark_ms"]
