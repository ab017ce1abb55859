"""Figures of made-up answers, as one would compute them by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from stream_rec.evaluation.ranking_metrics import ACCURACY
from stream_rec.evaluation.study import splits
from stream_rec.evaluation.study.gains import gains_of
from stream_rec.evaluation.study.intervals import Interval
from stream_rec.evaluation.study.plan import LIST, RERANK
from stream_rec.evaluation.study.words import verdict
from tests.stream_rec.evaluation.study.made_studies import NUM_EVENTS, figures, ranks, result

NOTHING = Interval(0.0, 0.0, 0.0)


def test_gains_are_what_the_metrics_say_of_one_event():
    ranks_E = [0, 1, 3, 10, 15, 20, 25]
    answers = result(ranks_E).answers
    gains = {metric: gain.values_E for mode in (LIST, RERANK) for metric, gain in gains_of(answers, mode).items()}
    assert gains["hr@10"].tolist() == [0, 1, 1, 1, 0, 0, 0]
    assert gains["hr@20"].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert gains["ndcg@10"].tolist() == pytest.approx([0, 1, 1 / log2(4), 1 / log2(11), 0, 0, 0])
    assert gains["mrr@20"].tolist() == pytest.approx([0, 1, 1 / 3, 1 / 10, 1 / 15, 1 / 20, 0])
    assert gains["mrr"].tolist() == pytest.approx([0, *(1 / rank for rank in ranks_E[1:])])
    assert gains["hr@1"].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert gains["hr@5"].tolist() == [0, 1, 1, 0, 0, 0, 0]


def test_the_paired_difference_of_the_same_answers_is_exactly_nothing_and_has_no_width():
    same = ranks(0.4, 1)
    model, other = figures({"model": [same], "popularity": [same]}).methods
    assert other.difference == model.difference == dict.fromkeys(ACCURACY, NOTHING)
    assert other.accuracy == model.accuracy
    assert other.accuracy["hr@10"].low < other.accuracy["hr@10"].high


def test_seeds_are_averaged_event_by_event_and_told_one_by_one():
    stream = figures({"model": [[1, 0, 0, 0], [1, 1, 0, 0]], "popularity": [[0, 0, 0, 0]]})
    model = stream.model()
    assert model is not None
    assert model.seeds == [1, 2]
    assert model.per_seed["hr@10"] == [0.25, 0.5]
    assert model.accuracy["hr@10"].value == 0.375
    assert stream.methods[1].difference is not None
    assert stream.methods[1].difference["hr@10"].value == -0.375


def test_methods_stand_in_the_order_of_their_figures_and_without_the_model_nothing_is_compared():
    stream = figures({"popularity": [ranks(0.1, 1)], "item-knn": [ranks(0.3, 2)], "rules": [ranks(0.2, 3)]})
    assert [method.method for method in stream.methods] == ["item-knn", "rules", "popularity"]
    assert stream.best_baseline() is stream.methods[0]
    assert all(method.difference is None for method in stream.methods)
    assert verdict(stream) == "The model was not run here."


def test_events_per_cpu_second_count_all_seeds():
    (model,) = figures({"model": [[0] * 10, [0] * 10]}).methods
    assert model.events_per_cpu_s == 2 * 20 / (2 * 2.0)


def test_every_split_holds_every_event_once():
    masks = splits.masks(result([0] * NUM_EVENTS).answers)
    for group in splits.SPLITS.values():
        assert (np.sum([masks[name] for name in group], axis=0) == 1).all()
    assert int(masks[splits.NO_HISTORY].sum()) == NUM_EVENTS // 2
    assert int(masks[splits.UNSEEN_ITEM].sum()) == NUM_EVENTS // 10
    assert masks[splits.NEW_ITEM].any()


def test_the_head_is_the_fifth_of_the_items_taken_most_often():
    number_E = np.array([7, 7, 7, 1, 1, 2, 3, 4], dtype=np.int32)
    answers = result([0] * 8).answers._replace(item_number=number_E)
    assert splits.masks(answers)[splits.HEAD].tolist() == [True] * 3 + [False] * 5


def test_splits_are_means_of_their_own_events():
    alternating = [1 if n % 2 else 0 for n in range(NUM_EVENTS)]  # odd events are of people with history
    (model,) = figures({"model": [alternating]}).methods
    assert model.splits[splits.NO_HISTORY] == {"hr@10": 0.0, "ndcg@10": 0.0}
    assert model.splits[splits.LONG] == {"hr@10": 1.0, "ndcg@10": 1.0}
    assert model.splits[splits.SHORT] is None


def test_a_curve_follows_time():
    (model,) = figures({"model": [[0] * (NUM_EVENTS // 2) + [1] * (NUM_EVENTS // 2)]}).methods
    assert len(model.curve) == 100
    assert (model.curve[0], model.curve[-1]) == (0.0, 1.0)
    assert model.curve == sorted(model.curve)


def test_the_verdict_says_whether_the_interval_is_clear_of_nothing():
    near = ranks(0.4, 1)
    for model, rival, said in (
        (ranks(0.6, 1), ranks(0.2, 2), "beats every baseline; the best is popularity"),
        (ranks(0.2, 1), ranks(0.6, 2), "loses to popularity"),
        (near, near[::-1], "cannot be told apart"),
    ):
        assert said in verdict(figures({"model": [model], "popularity": [rival]}))
    assert "No baseline" in verdict(figures({"model": [near]}))
    assert "Nothing was scored" in verdict(figures({"model": [[]], "popularity": [[]]}))
