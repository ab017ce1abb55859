"""Drift raises the rates of the part whose loss it is, calm lowers them; all of it resumes bit for bit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_rec.config import LearningSettings
from stream_rec.learning import drift
from stream_rec.learning.adaptation import LISTS, RateAdaptation
from tests.stream_rec.learning.test_drift import BATCH, NOISES, noise
from tests.stream_rec.tiny_worlds import differing

PARTS = ("gate", "encoder", "rows", LISTS)


def settings(**learning: Any) -> LearningSettings:
    return LearningSettings.model_validate({"drift_boosts": dict.fromkeys(PARTS, 3.0)} | learning)


# -- answering it --------------------------------------------------------------------------------------------------


def jumped(adapt: RateAdaptation, part: str, num_after: int = 1) -> list[frozenset[str]]:
    """120 calm batches for all parts, then a jump in one; which parts rose at each batch after it."""
    rose = []
    for n in range(120 + num_after):
        losses = {name: float(noise("normal", 400, k)[n]) for k, name in enumerate(PARTS)}
        losses[part] += 2.0 * (n >= 120)
        drift = adapt.update(losses, BATCH)
        rose += [drift.rose] if n >= 120 else []
    return rose


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_drifts_is_raised_alone_and_at_once(part: str) -> None:
    adapt = RateAdaptation(settings(calm_factor=1.0), PARTS)
    assert jumped(adapt, part, 2) == [frozenset(), frozenset({part})]
    assert adapt.factors() == {name: 3.0 if name == part else 1.0 for name in PARTS}


def test_a_part_without_a_boost_is_reported_and_keeps_its_rate() -> None:
    adapt = RateAdaptation(settings(calm_factor=1.0, drift_boosts={"gate": 3.0}), PARTS)
    assert jumped(adapt, "rows", 2)[-1] == {"rows"}
    assert adapt.factors() == dict.fromkeys(PARTS, 1.0)


def test_what_makes_the_lists_never_slows_down() -> None:
    adapt = RateAdaptation(settings(calm_factor=0.5, calm_half_life_events=256.0), PARTS)
    for _ in range(40):
        adapt.update({}, BATCH)
    assert adapt.factors() == {LISTS: 1.0} | dict.fromkeys(PARTS[:3], pytest.approx(0.5))


def test_a_raised_rate_comes_back_by_half_lives() -> None:
    adapt = RateAdaptation(settings(calm_factor=1.0, drift_half_life_events=1_024.0), PARTS)
    jumped(adapt, "rows", 2)
    factors = []
    for _ in range(8):
        adapt.update({}, BATCH)
        factors.append(adapt.factors()["rows"])
    assert factors == pytest.approx([1.0 + 2.0 * 2.0 ** (-n / 4) for n in range(1, 9)])


def test_the_boost_is_a_setting_and_ends_where_the_loss_falls() -> None:
    adapt = RateAdaptation(settings(calm_factor=1.0, drift_boosts={"rows": 5.0}, drift_half_life_events=1e9), PARTS)
    jumped(adapt, "rows", 30)
    assert adapt.factors()["rows"] == pytest.approx(5.0, abs=1e-3)
    losses = noise("normal", 60, 1) + 2.0
    losses[20:] -= 2.0
    fell = [n for n, loss in enumerate(losses) if "rows" in adapt.update({"rows": float(loss)}, BATCH).fell]
    assert 20 <= fell[0] <= 23
    assert adapt.factors()["rows"] == 1.0


def test_calm_lowers_gently_down_to_a_bound_and_drift_takes_it_back() -> None:
    adapt = RateAdaptation(settings(calm_factor=0.5, calm_half_life_events=10_240.0), PARTS)
    factors = []
    for _ in range(400):
        adapt.update({}, BATCH)
        factors.append(adapt.factors()["gate"])
    assert factors[39] == pytest.approx(0.75)
    assert factors[79] == pytest.approx(0.625)
    assert all(0.5 < later < earlier < 1.0 for earlier, later in pairwise(factors))
    jumped(adapt, "gate", 2)
    assert adapt.factors()["gate"] == pytest.approx(3.0)


def test_switched_off_it_looks_at_nothing() -> None:
    adapt = RateAdaptation(settings(adapt=False), PARTS)
    before = adapt.state()
    assert set(jumped(adapt, "rows", 5)) == {frozenset()}
    assert adapt.factors() == dict.fromkeys(PARTS, 1.0)
    assert differing(before, adapt.state()) == []


# -- remembering it ------------------------------------------------------------------------------------------------


def stored(state: dict[str, Any]) -> Any:
    """As a snapshot gives it back: arrays apart, the rest through JSON."""
    if isinstance(state, dict):
        return {key: stored(value) for key, value in state.items()}
    return state.copy() if isinstance(state, np.ndarray) else msgspec.json.decode(msgspec.json.encode(state))


def test_a_restored_one_goes_on_as_the_first_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any of 300 batches: before the noise is known, after an alarm, where the window is cut."""
    monkeypatch.setattr(drift, "MAX_WINDOW_BLOCKS", 64)
    rng = np.random.default_rng(4)
    losses = np.stack([noise(kind, 300, 9) for kind in NOISES], 1)
    losses[100:, :2] += 1.0
    losses[180:, 1] -= 1.5
    batches = [
        (dict(zip(PARTS, row, strict=True)), int(num))
        for row, num in zip(losses.tolist(), rng.integers(20, 400, 300), strict=True)
    ]
    first, second = RateAdaptation(settings(), PARTS), RateAdaptation(settings(), PARTS)
    num_rises = 0
    for batch in batches:
        again = RateAdaptation(settings(), PARTS)
        again.load_state(stored(second.state()))
        second = again
        seen = first.update(*batch)
        assert second.update(*batch) == seen
        assert differing(first.state(), second.state()) == []
        assert first.factors() == second.factors()
        num_rises += len(seen.rose)
    assert num_rises >= 2


def test_a_part_that_the_state_does_not_know_begins_anew() -> None:
    small, large = RateAdaptation(settings(), ("gate",)), RateAdaptation(settings(), PARTS)
    for _ in range(20):
        small.update({"gate": 1.0}, BATCH)
        large.update({"gate": 1.0, "rows": 2.0}, BATCH)
    fresh = RateAdaptation(settings(), PARTS)
    fresh.load_state(small.state())
    assert fresh.factors()["rows"] == 1.0 > fresh.factors()["gate"]
    fresh.load_state(large.state())
    assert differing(fresh.state(), large.state()) == []
