"""The protocol, event by event; resumed against uninterrupted; and against the independent recount of a lists file."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.config import EvaluationSettings, RankingSettings, StateSettings
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.evaluation.from_lists import metrics_from_lists
from stream_rec.evaluation.prequential import PrequentialEvaluator
from stream_rec.evaluation.ranking_metrics import ACCURACY, METRICS
from stream_rec.records import CausedBy, Event, RankedItem, Recommendation

WEIGHTS = {"impression": 0.0}
ALL_TIME = "popularity all time"


def evaluator(*, novel=True, burn_in_events=0, window_events=100, baselines=True, list_length=20, **bounds):
    return PrequentialEvaluator(
        EvaluationSettings(window_events=window_events, baselines=baselines),
        RankingSettings(exclude_seen=novel, list_length=list_length),
        StateSettings(**bounds),
        WEIGHTS,
        burn_in_events=burn_in_events,
    )


def event(user, item, kind="click", at_ms=0):
    return Event(user_id=user, item_id=item, type=kind, timestamp_ms=at_ms)


def published(user, items):
    ranked = [RankedItem(item_id=item, score=1.0, rank=rank) for rank, item in enumerate(items, start=1)]
    cause = CausedBy(topic="events", partition=0, offset=0, timestamp_ms=0)
    return Recommendation(user_id=user, items=ranked, model_version="v", batch=1, caused_by=cause, generated_at_ms=0)


def random_stream(seed, num_events, num_users=12, num_items=40):
    """Events with drifting taste, and lists that sometimes hold what comes, as those of a model would."""
    rng = random.Random(seed)
    events, lists = [], []
    for number in range(num_events):
        item = str((number // 20 + rng.randrange(num_items // 2)) % num_items)
        kind = "impression" if rng.random() < 0.1 else "click"
        at_ms = number * 1_000 - rng.randrange(5_000)
        events.append(event(f"u{rng.randrange(num_users)}", item, kind, at_ms))
        lists.append([str(n) for n in rng.sample(range(num_items), rng.choice([0, 3, 10, 20]))])
    return events, lists


def test_methods_and_metrics_are_named():
    judge = evaluator()
    methods = ("model", "popularity 15 min", "popularity 3 h", ALL_TIME, "transitions")
    assert judge.methods == tuple(judge.whole()) == tuple(judge.window()) == methods
    assert all(tuple(values) == METRICS for values in judge.whole().values())
    assert all(tuple(values) == ACCURACY for values in judge.window().values())


def test_an_event_is_scored_before_anything_learns_from_it():
    judge = evaluator()
    judge.observe_fresh([event("u", "a")], [["a"]])
    # The only event so far is on an item that nobody had seen: a miss even for a list that holds it.
    assert judge.num_scored == 1
    assert {values["hr@10"] for values in judge.whole().values()} == {0.0}
    judge.observe_fresh([event("v", "a")], [["a"]])
    assert {values["hr@10"] for values in judge.whole().values()} == {0.5}


def test_the_rank_in_the_models_list_is_what_counts():
    judge = evaluator()
    judge.observe_fresh([event("u", "a"), event("v", "a")], [[], ["x", "y", "a"]])
    assert judge.whole()["model"] == {
        "hr@10": 1 / 2,
        "hr@20": 1 / 2,
        "ndcg@10": pytest.approx(1 / 2 / 2),
        "mrr@20": pytest.approx(1 / 3 / 2),
        "coverage@10": 1.0,  # of the one item in the stream; x and y are not of it
        "personalisation@10": 0.0,
    }


def test_impressions_are_neither_scored_nor_learnt_nor_consumed():
    judge = evaluator()
    judge.observe_fresh([event("u", "a", "impression"), event("v", "b"), event("u", "a")], [[], [], ["a"]])
    assert (judge.num_observed, judge.num_scored) == (3, 2)
    # The impression has not made the item known to the stream: still a miss.
    assert judge.whole()["model"]["hr@10"] == 0.0


def test_novel_mode_leaves_out_repeats_and_repeat_mode_scores_them():
    log = [event("u", "a"), event("v", "a"), event("u", "a")]
    for novel, num_scored, hits in ((True, 2, 1), (False, 3, 2)):
        judge = evaluator(novel=novel)
        judge.observe_fresh(log, [["a"]] * 3)
        assert judge.num_scored == num_scored
        assert judge.whole()[ALL_TIME]["hr@10"] == pytest.approx(hits / num_scored)


def test_baselines_leave_out_what_the_user_has_consumed():
    judge = evaluator(list_length=1)
    judge.observe_fresh([event("u", "a"), event("v", "a"), event("v", "b"), event("u", "b")], [[]] * 4)
    # a is more popular, but u has had it: the one place goes to b, and hits.
    assert judge.whole()[ALL_TIME]["hr@10"] == pytest.approx(2 / 4)


def test_all_lists_are_cut_to_the_same_length():
    judge = evaluator(list_length=1)
    judge.observe_fresh([event("u", "a"), event("v", "b"), event("w", "a")], [[], [], ["b", "a"]])
    assert judge.whole()["model"]["hr@20"] == judge.whole()[ALL_TIME]["hr@20"] == 0.0


def test_one_list_an_event_is_demanded():
    with pytest.raises(ValueError, match="shorter"):
        evaluator().observe_fresh([event("u", "a"), event("u", "b")], [[]])


def test_published_lists_are_scored_as_they_stood_when_they_were_acknowledged():
    judge = evaluator()
    judge.observe_published([event("u", "a"), event("v", "b")])
    judge.remember([published("u", ["b"])], now_ms=1)
    judge.observe_published([event("w", "c"), event("w", "c2"), event("u", "c"), event("u", "b")])
    # Six events: only u's b was in a remembered list. c became known after it was made, for baselines as well.
    assert judge.num_scored == 6
    assert {values["hr@10"] for values in judge.whole().values()} == {1 / 6}


def test_a_newer_list_replaces_the_remembered_one():
    judge = evaluator()
    judge.observe_published([event("v", "a"), event("v", "b")])
    judge.remember([published("u", ["a"])], now_ms=1)
    judge.remember([published("u", ["b"])], now_ms=2)
    judge.observe_published([event("u", "a")])
    assert judge.whole()["model"]["hr@10"] == 0.0


def test_burn_in_is_kept_out_of_the_whole_and_not_out_of_the_window():
    judge = evaluator(burn_in_events=2, window_events=2)
    log = [event("u", "a"), event("v", "a", "impression"), event("v", "a"), event("w", "b")]
    judge.observe_fresh(log, [["a"]] * 4)
    assert judge.num_scored == 2
    assert judge.whole()["model"]["hr@10"] == 1 / 2
    judge.observe_fresh([event("x", "c")], [[]])
    assert judge.window()["model"]["hr@10"] == 0.0
    assert judge.whole()["model"]["hr@10"] == 1 / 3


def test_without_baselines_only_the_model_is_measured_and_nothing_else_is_held():
    judge = evaluator(baselines=False)
    judge.observe_fresh([event("u", "a"), event("v", "a")], [[], ["a"]])
    judge.remember([published("u", ["a"])], now_ms=0)
    assert tuple(judge.whole()) == tuple(judge.window()) == ("model",)
    assert judge.state()["baselines"] == {}
    assert not any("popularity" in store or "transitions" in store for store in judge.sizes())


def test_one_half_life_given_twice_is_one_baseline():
    settings_ = EvaluationSettings(baseline_popularity_half_lives_s=[900.0, 900.0])
    judge = PrequentialEvaluator(settings_, RankingSettings(), StateSettings(), WEIGHTS)
    assert judge.methods == ("model", "popularity 15 min", ALL_TIME, "transitions")


def test_ranking_by_popularity_ourselves_scores_exactly_as_the_baseline():
    judge, own = evaluator(), Popularity(10_800.0, max_items=1_000)
    consumed = {}
    for one in random_stream(seed=3, num_events=400)[0]:
        judge.observe_fresh([one], [own.top(one.user_id, 0, 20, consumed.get(one.user_id, set()))])
        if one.type != "impression":
            own.update(one, 1.0)
            consumed.setdefault(one.user_id, set()).add(one.item_id)
    assert judge.num_scored > 100
    assert judge.whole()["model"] == judge.whole()["popularity 3 h"]
    assert judge.window()["model"] == judge.window()["popularity 3 h"]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.booleans(), st.integers(0, 300))
def test_resumed_equals_uninterrupted(seed, novel, stop):
    events, lists = random_stream(seed, num_events=300)
    # Bounds that are reached, so that what is forgotten and when is part of the comparison.
    bounds = {"max_users": 8, "max_items": 16, "max_seen_per_user": 5, "max_neighbours": 3}
    whole = evaluator(novel=novel, burn_in_events=30, window_events=50, **bounds)
    resumed = evaluator(novel=novel, burn_in_events=30, window_events=50, **bounds)

    def run(judge, first, end):
        for number in range(first, end):
            if number % 2:
                judge.observe_fresh([events[number]], [lists[number]])
            else:
                judge.observe_published([events[number]])
            judge.remember([published(events[number].user_id, lists[number])], events[number].timestamp_ms)

    run(whole, 0, stop)
    resumed.load_state(json.loads(json.dumps(whole.state())))
    run(whole, stop, 300)
    run(resumed, stop, 300)
    assert resumed.state() == whole.state()
    assert (resumed.whole(), resumed.window()) == (whole.whole(), whole.window())
    assert (resumed.num_scored, resumed.sizes()) == (whole.num_scored, whole.sizes())


def test_with_other_baselines_scores_start_anew_and_what_was_learnt_stays():
    before = evaluator()
    before.observe_fresh([event("u", "a"), event("v", "a")], [["a"], ["a"]])
    after = PrequentialEvaluator(
        EvaluationSettings(baseline_popularity_half_lives_s=[60.0]), RankingSettings(), StateSettings(), WEIGHTS
    )
    after.load_state(json.loads(json.dumps(before.state())))
    assert after.num_scored == 0
    after.observe_fresh([event("w", "a")], [["a"]])
    hits = {method: values["hr@10"] for method, values in after.whole().items()}
    assert hits == {"model": 1.0, "popularity 1 min": 0.0, ALL_TIME: 1.0, "transitions": 0.0}


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_everything_stays_within_its_bound(seed):
    events, lists = random_stream(seed, num_events=300, num_users=6)
    judge = evaluator(window_events=20, max_users=5, max_items=7, max_seen_per_user=3, max_neighbours=2)
    for one, items in zip(events, lists, strict=True):
        judge.observe_fresh([one], [items])
        judge.remember([published(one.user_id, items)], one.timestamp_ms)
        for store, (entries, capacity) in judge.sizes().items():
            assert 0 <= entries <= capacity, store
    state = judge.state()
    assert max(len(items) for _, items in state["consumed"]) == 3
    assert judge.sizes()["users with remembered lists"] == (5, 5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), novel=st.booleans(), num_events=st.integers(0, 200))
def test_the_lists_file_alone_gives_the_same_metrics(tmp_path_factory, seed, novel, num_events):
    events, lists = random_stream(seed, num_events)
    judge = evaluator(novel=novel, burn_in_events=num_events // 10)
    judge.observe_fresh(events, lists)
    path = tmp_path_factory.mktemp("lists") / "lists.jsonl"
    with path.open("w") as file:
        for one, items in zip(events, lists, strict=True):
            line = {"user_id": one.user_id, "item_id": one.item_id, "type": one.type, "timestamp": one.timestamp_ms}
            file.write(json.dumps({**line, "items": items}) + "\n")
    recounted = metrics_from_lists(path, novel=novel, event_weights=WEIGHTS)
    assert recounted == pytest.approx(judge.whole()["model"], abs=1e-12)
