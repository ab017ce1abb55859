"""STAN: sequence and time aware neighbourhood of sessions (Garg, Gupta, Malhotra, Vig & Shroff, SIGIR 2019).

Shapes: M items of the session at hand, C sessions found by them, K of them used, L places of a session, I items.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.baselines.base import put_newest
from stream_rec.evaluation.baselines.rows import Rows
from stream_rec.evaluation.baselines.scored import Floats, ScoredBaseline, counted
from stream_rec.evaluation.baselines.sessions import NOBODY, SessionStore
from stream_rec.records import Event

DAY_MS = 86_400_000.0
GAP_MS = 1_800_000  # half an hour of silence ends a session, as in web analytics and in the sets of the paper


class SessionKnn(ScoredBaseline):
    """Items of the recent sessions that are most like the user's session at hand, with the paper's three decays.

    λ1: items at hand count the less, the further back they lie (places); λ2: past sessions the less, the older they
    are (time); λ3: items of a past session the less, the further they are from what both have in common (places).
    A session ends after half an hour of silence, or where the log's ``session_id`` changes.
    """

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        num_neighbours: int = 200,
        max_sessions: int = 50_000,
        max_length: int = 100,
        sessions_per_item: int = 200,
        item_decay: float = 4.0,
        session_decay_ms: float = 90 * DAY_MS,
        place_decay: float = 10.0,
    ) -> None:
        super().__init__("session kNN", Rows(max_items, self._forget))
        self._num_neighbours = num_neighbours
        self._item_decay = item_decay
        self._session_decay_ms = session_decay_ms
        self._place_decay = place_decay
        self._max_users = max_users
        self._sessions = SessionStore(max_sessions, max_length, sessions_per_item)
        self._current: OrderedDict[str, tuple[int, int, str | None]] = OrderedDict()  # user → number, last ms, id

    def _learn(self, event: Event, weight: float) -> None:
        row = self.rows.touch(event.item_id)
        number, last_ms, session_id = self._current.get(event.user_id, (NOBODY, 0, None))
        is_over = event.timestamp_ms - last_ms > GAP_MS or event.session_id != session_id
        if number == NOBODY or is_over or not self._sessions.is_kept(number):
            number, last_ms = self._sessions.open(), event.timestamp_ms
        self._sessions.add(number, row, event.timestamp_ms)
        current = (number, max(last_ms, event.timestamp_ms), event.session_id)
        put_newest(self._current, event.user_id, current, self._max_users)

    def _scores(self, user_id: str, now_ms: int) -> Floats | None:
        number, last_ms, _ = self._current.get(user_id, (NOBODY, 0, None))
        # The id of the session that is about to be cannot be known before its event.
        if number == NOBODY or now_ms - last_ms > GAP_MS or not self._sessions.is_kept(number):
            return None
        lags = self._lags(number)
        slots_K, similarities_K = self._neighbours(number, lags, now_ms)
        scores_I = np.zeros(self.rows.num_rows)
        if len(slots_K):
            items_KL = self._sessions.items_SL[slots_K]
            held_KL = items_KL != NOBODY
            weights_KL = similarities_K[:, None] * self._nearness(items_KL, lags)
            scores_I += np.bincount(items_KL[held_KL], weights_KL[held_KL], minlength=len(scores_I))
        return counted(scores_I)

    def _lags(self, number: int) -> dict[int, int]:
        """Row of each item at hand → how many places back it was last taken, from 0."""
        lags: dict[int, int] = {}
        for lag, row in enumerate(reversed(self._sessions.items(number))):
            if row != NOBODY:
                lags.setdefault(row, lag)
        return lags

    def _neighbours(self, number: int, lags: dict[int, int], now_ms: int) -> tuple[NDArray[np.int64], Floats]:
        """Slots (K,) of the most similar sessions and their similarities (K,)."""
        store = self._sessions
        found = {row: store.holding(row) for row in lags}
        slots = [slots for slots in found.values() if len(slots)]
        if not slots:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        shares = [np.full(len(found[row]), np.exp(-lag / self._item_decay)) for row, lag in lags.items()]
        slots_C, inverse = np.unique(np.concatenate(slots), return_inverse=True)
        common_C = np.bincount(inverse, np.concatenate(shares), minlength=len(slots_C))
        common_C[slots_C == number % len(store.lengths_S)] = 0.0
        ages_C = np.maximum(now_ms - store.last_ms_S[slots_C], 0)
        similar_C = common_C / np.sqrt(len(lags) * store.lengths_S[slots_C]) * np.exp(-ages_C / self._session_decay_ms)
        if len(slots_C) > self._num_neighbours:
            best_K = np.argsort(-similar_C, kind="stable")[: self._num_neighbours]
            slots_C, similar_C = slots_C[best_K], similar_C[best_K]
        return slots_C, similar_C

    def _nearness(self, items_KL: NDArray[np.int32], lags: dict[int, int]) -> Floats:
        """For each place (K, L) how near it is to the session's place of the newest item that both have."""
        lag_of_I = np.full(self.rows.num_rows + 1, np.iinfo(np.int32).max, dtype=np.int64)  # the last one for −1
        lag_of_I[list(lags)] = list(lags.values())
        common_K = lag_of_I[items_KL].argmin(axis=1)
        distances_KL = np.abs(np.arange(items_KL.shape[1]) - common_K[:, None])
        nearness_KL: Floats = np.exp(-distances_KL / self._place_decay)
        return nearness_KL

    def _forget(self, rows: list[int]) -> None:
        self._sessions.forget(rows)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        users = {f"{self.name} users": (len(self._current), self._max_users)}
        return {**super().sizes(), **users, f"{self.name} sessions": self._sessions.size()}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``."""
        current = [[user, *session] for user, session in self._current.items()]
        return {**super().state(), "rows": self.rows.state(), "current": current, "sessions": self._sessions.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        super().load_state(state)
        self.rows.load_state(state["rows"])
        self._sessions.load_state(state["sessions"])
        self._current = OrderedDict()
        for user, number, last_ms, session_id in state["current"]:
            put_newest(self._current, user, (number, last_ms, session_id), self._max_users)
