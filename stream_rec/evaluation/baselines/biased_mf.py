"""River's ``reco.BiasedMF`` as it comes: the recommender that the streaming library ships.

Shapes: R rows, D factors, I items.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from river import reco, stats

from stream_rec.evaluation.baselines.base import put_newest
from stream_rec.evaluation.baselines.rows import Rows
from stream_rec.evaluation.baselines.scored import Floats, ScoredBaseline
from stream_rec.records import Event

FIRST_ROWS = 256


class RiverBiasedMf(ScoredBaseline):
    """Predicts a rating: the event's ``value``, or its weight where it has none. All else is River's default.

    River asks its dicts for one item at a time, which at fifteen thousand items is a tenth of a second a list, and
    creates what it is asked for. So the items' parameters are copied into arrays as they are learnt, and lists are
    made from these; users and items beyond the bounds are taken out of River's dicts.
    """

    def __init__(self, *, max_users: int, max_items: int, seed: int = 1) -> None:
        super().__init__("River BiasedMF", Rows(max_items, self._forget))
        self._model = reco.BiasedMF(seed=seed)
        self._max_users = max_users
        self._users: OrderedDict[str, None] = OrderedDict()
        self._factors_RD: Floats = np.zeros((0, self._model.n_factors))
        self._biases_R: Floats = np.zeros(0)

    def _learn(self, event: Event, weight: float) -> None:
        row = self.rows.touch(event.item_id)
        self._model.learn_one(event.user_id, event.item_id, weight if event.value is None else event.value)
        self._copy(row, event.item_id)
        if event.user_id not in self._users and len(self._users) == self._max_users:
            gone = next(iter(self._users))
            del self._model.u_latents[gone], self._model.u_biases[gone]
        put_newest(self._users, event.user_id, None, self._max_users)

    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        if user_id not in self._users:
            return None
        num_items = self.rows.num_rows
        # The mean and the user's bias are the same for all items and change no order.
        scores_I: Floats = self._biases_R[:num_items] + self._factors_RD[:num_items] @ self._model.u_latents[user_id]
        return scores_I

    def _copy(self, row: int, item_id: str) -> None:
        if row >= len(self._biases_R):
            missing = max(FIRST_ROWS, 2 * len(self._biases_R), row + 1) - len(self._biases_R)
            self._factors_RD = np.concatenate([self._factors_RD, np.zeros((missing, self._model.n_factors))])
            self._biases_R = np.concatenate([self._biases_R, np.zeros(missing)])
        self._factors_RD[row] = self._model.i_latents[item_id]
        self._biases_R[row] = self._model.i_biases[item_id]

    def _forget(self, rows: list[int]) -> None:
        for item in [item for item in self._model.i_latents if self.rows.find(item) is None]:
            del self._model.i_latents[item], self._model.i_biases[item]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        return {**super().sizes(), f"{self.name} users": (len(self._users), self._max_users)}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``; of River's estimator the parameters, the mean and where its random numbers stand."""
        model = self._model
        return {
            **super().state(),
            "rows": self.rows.state(),
            "users": [[user, float(model.u_biases[user]), model.u_latents[user].tolist()] for user in self._users],
            "items": [[item, float(model.i_biases[item]), model.i_latents[item].tolist()] for item in model.i_latents],
            "mean": [float(model.global_mean.n), float(model.global_mean.get())],
            "random": self._random.get_state(legacy=False),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        super().load_state(state)
        self.rows.load_state(state["rows"])
        model = self._model
        num_events, mean = state["mean"]
        model.global_mean = stats.Mean._from_state(num_events, mean)
        self._random.set_state(state["random"])
        self._users = OrderedDict()
        for user, bias, factors in state["users"][-self._max_users :]:
            self._users[user] = None
            model.u_biases[user], model.u_latents[user] = bias, np.array(factors)
        for item, bias, factors in state["items"]:
            model.i_biases[item], model.i_latents[item] = bias, np.array(factors)
            row = self.rows.find(item)
            assert row is not None, f"no row was saved for {item}"
            self._copy(row, item)

    @property
    def _random(self) -> np.random.RandomState:
        random: np.random.RandomState = self._model.latent_initializer._rng
        return random
