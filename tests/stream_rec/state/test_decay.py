"""Forward decay is exponential decay, whatever the gap and the order."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.state.decay import MAX_EXPONENT, MIN_EXPONENT, Landmark
from tests.stream_rec.state.worlds import CPU, START_S

HALF_LIVES_S = [300.0, 86_400.0, math.inf]


def times(values: list[float]) -> torch.Tensor:
    return torch.tensor([START_S + value for value in values], dtype=torch.float64, device=CPU)


@settings(deadline=None)
@given(at_s=st.lists(st.floats(-40 * 300.0, 40 * 300.0), min_size=1, max_size=8))
def test_weights_are_powers_of_two_of_the_time_since_the_landmark(at_s: list[float]) -> None:
    landmark = Landmark(HALF_LIVES_S, CPU)
    assert landmark.rebase(START_S) is None
    for half_life_s, weights in zip(HALF_LIVES_S, landmark.weights(times(at_s)).tolist(), strict=True):
        assert weights == pytest.approx([2.0 ** (at / half_life_s) for at in at_s], rel=1e-4)


@settings(deadline=None)
@given(ahead_s=st.floats(0, 400 * 86_400.0))
def test_a_count_survives_a_rebase_as_seen_from_later(ahead_s: float) -> None:
    landmark = Landmark(HALF_LIVES_S, CPU)
    landmark.rebase(START_S)
    counts = landmark.weights(times([0.0]))[:, 0]
    factors = landmark.rebase(START_S + ahead_s)
    assert (factors is None) == (ahead_s <= MAX_EXPONENT * 300.0)
    if factors is not None:
        counts = counts * torch.tensor(factors, device=CPU)
        assert landmark.time_s == START_S + ahead_s
    seen = counts * landmark.discounts(times([ahead_s]))[:, 0]
    assert seen[2].item() == 1.0  # what never decays never does
    for index, half_life_s in enumerate(HALF_LIVES_S[:2]):
        # Beyond the range of float32 it is as good as nothing, never more.
        assert seen[index].item() == pytest.approx(2.0 ** (-ahead_s / half_life_s), rel=1e-4, abs=2.0**MIN_EXPONENT)
    assert torch.isfinite(landmark.weights(times([ahead_s]))).all()


def test_the_landmark_never_moves_back() -> None:
    landmark = Landmark(HALF_LIVES_S, CPU)
    landmark.rebase(START_S)
    assert landmark.rebase(START_S - 1e9) is None
    assert landmark.time_s == START_S
    assert torch.isfinite(landmark.weights(times([-1e9]))).all()


def test_before_the_first_event_counts_are_seen_as_they_are() -> None:
    assert Landmark(HALF_LIVES_S, CPU).discounts(times([0.0, 9.0])).tolist() == [[1.0, 1.0]] * 3


def test_pairwise_weighs_earlier_events_only_and_ties_by_their_order() -> None:
    landmark = Landmark([300.0], CPU)
    at = times([0.0, 300.0, 300.0, 900.0])
    assert landmark.pairwise(at, at)[0].tolist() == [
        [0.0, 0.0, 0.0, 0.0],
        [0.5, 0.0, 0.0, 0.0],
        [0.5, 1.0, 0.0, 0.0],
        [0.125, 0.25, 0.25, 0.0],
    ]


def test_weights_need_a_landmark() -> None:
    with pytest.raises(AssertionError, match="rebase comes first"):
        Landmark([1.0], CPU).weights(times([0.0]))
