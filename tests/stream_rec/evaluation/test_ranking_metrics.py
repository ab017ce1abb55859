"""The metrics against hand-computed values, against river's rolling window, and against all pairs of lists."""

import json
from itertools import combinations
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river.metrics.base import Metric
from river.reco import BiasedMF
from river.utils import Rolling

from stream_rec.evaluation.ranking_metrics import (
    ACCURACY,
    METRICS,
    MISS,
    MRR,
    NDCG,
    HitRate,
    ListSpread,
    RankHistogram,
    rank_of,
)

RANKS = st.lists(st.integers(0, 25), max_size=60)
LISTS = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True), max_size=12)


def test_ranks_start_at_one_and_a_miss_is_zero():
    assert [rank_of(item, ["a", "b", "c"]) for item in "abcd"] == [1, 2, 3, MISS]


def test_by_hand():
    ranks = RankHistogram()
    for rank in (1, 3, 11, 20, MISS, 21):
        ranks.update(rank)
    assert ranks.num_scored == 6
    assert ranks.accuracy() == {
        "hr@10": pytest.approx(2 / 6),
        "hr@20": pytest.approx(4 / 6),
        "ndcg@10": pytest.approx((1 + 1 / 2) / 6),
        "mrr@20": pytest.approx((1 + 1 / 3 + 1 / 11 + 1 / 20) / 6),
    }


def test_nothing_scored_is_zero_not_an_error():
    assert set(RankHistogram().accuracy().values()) == {0.0}
    assert (ListSpread(10).coverage({"a"}), ListSpread(10).personalisation()) == (0.0, 0.0)


def test_what_was_never_counted_cannot_be_taken_back():
    ranks = RankHistogram()
    ranks.update(1)
    with pytest.raises(ValueError, match="rank 2 was never counted"):
        ranks.revert(2)
    ranks.revert(1)
    assert ranks.num_scored == 0


@given(RANKS)
def test_metrics_are_means_of_gains(seen):
    ranks = RankHistogram()
    for rank in seen:
        ranks.update(rank)
    for k in (1, 10, 20):
        hits = [rank for rank in seen if 1 <= rank <= k]
        assert ranks.hit_rate(k) == pytest.approx(len(hits) / max(len(seen), 1))
        assert ranks.ndcg(k) == pytest.approx(sum(1 / log2(rank + 1) for rank in hits) / max(len(seen), 1))
        assert ranks.mrr(k) == pytest.approx(sum(1 / rank for rank in hits) / max(len(seen), 1))
        assert 0 <= ranks.mrr(k) <= ranks.ndcg(k) <= ranks.hit_rate(k) <= 1


@given(RANKS, st.integers(1, 10))
def test_a_window_equals_a_recount_of_its_newest_events_exactly(seen, size):
    window = Rolling(RankHistogram, window_size=size)
    for rank in seen:
        window.update(rank)
    recount = RankHistogram()
    for rank in seen[-size:]:
        recount.update(rank)
    assert window.obj.state() == recount.state()
    assert window.obj.accuracy() == recount.accuracy()


@given(RANKS)
def test_a_histogram_survives_json(seen):
    ranks, restored = RankHistogram(), RankHistogram()
    for rank in seen:
        ranks.update(rank)
    restored.load_state(json.loads(json.dumps(ranks.state())))
    assert (restored.accuracy(), restored.num_scored) == (ranks.accuracy(), ranks.num_scored)


def test_a_state_of_another_length_is_refused():
    with pytest.raises(ValueError, match="3 counts of ranks were saved, 21 are needed"):
        RankHistogram().load_state([0, 0, 0])


@pytest.mark.parametrize(
    ("metric", "expected"), [(HitRate(2), 2 / 4), (NDCG(2), (1 + 1 / log2(3)) / 4), (MRR(2), (1 + 1 / 2) / 4)]
)
def test_river_metrics_by_hand(metric, expected):
    for target, items in (("a", ["a", "b"]), ("b", ["a", "b"]), ("c", ["a", "b", "c"]), ("x", [])):
        metric.update(target, items)
    assert metric.get() == pytest.approx(expected)


@pytest.mark.parametrize("kind", [HitRate, NDCG, MRR])
def test_river_conventions(kind):
    metric = kind(k=3)
    assert isinstance(metric, Metric)
    assert metric.get() == 0.0
    assert metric.bigger_is_better
    assert metric.works_with(BiasedMF())
    assert metric.clone().k == 3
    metric.update("a", ["a"])
    assert metric > kind(k=3)
    assert repr(metric) == f"{kind.__name__}: 100.00%"
    metric.revert("a", ["a"])
    assert metric.get() == 0.0
    with pytest.raises(ValueError, match="k is 0"):
        kind(k=0)


def test_river_metrics_slide_in_rivers_own_window():
    rolling = Rolling(NDCG, window_size=2, k=5)
    for target in ("a", "x", "b"):
        rolling.update(target, ["a", "b"])
    assert rolling.get() == pytest.approx((0 + 1 / log2(3)) / 2)


@given(LISTS)
def test_personalisation_equals_the_mean_over_all_pairs(lists):
    spread = ListSpread(max_items=100, k=4)
    for items in lists:
        spread.update(items)
    overlaps = [len(set(one[:4]) & set(other[:4])) / 4 for one, other in combinations(lists, 2)]
    expected = 1 - sum(overlaps) / len(overlaps) if overlaps else 0.0
    assert spread.personalisation() == pytest.approx(expected)


def test_personalisation_at_its_ends():
    same, different = ListSpread(100, k=2), ListSpread(100, k=2)
    for n in range(5):
        same.update(["a", "b", "beyond k"])
        different.update([f"a{n}", f"b{n}"])
    assert same.personalisation() == 0.0
    assert different.personalisation() == 1.0


def test_coverage_counts_known_items_in_the_first_k_places():
    spread = ListSpread(100, k=2)
    spread.update(("a", "b", "c"))
    spread.update(("a", "unknown"))
    assert spread.coverage({"a", "b", "c", "d"}) == 2 / 4


def test_a_list_without_items_is_no_list():
    spread = ListSpread(100)
    spread.update(["a"])
    spread.update([])
    assert spread.num_lists == 1


@given(LISTS)
def test_listed_items_are_bounded_and_pairs_of_forgotten_ones_stay_counted(lists):
    bounded, free = ListSpread(max_items=3), ListSpread(max_items=100)
    for items in lists:
        bounded.update(items)
        free.update(items)
        assert len(bounded) <= 3
    # Forgetting can only lose pairs of items that come back, so overlap is never overstated.
    assert bounded.personalisation() >= free.personalisation() - 1e-12


def test_forgetting_keeps_personalisation_exact_for_items_that_do_not_come_back():
    bounded, free = ListSpread(max_items=4, k=2), ListSpread(max_items=100, k=2)
    for pair in ("ab", "ab", "ab", "cd", "cd", "ef"):
        bounded.update(list(pair))
        free.update(list(pair))
    assert len(bounded) <= 4 < len(free)
    assert bounded.personalisation() == free.personalisation()


@given(LISTS)
def test_spread_survives_json(lists):
    spread, restored = ListSpread(max_items=5), ListSpread(max_items=5)
    for items in lists:
        spread.update(items)
    restored.load_state(json.loads(json.dumps(spread.state())))
    for one in (spread, restored):
        one.update(["a", "z"])
    assert restored.state() == spread.state()


def test_names():
    assert set(RankHistogram().accuracy()) == set(ACCURACY) < set(METRICS)
