"""Sequential rules: what came within the next few steps, the nearer the more (Ludewig & Jannach, UMUAI 2018).

Shapes: M items of one user's recent past, N neighbours, I items.
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


class SequentialRules(ScoredBaseline):
    """A step from i to j that is ``lag`` items later counts 1/lag, up to ``num_lags``, decayed.

    Items are scored from the user's last ``num_lags`` items, the rules of the item at a lag weighing 1/lag again.
    """

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        num_lags: int = 5,
        num_neighbours: int = 128,
        half_life_s: float | None = 30 * DAY_S,
        name: str = "sequential rules",
    ) -> None:
        super().__init__(name, Rows(max_items, self._forget))
        self._recent = RecentItems(num_lags, max_users)
        self._rules = NeighbourTable(num_neighbours)
        self._decay = DecayedWeights(half_life_s, self._rules.rescale)

    def _learn(self, event: Event, weight: float) -> None:
        row = self.rows.touch(event.item_id)
        gains = self._per_row(event.user_id)
        if gains:
            gain = self._decay.gain(event.timestamp_ms, weight)
            rows_M = np.fromiter(gains, dtype=np.int32)
            self._rules.add_to_rows(rows_M, row, gain * np.fromiter(gains.values(), dtype=np.float64))
        self._recent.add(event.user_id, event.item_id)

    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        shares = self._per_row(user_id)
        if not shares:
            return None
        rows_M, shares_M = np.fromiter(shares, dtype=np.int32), np.fromiter(shares.values(), dtype=np.float64)
        return counted(self._rules.sums(rows_M, shares_M, self.rows.num_rows))

    def _per_row(self, user_id: str) -> dict[int, float]:
        """Row of each of the user's last items → sum of 1/lag."""
        shares: dict[int, float] = {}
        for lag, item in enumerate(reversed(self._recent.of(user_id)), start=1):
            row = self.rows.find(item)
            if row is not None:
                shares[row] = shares.get(row, 0.0) + 1.0 / lag
        return shares

    def _forget(self, rows: list[int]) -> None:
        self._rules.forget(rows)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        most = self.rows.capacity * self._rules.num_neighbours
        rules = {f"{self.name} rules": (self._rules.num_entries(), most)}
        return {**super().sizes(), f"{self.name} users": self._recent.size(), **rules}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        own = {"recent": self._recent.state(), "rules": self._rules.state(), "landmark_ms": self._decay.landmark_ms}
        return {**super().state(), "rows": self.rows.state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        super().load_state(state)
        self.rows.load_state(state["rows"])
        self._recent.load_state(state["recent"])
        self._rules.load_state(state["rules"])
        self._decay.landmark_ms = state["landmark_ms"]
