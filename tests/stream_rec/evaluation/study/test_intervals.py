"""Intervals hold what they should as often as they say, and pairs are paired."""

from __future__ import annotations

import numpy as np
import pytest

from stream_rec.evaluation.study.gains import Gain
from stream_rec.evaluation.study.intervals import Blocks, Floats, Interval, whole

NUM_EVENTS = 2_000


def mean_of(values_E: Floats) -> Gain:
    return Gain(values_E, np.ones(len(values_E)))


def covered(blocks: Blocks, num_trials: int, run_length: int) -> float:
    """Share of the intervals that hold the mean which events, equal in runs of ``run_length``, were drawn with."""
    held = 0
    for trial in range(num_trials):
        drawn = np.random.default_rng(trial).random(NUM_EVENTS // run_length) < 0.3
        interval = blocks.interval(mean_of(np.repeat(drawn, run_length).astype(np.float64)))
        held += interval.low <= 0.3 <= interval.high
    return held / num_trials


def test_the_interval_covers_a_known_mean_about_as_often_as_it_says():
    assert 0.9 <= covered(Blocks(NUM_EVENTS, num_draws=400), 200, 1) <= 0.99


def test_blocks_hold_what_events_drawn_one_by_one_would_miss():
    by_block, by_event = Blocks(NUM_EVENTS, num_draws=400), Blocks(NUM_EVENTS, num_blocks=NUM_EVENTS, num_draws=400)
    assert covered(by_block, 100, 20) > 0.88
    assert covered(by_event, 100, 20) < 0.6


def test_a_paired_difference_of_the_same_is_exactly_nothing():
    values_E = np.random.default_rng(1).random(NUM_EVENTS)
    difference = Blocks(NUM_EVENTS).difference(mean_of(values_E), mean_of(values_E.copy()))
    assert difference == Interval(0.0, 0.0, 0.0)


def test_a_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(2)
    common_E = rng.random(NUM_EVENTS)
    better_E = common_E + 0.01 + 0.01 * rng.random(NUM_EVENTS)
    blocks = Blocks(NUM_EVENTS)
    difference = blocks.difference(mean_of(better_E), mean_of(common_E))
    assert 0.014 < difference.low < difference.value < difference.high < 0.016
    assert blocks.interval(mean_of(common_E)).high > blocks.interval(mean_of(better_E)).low


def test_the_mean_is_that_of_all_events_and_so_are_those_of_uneven_blocks():
    values_E = np.arange(103.0)
    blocks = Blocks(103, num_blocks=10)
    interval = blocks.interval(mean_of(values_E))
    assert interval.value == values_E.mean()
    assert set(np.diff(blocks.edges)) == {10, 11}
    assert blocks.sums(values_E).sum() == values_E.sum()
    assert interval.low < values_E.mean() < interval.high


def test_a_ratio_is_one_of_sums_and_its_interval_covers_what_it_is_drawn_from():
    held = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        weights_E = rng.random(NUM_EVENTS)
        gain = Gain(weights_E * (rng.random(NUM_EVENTS) < 0.3), weights_E)
        interval = Blocks(NUM_EVENTS, num_draws=400).interval(gain)
        held += interval.low <= 0.3 <= interval.high
    assert 0.88 <= held / 100 <= 0.99
    assert whole(Gain(np.array([1.0, 1.0]), np.array([1.0, 3.0]))) == 0.5
    assert whole(Gain(np.zeros(2), np.zeros(2))) == 0.0


def test_the_same_seed_draws_the_same_and_another_seed_another():
    values_E = np.random.default_rng(3).random(NUM_EVENTS)
    first, again, other = (Blocks(NUM_EVENTS, seed=seed).interval(mean_of(values_E)) for seed in (1, 1, 2))
    assert first == again != other


def test_few_events_are_blocks_of_their_own_and_none_is_refused():
    assert Blocks(3).num_blocks == 3
    assert Blocks(1).interval(mean_of(np.array([0.5]))) == Interval(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="num_events is 0"):
        Blocks(0)
