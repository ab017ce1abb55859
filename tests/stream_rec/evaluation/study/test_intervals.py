"""Intervals hold what they should as often as they say, and pairs are paired."""

from __future__ import annotations

import numpy as np
import pytest

from stream_rec.evaluation.study.intervals import Blocks, Interval

NUM_EVENTS = 2_000


def covered(blocks: Blocks, num_trials: int, run_length: int) -> float:
    """Share of the intervals that hold the mean which events, equal in runs of ``run_length``, were drawn with."""
    held = 0
    for trial in range(num_trials):
        drawn = np.random.default_rng(trial).random(NUM_EVENTS // run_length) < 0.3
        interval = blocks.interval(np.repeat(drawn, run_length).astype(np.float64))
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
    assert Blocks(NUM_EVENTS).interval(values_E - values_E.copy()) == Interval(0.0, 0.0, 0.0)


def test_a_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(2)
    common_E = rng.random(NUM_EVENTS)
    better_E = common_E + 0.01 + 0.01 * rng.random(NUM_EVENTS)
    blocks = Blocks(NUM_EVENTS)
    difference = blocks.interval(better_E - common_E)
    assert 0.014 < difference.low < difference.value < difference.high < 0.016
    assert blocks.interval(common_E).high > blocks.interval(better_E).low


def test_the_mean_is_that_of_all_events_and_so_are_those_of_uneven_blocks():
    values_E = np.arange(103.0)
    blocks = Blocks(103, num_blocks=10)
    assert blocks.interval(values_E).value == values_E.mean()
    sizes = np.diff(blocks.edges)
    assert set(sizes) == {10, 11}
    assert float(blocks.means(values_E) @ sizes) == pytest.approx(values_E.sum())
    assert blocks.interval(values_E).low < values_E.mean() < blocks.interval(values_E).high


def test_the_same_seed_draws_the_same_and_another_seed_another():
    values_E = np.random.default_rng(3).random(NUM_EVENTS)
    first, again, other = (Blocks(NUM_EVENTS, seed=seed).interval(values_E) for seed in (1, 1, 2))
    assert first == again != other


def test_few_events_are_blocks_of_their_own_and_none_is_refused():
    assert Blocks(3).num_blocks == 3
    assert Blocks(1).interval(np.array([0.5])) == Interval(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="num_events is 0"):
        Blocks(0)
