"""The statistics: what is counted, always fresh, and what each says at a moment.

Each sparse statistic answers a batch of moments with items and weights; whoever reads them turns weights into shares.

Shapes: B = moments, N = history length, L = lags read, M = neighbours, E = entries of one statistic, S = items asked
for, R = visitors kept, T = S × R touches, G = neighbouring sessions, Z = window around a touch, P = pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stream_rec.config import StateSettings
from stream_rec.state.ages import Ages
from stream_rec.state.histories import Histories
from stream_rec.state.kinds import Kinds
from stream_rec.state.moments import Moments
from stream_rec.state.neighbours import Neighbours
from stream_rec.state.popularity import Popularity
from stream_rec.state.visitors import Visitors

DAY_S = 86_400.0
NUM_RULE_LAGS = 5
NUM_KNN_LAGS = 20
NUM_SESSION_ITEMS = 10
NUM_SESSIONS = 64
WINDOW = (*range(-8, 0), *range(1, 9))  # around the touch, in interactions of the neighbour
HOUR_CONCENTRATION = 4.0  # of the von Mises kernel over the hours of a day: half weight two and a half hours away

SPARSE = (
    "transitions fast",
    "transitions slow",
    "rules",
    "item kNN",
    "session kNN",
    "own frequent",
    "own recent",
    "own by hour",
    "kind",
)


@dataclass
class Reading:
    """What one statistic says: items, some several times, and weights >= 0. Row 0 and weight 0 say nothing.

    The first entries may be the neighbours of each of the newest past items in turn.
    """

    items_BE: Tensor
    weights_BE: Tensor
    num_lags: int = 0
    num_per_lag: int = 0


class Statistics:
    """All that is counted over items."""

    def __init__(self, state: StateSettings, device: torch.device) -> None:
        self.device = device
        width = state.max_neighbours
        self.popularity = Popularity(state.max_items, state.popularity_half_lives_s, device)
        self.transitions = Neighbours(state.max_items, width, state.transition_half_lives_s, device)
        self.rules = Neighbours(state.max_items, width, [state.rule_half_life_s], device)
        self.together = Neighbours(state.max_items, 2 * width, [state.knn_half_life_s], device)
        self.kinds = Kinds(state.num_context_buckets, state.max_items, width, state.kind_half_life_s, device)
        self.ages = Ages(state.max_items, device)
        self.visitors = Visitors(state.max_items, 64, device)
        self._tables = {"transitions": self.transitions, "rules": self.rules, "together": self.together}
        self.knn_weights_L = torch.arange(1, NUM_KNN_LAGS + 1, device=device).rsqrt()
        self._rule_weights_L = 1.0 / torch.arange(1, NUM_RULE_LAGS + 1, device=device)
        self._window_Z = torch.tensor(WINDOW, device=device)
        self._window_weights_Z = 1.0 / self._window_Z.abs().sqrt()

    def update(self, moments: Moments, turn_B: Tensor) -> None:
        """Count a batch of events; ``turn_B`` says which interaction of its user each is (histories know)."""
        item_B, time_B, weight_B = moments.item_B, moments.time_B, moments.weight_B
        past_BN = moments.history.items_BN
        self.popularity.update(item_B, time_B, weight_B, moments.newest_s)
        for table in self._tables.values():
            table.rebase(moments.newest_s)
        self.transitions.update(past_BN[:, 0], item_B, time_B, weight_B)
        lags_BL = past_BN[:, :NUM_RULE_LAGS]
        self.rules.update(
            *_pairs(lags_BL, item_B, time_B, weight_B[:, None] * self._rule_weights_L[: lags_BL.shape[1]])
        )
        window_BL = past_BN[:, :NUM_KNN_LAGS]
        weight_BL = weight_B[:, None] * (window_BL != item_B[:, None])  # all is like itself
        forth, back = (
            _pairs(window_BL, item_B, time_B, weight_BL),
            _pairs(window_BL, item_B, time_B, weight_BL, back=True),
        )
        self.together.count(item_B, time_B, weight_B)
        self.together.update(*(torch.cat(both) for both in zip(forth, back, strict=True)))
        self.kinds.update(moments)
        self.ages.update(item_B, moments.clock_B, weight_B)
        self.visitors.append(moments.items, moments.counts, moments.user_B, turn_B, moments.clock_B)

    # -- what each says ----------------------------------------------------------------------------------------

    def read(self, moments: Moments, histories: Histories, seen_from_B: Tensor, *, repeats: bool) -> list[Reading]:
        """The sparse statistics in the order of ``SPARSE``, exact to the event where it matters: transitions, rules."""
        past_BN = moments.history.items_BN
        fast, slow = self._transitions(moments, seen_from_B)
        return [
            fast,
            slow,
            self._rules(moments, seen_from_B),
            self._item_knn(past_BN[:, :NUM_KNN_LAGS]),
            self._session_knn(moments, histories),
            *self._own(moments, repeats=repeats),
            Reading(*self.kinds.read(moments, seen_from_B)),
        ]

    def _transitions(self, moments: Moments, seen_from_B: Tensor) -> list[Reading]:
        table, last_B = self.transitions, moments.history.items_BN[:, 0]
        same_BB = (last_B[:, None] == last_B[None, :]) & (last_B > 0)[:, None]
        fresh_WBB = table.landmark.pairwise(moments.time_B, seen_from_B) * (same_BB * moments.weight_B)
        stored_WBM = table.weights_WIM[:, last_B] * table.landmark.discounts(seen_from_B)[:, :, None]
        items_BE = torch.cat([table.neighbours_IM[last_B].long(), moments.item_B.expand_as(same_BB)], dim=1)
        return [Reading(items_BE, w) for w in torch.cat([stored_WBM, fresh_WBB], dim=2)]

    def _rules(self, moments: Moments, seen_from_B: Tensor) -> Reading:
        table, weights_L = self.rules, self._rule_weights_L
        past_BL = moments.history.items_BN[:, :NUM_RULE_LAGS]
        weights_L = weights_L[: past_BL.shape[1]]
        # Of both sides of a pair of moments: which items they look back on in common, and how far back each.
        common_BB = torch.zeros(past_BL.shape[0], past_BL.shape[0], device=self.device)
        for lag, weight in enumerate(weights_L.unbind()):
            for other, other_weight in enumerate(weights_L.unbind()):
                mine_B, theirs_B = past_BL[:, lag], past_BL[:, other]
                same_BB = (mine_B[:, None] == theirs_B[None, :]) & (mine_B > 0)[:, None]
                common_BB += same_BB * (weight * other_weight)
        fresh_BB = table.landmark.pairwise(moments.time_B, seen_from_B)[0] * common_BB * moments.weight_B
        stored_BLM = table.weights_WIM[0, past_BL] * weights_L[:, None]
        stored_BLM = stored_BLM * table.landmark.discounts(seen_from_B)[0][:, None, None]
        items_BE = torch.cat(
            [table.neighbours_IM[past_BL].long().flatten(1), moments.item_B.expand_as(fresh_BB)], dim=1
        )
        return Reading(items_BE, torch.cat([stored_BLM.flatten(1), fresh_BB], dim=1), *stored_BLM.shape[1:])

    def _item_knn(self, past_BL: Tensor) -> Reading:
        table = self.together
        items_BLM = table.neighbours_IM[past_BL].long()
        mass_I = table.mass_WI[0]
        product_BLM = mass_I[past_BL][:, :, None] * mass_I[items_BLM]
        cosine_BLM = table.weights_WIM[0, past_BL] * product_BLM.clamp_min(1e-24).rsqrt()
        cosine_BLM = cosine_BLM * (self.knn_weights_L[: past_BL.shape[1]] * (past_BL > 0))[:, :, None]
        return Reading(items_BLM.flatten(1), cosine_BLM.flatten(1), *items_BLM.shape[1:])

    def _session_knn(self, moments: Moments, histories: Histories) -> Reading:
        """STAN-like (Garg et al., SIGIR 2019): neighbours who share recent items, read near what is shared."""
        past_BS = moments.history.items_BN[:, :NUM_SESSION_ITEMS]
        visits = self.visitors.read(past_BS)
        recency_S = torch.arange(1, past_BS.shape[1] + 1, device=self.device).rsqrt()
        age_BSR = (moments.clock_B[:, None, None] - visits.times_BSR).clamp_min(0)
        touch_BSR = recency_S[:, None] * torch.exp2(-age_BSR / (3.0 * DAY_S)).float()
        is_other_BSR = (visits.users_BSR > 0) & (visits.users_BSR != moments.user_B[:, None, None])
        touch_BT = (touch_BSR * (is_other_BSR & (past_BS > 0)[:, :, None])).flatten(1)
        user_BT, turn_BT, time_BT = (x.flatten(1) for x in (visits.users_BSR, visits.turns_BSR, visits.times_BSR))
        # Touches of one user are summed into the newest of what he shares with us.
        user_BT, order_BT = torch.sort(user_BT, dim=1, stable=True)
        touch_BT = touch_BT.gather(1, order_BT)
        is_first_BT = torch.ones_like(user_BT, dtype=torch.bool)
        is_first_BT[:, 1:] = user_BT[:, 1:] != user_BT[:, :-1]
        run_BT = torch.cumsum(is_first_BT, 1) - 1
        alike_BT = torch.zeros_like(touch_BT).scatter_add_(1, run_BT, touch_BT).gather(1, run_BT) * is_first_BT
        alike_BG, best_BG = torch.topk(alike_BT, min(NUM_SESSIONS, alike_BT.shape[1]), dim=1, sorted=False)
        touch_BG = order_BT.gather(1, best_BG)
        user_BG, turn_BG, time_BG = user_BT.gather(1, best_BG), turn_BT.gather(1, touch_BG), time_BT.gather(1, touch_BG)
        items_BGZ, times_BGZ = histories.around(user_BG, turn_BG, self._window_Z)
        # A ring that has gone round holds another time's items there.
        is_after_Z = self._window_Z > 0
        held_BGZ = torch.where(is_after_Z, times_BGZ >= time_BG[:, :, None], times_BGZ <= time_BG[:, :, None])
        weights_BGZ = alike_BG[:, :, None] * self._window_weights_Z * held_BGZ
        return Reading(items_BGZ.flatten(1), weights_BGZ.flatten(1))

    def _own(self, moments: Moments, *, repeats: bool) -> list[Reading]:
        """The user's own items: how often, how lately, and how often at this hour of the day."""
        items_BN = moments.history.items_BN
        if not repeats:
            items_BN = items_BN[:, :0]
            return [Reading(items_BN, items_BN.float())] * 3
        is_own_BN = (items_BN > 0).float()
        recency_N = 1.0 / torch.arange(1, items_BN.shape[1] + 1, device=self.device)
        angle_BN = (moments.gaps_BN % int(DAY_S)).float() * (2 * torch.pi / DAY_S)
        by_hour_BN = torch.exp(HOUR_CONCENTRATION * (torch.cos(angle_BN) - 1.0))
        return [Reading(items_BN, is_own_BN * w) for w in (torch.ones_like(is_own_BN), recency_N, by_hour_BN)]

    # -- rows that come and go ---------------------------------------------------------------------------------

    def fade(self, share: float, num_items: int) -> None:
        """The world has changed: what went with what weighs only ``share`` beside what comes. Shares stay as they are.

        Popularity and transitions have half-lives to choose from, so of these the slow ones are left alone.
        """
        for table in self._tables.values():
            table.fade(share, num_items)

    def forget_items(self, rows: list[int]) -> None:
        """Retired item rows leave every statistic."""
        self.popularity.forget_items(rows)
        for table in self._tables.values():
            table.forget_items(rows)
        self.visitors.forget_items(rows)
        self.ages.forget_items(rows)
        self.kinds.forget_items(rows)

    def state(self, num_items: int) -> dict[str, Any]:
        """All of it for item rows below ``num_items``."""
        return {
            "popularity": self.popularity.state(num_items),
            "visitors": self.visitors.state(num_items),
            "ages": self.ages.state(num_items),
            "kinds": self.kinds.state(num_items),
            **{name: table.state(num_items) for name, table in self._tables.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self.popularity.load_state(state["popularity"])
        self.visitors.load_state(state["visitors"])
        self.ages.load_state(state["ages"])
        self.kinds.load_state(state["kinds"])
        for name, table in self._tables.items():
            table.load_state(state[name])


def _pairs(
    past_BL: Tensor, item_B: Tensor, time_B: Tensor, weight_BL: Tensor, *, back: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, neighbours, times and weights of the pairs past → item (or item → past), flat."""
    past_P, item_P = past_BL.reshape(-1), item_B[:, None].expand_as(past_BL).reshape(-1)
    time_P = time_B[:, None].expand_as(past_BL).reshape(-1)
    row_P, neighbour_P = (item_P, past_P) if back else (past_P, item_P)
    return row_P, neighbour_P, time_P, weight_BL.reshape(-1)
