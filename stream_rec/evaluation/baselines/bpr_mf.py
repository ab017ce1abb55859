"""Matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009), one event at a time.

Shapes: R rows, D factors, N negatives, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_rec.evaluation.baselines.factors import Factors
from stream_rec.evaluation.baselines.scored import Floats, ScoredBaseline
from stream_rec.records import Event

USERS, ITEMS, NEGATIVES = 0, 1, 2  # streams of random numbers


class BprMf(ScoredBaseline):
    """The item taken is to score above ``num_negatives`` drawn uniformly from all items met so far.

    A score is the item's bias plus the product of user's and item's factors. ``bias_rate`` is a rate of its own: it
    says how fast the model follows what is popular now. Negatives that the user has had are not looked for: leaving
    them out changed no stream for the better. Weights of events do not enter.
    """

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        seed: int = 1,
        num_factors: int = 64,
        rate: float = 0.05,
        bias_rate: float = 0.05,
        regularisation: float = 0.002,
        num_negatives: int = 10,
        name: str = "BPR-MF",
    ) -> None:
        self._users = Factors(max_users, num_factors, 0.1, (seed, USERS))
        self._items = Factors(max_items, num_factors, 0.1, (seed, ITEMS))
        super().__init__(name, self._items.rows)
        self._seed = seed
        self._rate = rate
        self._bias_rate = bias_rate
        self._regularisation = regularisation
        self._num_negatives = num_negatives
        self._num_learnt = 0

    def _learn(self, event: Event, weight: float) -> None:
        user, item = self._users.touch(event.user_id), self._items.touch(event.item_id)
        # A generator from the count of events: a resumed run draws what an uninterrupted one would have drawn.
        generator = np.random.default_rng((self._seed, NEGATIVES, self._num_learnt))
        self._num_learnt += 1
        negatives_N = generator.integers(0, self.rows.num_rows, self._num_negatives)
        negatives_N = negatives_N[negatives_N != item]
        user_D, factors_RD, biases_R = self._users.factors_RD[user], self._items.factors_RD, self._items.biases_R
        before_D, item_D, negatives_ND = user_D.copy(), factors_RD[item].copy(), factors_RD[negatives_N]
        margins_N = (item_D - negatives_ND) @ before_D + biases_R[item] - biases_R[negatives_N]
        slopes_N = 1.0 / (1.0 + np.exp(np.clip(margins_N, -30.0, 30.0)))
        shrinkage = self._regularisation * len(negatives_N)
        user_D += self._rate * (slopes_N @ (item_D - negatives_ND) - shrinkage * before_D)
        factors_RD[item] += self._rate * (slopes_N.sum() * before_D - shrinkage * item_D)
        biases_R[item] += self._bias_rate * slopes_N.sum()
        pushes_ND = -slopes_N[:, None] * before_D - self._regularisation * negatives_ND
        np.add.at(factors_RD, negatives_N, self._rate * pushes_ND)
        np.add.at(biases_R, negatives_N, -self._bias_rate * slopes_N)

    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        biases_I = self._items.used_biases()
        user = self._users.rows.find(user_id)
        # Somebody new is shown what has the highest bias: what is popular, as this model knows it.
        if user is None:
            return biases_I.copy()
        scores_I: Floats = biases_I + self._items.used_factors() @ self._users.factors_RD[user]
        return scores_I

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        return {**super().sizes(), f"{self.name} users": self._users.size()}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        factors = {"users": self._users.state(), "items": self._items.state()}
        return {**super().state(), **factors, "num_learnt": self._num_learnt}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        super().load_state(state)
        self._users.load_state(state["users"])
        self._items.load_state(state["items"])
        self._num_learnt = state["num_learnt"]
