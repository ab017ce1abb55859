"""A measured share of exposure for new items: places of published lists that are drawn, with the chance they had.

Whoever is never shown is never clicked, however good. Every place of a list is a mixture: with probability 1 - share it
goes to the best item that is not placed yet, with probability share to a new one, drawn. Unlike Thompson sampling that
gives the chance of what was shown in closed form (its propensity, given the places above it), which is what judging
another policy by these lists needs (Horvitz & Thompson, JASA 1952; Strehl et al., NeurIPS 2010).

Half of a draw is fair to all new items: each gets its part of the exposure, without attributes, too. The other half
follows the first stage's score, which knows attributes and the first clicks.

Shapes: B = moments, N = new items, K = places.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments

FAIR = 0.5  # of a draw


@dataclass(frozen=True)
class Place:
    """What stands at one place of a list, and how likely that was, given the places above it."""

    row: int
    propensity: float
    is_drawn: bool


class Exploration:
    """Draws places for new items. Changes nothing; what it draws follows from seed, batch and user alone."""

    def __init__(self, settings: Settings) -> None:
        ranking = settings.ranking
        self.share = ranking.explore_share
        self._until_events = ranking.explore_until_events
        self._younger_than_s = ranking.explore_items_younger_than_s
        self._seed = settings.worker.seed

    def new_rows(self, memory: Memory, moments: Moments) -> Tensor:
        """[N] item rows that may be recommended and count as new. Waits for the device: a list is about to leave it."""
        statistics = memory.statistics
        events_I = statistics.popularity.counts_HI[-1, : memory.num_item_rows]
        is_young_I = statistics.ages.younger_than(self._younger_than_s, moments.clock_B.max(), memory.num_item_rows)
        return torch.nonzero(memory.recommendable() & (events_I < self._until_events) & is_young_I)[:, 0]

    def chances(self, score_BN: Tensor) -> NDArray[np.float64]:
        """[B, N] how likely each new item is to be drawn first; 0 where its score is -inf, rows sum to 1 or are 0."""
        listed_BN = torch.isfinite(score_BN)
        fair_BN = listed_BN / listed_BN.sum(1, keepdim=True).clamp_min(1)
        by_score_BN = torch.nan_to_num(torch.softmax(score_BN.double(), dim=1)) * listed_BN
        chance_BN: NDArray[np.float64] = (FAIR * fair_BN + (1.0 - FAIR) * by_score_BN).cpu().numpy()
        return chance_BN

    def rng(self, batch: int, user_id: str) -> np.random.Generator:
        """The random stream of one list. By id: strangers have no row, and must not all be shown the same draw."""
        user = zlib.crc32(user_id.encode("utf-8", "surrogatepass"))
        return np.random.Generator(np.random.Philox(key=[self._seed, batch], counter=[0, 0, 0, user]))


def compose(
    best: Sequence[int],
    new: Sequence[int],
    place_in_new: Mapping[int, int],
    chance_N: NDArray[np.float64],
    share: float,
    rng: np.random.Generator,
) -> list[Place]:
    """A list as long as ``best`` (distinct rows, best first), with draws from ``new`` (chances sum to 1, or are all 0).

    ``place_in_new`` is the inverse of ``new``. Where no new item is left, the best one is sure of its place.
    """
    left_N = chance_N.copy()
    num_left, total = int(np.count_nonzero(left_N)), float(left_N.sum())
    placed: set[int] = set()
    places: list[Place] = []
    at = 0
    for coin, draw in rng.random((len(best), 2)).tolist():
        while best[at] in placed:
            at += 1
        is_drawn = num_left > 0 and coin < share
        row = new[_drawn(left_N, draw)] if is_drawn else best[at]
        n = place_in_new.get(row)
        chance = float(left_N[n]) / total if n is not None and num_left else 0.0
        propensity = share * chance + (1.0 - share) * (row == best[at]) if num_left else 1.0
        places.append(Place(row, propensity, is_drawn))
        placed.add(row)
        if n is not None and left_N[n] > 0:
            left_N[n] = 0.0
            num_left, total = num_left - 1, float(left_N.sum())
    return places


def _drawn(chance_N: NDArray[np.float64], draw: float) -> int:
    """Index of the item in whose part of the sum ``draw`` (in [0, 1)) falls."""
    sums_N = np.cumsum(chance_N)
    # Rounding can put a draw just short of 1 at the sum itself, where only items without a chance may follow.
    index = int(np.searchsorted(sums_N, draw * sums_N[-1], side="right"))
    return min(index, int(np.searchsorted(sums_N, sums_N[-1])))
