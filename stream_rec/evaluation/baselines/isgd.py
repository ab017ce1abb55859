"""ISGD: matrix factorisation of positive-only feedback, one event at a time (Vinagre, Jorge & Gama, UMAP 2014).

Shapes: R rows, D factors, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_rec.evaluation.baselines.factors import Factors
from stream_rec.evaluation.baselines.scored import Floats, ScoredBaseline
from stream_rec.records import Event

USERS, ITEMS = 0, 1  # streams of random numbers


class Isgd(ScoredBaseline):
    """Every event is a 1 that the product of user's and item's factors is moved towards; there are no zeros.

    Items are listed by how near their product is to 1. The paper's algorithm: ``num_iterations`` steps an event, each
    first on the user, then on the item. Weights of events do not enter: a step larger than the paper's diverges.
    """

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        seed: int = 1,
        num_factors: int = 64,
        rate: float = 0.02,
        regularisation: float = 0.01,
        num_iterations: int = 5,
    ) -> None:
        self._users = Factors(max_users, num_factors, 0.1, (seed, USERS))
        self._items = Factors(max_items, num_factors, 0.1, (seed, ITEMS))
        super().__init__("ISGD", self._items.rows)
        self._rate = rate
        self._regularisation = regularisation
        self._num_iterations = num_iterations

    def _learn(self, event: Event, weight: float) -> None:
        user, item = self._users.touch(event.user_id), self._items.touch(event.item_id)
        user_D, item_D = self._users.factors_RD[user], self._items.factors_RD[item]
        for _ in range(self._num_iterations):
            error = 1.0 - float(user_D @ item_D)
            user_D += self._rate * (error * item_D - self._regularisation * user_D)
            item_D += self._rate * (error * user_D - self._regularisation * item_D)

    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        user = self._users.rows.find(user_id)
        if user is None:
            return None
        scores_I: Floats = -np.abs(1.0 - self._items.used_factors() @ self._users.factors_RD[user])
        return scores_I

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        return {**super().sizes(), f"{self.name} users": self._users.size()}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        return {**super().state(), "users": self._users.state(), "items": self._items.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        super().load_state(state)
        self._users.load_state(state["users"])
        self._items.load_state(state["items"])
