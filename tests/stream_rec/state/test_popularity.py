"""Popularity against sums of powers of two in plain Python, over gaps of days, late events and retired items."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.state.popularity import Popularity
from tests.stream_rec.state.worlds import CPU, START_S, differences

HALF_LIVES_S = [300.0, 86_400.0]
NUM_ITEMS = 6
LEAST_MASS = 1e-9  # of the newest event's weight: below it float32 sums may round differently


@dataclass(frozen=True)
class Click:
    item: int  # 0: of an item without a row
    at_s: float
    weight: float


GAPS_S = st.sampled_from([0.0, 0.0, 0.25, 30.0, 300.0, -700.0, 9_000.0, 20_000.0, 400_000.0])
CLICKS = st.tuples(st.integers(0, NUM_ITEMS), GAPS_S, st.sampled_from([1.0, 1.0, 0.0, 2.5]))
STEPS = st.lists(
    st.one_of(
        st.lists(CLICKS, min_size=1, max_size=8),
        st.lists(CLICKS, min_size=1, max_size=8),
        st.sets(st.integers(1, NUM_ITEMS), min_size=1, max_size=3),
        st.none(),
    ),
    max_size=8,
)


def update(popularity: Popularity, clicks: list[Click]) -> None:
    item_B = torch.tensor([c.item for c in clicks], device=CPU)
    time_B = torch.tensor([START_S + c.at_s for c in clicks], dtype=torch.float64, device=CPU)
    weight_B = torch.tensor([c.weight for c in clicks], device=CPU)
    popularity.update(item_B, time_B, weight_B, float(time_B.max()))


def seen_from(popularity: Popularity, at_s: float) -> tuple[list[list[float]], list[float]]:
    """Counts and totals by half-life, as seen from ``at_s``."""
    discounts_H1 = popularity.landmark.discounts(torch.tensor([START_S + at_s], dtype=torch.float64, device=CPU))
    return (popularity.counts_HI * discounts_H1).tolist(), (popularity.totals_H * discounts_H1[:, 0]).tolist()


@settings(deadline=None, max_examples=150)
@given(steps=STEPS)
def test_counts_and_totals_are_the_decayed_sums_whatever_the_gaps(
    steps: list[list[tuple[int, float, float]] | set[int] | None],
) -> None:
    popularity = Popularity(NUM_ITEMS, HALF_LIVES_S, CPU)
    counted: list[Click] = []
    at_s = newest_s = 0.0
    for step in steps:
        if step is None:
            state = popularity.state(NUM_ITEMS + 1)
            popularity = Popularity(NUM_ITEMS, HALF_LIVES_S, CPU)
            popularity.load_state(state)
            assert list(differences(state, popularity.state(NUM_ITEMS + 1))) == []
        elif isinstance(step, set):
            popularity.forget_items(sorted(step))
            counted = [click for click in counted if click.item not in step]
        else:
            batch = []
            for item, gap_s, weight in step:
                at_s += gap_s
                batch.append(Click(item, at_s, weight))
                newest_s = max(newest_s, at_s)
            update(popularity, batch)
            counted += [click for click in batch if click.item]
        counts, totals = seen_from(popularity, newest_s)
        for index, half_life_s in enumerate([*HALF_LIVES_S, math.inf]):
            expected = [0.0] * (NUM_ITEMS + 1)
            for click in counted:
                expected[click.item] += click.weight * 2.0 ** ((click.at_s - newest_s) / half_life_s)
            assert counts[index] == pytest.approx(expected, rel=1e-4, abs=LEAST_MASS)
            assert totals[index] == pytest.approx(math.fsum(expected), rel=1e-4, abs=LEAST_MASS)
            # What a total is for: shares that sum to 1, or nothing at all.
            assert totals[index] == pytest.approx(sum(counts[index]), rel=1e-4, abs=1e-30)


def test_the_total_is_right_though_the_item_that_retires_held_nearly_all_of_it() -> None:
    popularity = Popularity(NUM_ITEMS, HALF_LIVES_S, CPU)
    update(popularity, [Click(1, 0.0, 1.0)])
    update(popularity, [Click(2, 30 * 300.0, 1.0)])  # weighs 2^30 in the frame of the first
    popularity.forget_items([2])
    counts, totals = seen_from(popularity, 0.0)
    assert totals == pytest.approx([1.0, 1.0, 1.0])
    assert [sum(row) for row in counts] == pytest.approx([1.0, 1.0, 1.0])


def test_a_row_that_changes_hands_starts_from_nothing() -> None:
    popularity = Popularity(NUM_ITEMS, HALF_LIVES_S, CPU)
    update(popularity, [Click(1, 0.0, 1.0), Click(2, 0.0, 1.0)])
    popularity.forget_items([1])
    assert popularity.counts_HI[:, 1].tolist() == [0.0] * 3
    update(popularity, [Click(1, 1.0, 1.0)])
    assert popularity.counts_HI[2, 1:3].tolist() == [1.0, 1.0]


def test_row_0_counts_for_nobody() -> None:
    popularity = Popularity(NUM_ITEMS, HALF_LIVES_S, CPU)
    update(popularity, [Click(0, 0.0, 3.0)])
    assert not popularity.counts_HI.any()
    assert not popularity.totals_H.any()
