"""Metrics of ranked lists with exactly one relevant item: the one that the user took next.

Ranks start at 1; 0 stands for a miss. With one relevant item at rank r the ideal list has it at rank 1, so that

    HR@k = [r <= k],  NDCG@k = [r <= k] / log2(r + 1),  MRR@k = [r <= k] / r,

each averaged over the scored events. All three are functions of how often each rank occurred, so a histogram of
ranks is all that is kept: integers, which a sliding window can take back without the drift of a running mean.

``HitRate``, ``NDCG`` and ``MRR`` follow river's conventions (``update(target, list)``, ``revert``, ``get``), and
like every river metric they slide when wrapped: ``river.utils.Rolling(NDCG, window_size=5_000, k=10)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from math import log2
from typing import Any

from river import reco
from river.metrics.base import Metric

MISS = 0
MAX_RANK = 20  # the longest list that any metric here looks at
SPREAD_RANK = 10  # coverage and personalisation look at this many places

ACCURACY = ("hr@10", "hr@20", "ndcg@10", "mrr@20")
SPREAD = ("coverage@10", "personalisation@10")
METRICS = (*ACCURACY, *SPREAD)


def rank_of(target: str, items: Sequence[str]) -> int:
    """Rank of the target in a list, best first: 1 for the head, MISS (0) where it is not in it."""
    return items.index(target) + 1 if target in items else MISS


class RankHistogram:
    """How often each rank occurred. Ranks beyond ``max_rank`` count as misses.

    ``update`` and ``revert`` make it rollable: ``river.utils.Rolling(RankHistogram, window_size=5_000)``.
    """

    def __init__(self, max_rank: int = MAX_RANK) -> None:
        self.max_rank = max_rank
        self.num_scored = 0
        self._counts = [0] * (max_rank + 1)

    def update(self, rank: int) -> None:
        """Count one scored event."""
        self.num_scored += 1
        self._counts[rank if rank <= self.max_rank else MISS] += 1

    def revert(self, rank: int) -> None:
        """Take back one that was counted before. Raises ValueError where it cannot have been."""
        slot = rank if rank <= self.max_rank else MISS
        if self._counts[slot] == 0:
            raise ValueError(f"rank {rank} was never counted, so it cannot be taken back")
        self.num_scored -= 1
        self._counts[slot] -= 1

    def hit_rate(self, k: int) -> float:
        """Share of events with the target among the first k; 0.0 before the first event, as river does."""
        return sum(self._counts[1 : k + 1]) / self.num_scored if self.num_scored else 0.0

    def ndcg(self, k: int) -> float:
        """Mean of 1 / log2(rank + 1) over hits among the first k (Järvelin & Kekäläinen 2002, one relevant item)."""
        gain = sum(count / log2(rank + 1) for rank, count in self._until(k))
        return gain / self.num_scored if self.num_scored else 0.0

    def mrr(self, k: int) -> float:
        """Mean of 1 / rank over hits among the first k."""
        return sum(count / rank for rank, count in self._until(k)) / self.num_scored if self.num_scored else 0.0

    def accuracy(self) -> dict[str, float]:
        """The metrics named in ``ACCURACY``."""
        return {
            "hr@10": self.hit_rate(10),
            "hr@20": self.hit_rate(20),
            "ndcg@10": self.ndcg(10),
            "mrr@20": self.mrr(20),
        }

    def state(self) -> list[int]:
        """Counts by rank, misses first."""
        return list(self._counts)

    def load_state(self, counts: list[int]) -> None:
        """Take over what ``state`` gave. Raises ValueError where it is of another length."""
        if len(counts) != self.max_rank + 1:
            raise ValueError(f"{len(counts)} counts of ranks were saved, {self.max_rank + 1} are needed")
        self._counts = list(counts)
        self.num_scored = sum(counts)

    def _until(self, k: int) -> list[tuple[int, int]]:
        return list(enumerate(self._counts))[1 : k + 1]


class _RankMetric(Metric):  # type: ignore[misc]  # river is checked as Any: its own hints do not pass strict
    """What the three metrics share; each says how it reads the histogram."""

    _fmt = ".2%"

    def __init__(self, k: int = 10) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; allowed is a whole number from 1")
        self.k = k
        self._ranks = RankHistogram(max_rank=k)

    def update(self, y_true: str, y_pred: list[str]) -> None:
        """``y_true`` is the item that was taken, ``y_pred`` the list as it stood before, best first."""
        self._ranks.update(rank_of(y_true, y_pred))

    def revert(self, y_true: str, y_pred: list[str]) -> None:
        self._ranks.revert(rank_of(y_true, y_pred))

    @property
    def bigger_is_better(self) -> bool:
        return True

    @property
    def works_with_weights(self) -> bool:
        return False

    def works_with(self, model: Any) -> bool:
        return isinstance(model, reco.base.Ranker)


class HitRate(_RankMetric):
    """HR@k: share of events whose item was among the first k."""

    def get(self) -> float:
        return self._ranks.hit_rate(self.k)


class NDCG(_RankMetric):
    """NDCG@k with one relevant item: 1 / log2(rank + 1)."""

    def get(self) -> float:
        return self._ranks.ndcg(self.k)


class MRR(_RankMetric):
    """MRR@k: 1 / rank, 0 beyond k."""

    def get(self) -> float:
        return self._ranks.mrr(self.k)


class ListSpread:
    """Catalogue coverage and personalisation of the lists shown, from how often each item was listed.

    Personalisation is 1 minus the expected overlap of two lists drawn at random without replacement, overlap being
    the number of common items over k. Comparing all pairs of n lists costs O(n²), but overlap is additive over items:
    an item that stands in c of the lists is common to c(c − 1)/2 of the n(n − 1)/2 pairs. So, exactly,

        E[overlap] = Σ_i c_i (c_i − 1) / (n (n − 1) k).

    Bounded: beyond ``max_items`` distinct items the half that was listed least is forgotten, its pairs so far kept as
    a sum. Until then both figures are exact.
    """

    def __init__(self, max_items: int, k: int = SPREAD_RANK) -> None:
        self.max_items = max_items
        self.k = k
        self.num_lists = 0
        self._counts: Counter[str] = Counter()
        self._retired_pairs = 0

    def __len__(self) -> int:
        """Distinct items remembered."""
        return len(self._counts)

    def update(self, items: Sequence[str]) -> None:
        """Count one list of distinct items, best first; one without items is no list and is left out."""
        if not items:
            return
        self.num_lists += 1
        self._counts.update(items[: self.k])
        if len(self._counts) > self.max_items:
            self._forget_least()

    def coverage(self, known: AbstractSet[str]) -> float:
        """Share of the known items that stood in at least one list. Listed items that are not known do not count."""
        return len(self._counts.keys() & known) / len(known) if known else 0.0

    def personalisation(self) -> float:
        """From 0 (one list for all) to 1 (no two lists share an item); 0.0 before the second list."""
        n = self.num_lists
        if n < 2:
            return 0.0
        pairs = self._retired_pairs + sum(count * (count - 1) for count in self._counts.values())
        return 1.0 - pairs / (n * (n - 1) * self.k)

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        counts = [list(pair) for pair in self._counts.items()]
        return {"num_lists": self.num_lists, "retired_pairs": self._retired_pairs, "counts": counts}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self.num_lists = state["num_lists"]
        self._retired_pairs = state["retired_pairs"]
        self._counts = Counter(dict(state["counts"]))
        if len(self._counts) > self.max_items:
            self._forget_least()

    def _forget_least(self) -> None:
        # Half at once: one by one, every new item would cost a pass over all of them.
        ranked = self._counts.most_common()
        num_kept = (self.max_items + 1) // 2
        self._retired_pairs += sum(count * (count - 1) for _, count in ranked[num_kept:])
        self._counts = Counter(dict(ranked[:num_kept]))
