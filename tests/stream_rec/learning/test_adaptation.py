"""Drift: a jump is seen within a few batches and raises the rates, noise does not; all of it resumes bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_rec.config import LearningSettings
from stream_rec.learning import adaptation
from stream_rec.learning.adaptation import LIST, LossWatch, RateAdaptation, clearest_cut
from tests.stream_rec.tiny_worlds import differing

BATCH = 256
PARTS = ("gate", "encoder", "rows")
NOISES = ("normal", "laplace", "t3", "daily")


def settings(**learning: Any) -> LearningSettings:
    return LearningSettings.model_validate({"drift_boosts": dict.fromkeys(PARTS, 3.0)} | learning)


def noise(kind: str, num_batches: int, seed: int) -> np.ndarray[Any, Any]:
    """Losses about 6 nats with a noise of about .2; of heavy tails, or on a tide that lasts 400 batches."""
    rng = np.random.default_rng(seed)
    draws = {
        "normal": lambda: rng.normal(0.0, 0.2, num_batches),
        "laplace": lambda: rng.laplace(0.0, 0.14, num_batches),
        "t3": lambda: 0.12 * rng.standard_t(3, num_batches),
        "daily": lambda: rng.normal(0.0, 0.2, num_batches) + 0.1 * np.sin(np.arange(num_batches) * math.tau / 400),
    }
    return 6.0 + draws[kind]()


def changes_of(losses: Sequence[float], num_events: int = BATCH) -> list[tuple[int, str]]:
    """Number of the batch and what was seen at it."""
    watch = LossWatch(0.002)
    seen = [(n, watch.update(float(loss), num_events)) for n, loss in enumerate(losses)]
    return [(n, change) for n, change in seen if change]


# -- seeing it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "within"), [(2.0, 3), (1.0, 4), (0.6, 8)])
@pytest.mark.parametrize("kind", NOISES)
def test_a_jump_is_seen_within_a_few_batches(size: float, within: int, kind: str) -> None:
    """10, 5 and 3 times the noise: within 768, 1,024 and 2,048 events, nineteen times in twenty."""
    delays = []
    for seed in range(40):
        losses = noise(kind, 150, seed)
        losses[120:] += size
        seen = [(n, change) for n, change in changes_of(losses) if n >= 120]
        delays.append(seen[0][0] - 119 if seen and seen[0][1] == "rise" else 999)
    assert np.quantile(delays, 0.95) <= within


@pytest.mark.parametrize(("kind", "most"), [("normal", 2), ("laplace", 2), ("t3", 6), ("daily", 16)])
def test_noise_is_not_taken_for_drift(kind: str, most: int) -> None:
    """In 20,000 batches, five million events, of each kind; the tide of half a noise is a change, if no drift."""
    assert sum(len(changes_of(noise(kind, 1_000, seed))) for seed in range(20)) <= most


def test_one_odd_batch_is_no_drift_and_two_in_a_row_are() -> None:
    losses = noise("normal", 200, 0)
    odd = losses.copy()
    odd[150] += 100.0
    assert changes_of(odd) == []
    odd[151] += 100.0
    assert changes_of(odd)[0] == (151, "rise")


def test_a_loss_that_is_learnt_away_does_not_rise() -> None:
    """The curve of something that begins with nothing: falls, if anything. (One in twenty has an odd moment.)"""
    rises = 0
    for seed in range(20):
        losses = noise("normal", 400, seed) + 4.0 * np.exp(-np.arange(400) / 60)
        rises += "rise" in {change for _, change in changes_of(losses)}
    assert rises <= 1


def test_a_fall_is_seen_as_one() -> None:
    losses = noise("normal", 200, 3)
    losses[150:] -= 1.0
    assert changes_of(losses)[0][1] == "fall"


def test_the_unit_of_a_loss_does_not_matter() -> None:
    losses = noise("laplace", 300, 5)
    losses[200:] += 1.0
    seen = changes_of(losses)
    assert seen
    assert changes_of(losses * 0.0625) == changes_of(losses * 1024.0) == seen  # powers of two: the same digits


def test_a_constant_loss_is_calm() -> None:
    assert changes_of([6.0] * 300) == []
    assert changes_of([0.0] * 300) == []
    assert changes_of([6.0] * 150 + [6.0 + 1e-7] * 150) == []


def test_small_batches_are_taken_together() -> None:
    """16 events say a quarter as much as 256: their noise is no drift, and a jump is found all the same."""
    rng = np.random.default_rng(2)
    calm = 6.0 + rng.normal(0.0, 0.8, 4_000)
    assert len(changes_of(calm, 16)) <= 1
    calm[3_000:] += 2.0
    found = [n for n, change in changes_of(calm, 16) if n >= 3_000 and change == "rise"]
    assert found[0] < 3_000 + 64


def test_what_is_no_loss_is_passed_over() -> None:
    losses = noise("normal", 160, 7)
    losses[150:] += 2.0
    clean, watch = changes_of(losses), LossWatch(0.002)
    seen = []
    for n, loss in enumerate(losses):
        for nothing, num_events in ((math.nan, BATCH), (math.inf, BATCH), (99.0, 0)):
            assert watch.update(nothing, num_events) is None
        change = watch.update(float(loss), BATCH)
        seen += [(n, change)] if change else []
    assert seen == clean != []


def test_the_clearest_cut_is_where_the_mean_steps() -> None:
    assert clearest_cut([0.0, 0.0, 0.0, 5.0]) == (3, 5.0)
    assert clearest_cut([9.0, 0.0, 0.5, 1.0]) == (1, -8.5)
    assert clearest_cut([0.0, 1.0]) == (1, 1.0)


# -- answering it --------------------------------------------------------------------------------------------------


def jumped(adapt: RateAdaptation, part: str, num_after: int = 1) -> list[frozenset[str]]:
    """120 calm batches for all parts, then a jump in one; which parts rose at each batch after it."""
    rose = []
    for n in range(120 + num_after):
        losses = {name: float(noise("normal", 400, k)[n]) for k, name in enumerate((*PARTS, LIST))}
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


def test_lists_that_get_worse_raise_every_part() -> None:
    adapt = RateAdaptation(settings(calm_factor=1.0), PARTS)
    assert jumped(adapt, LIST, 2)[-1] == set(PARTS)
    assert adapt.factors() == dict.fromkeys(PARTS, 3.0)


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
    monkeypatch.setattr(adaptation, "MAX_WINDOW_BLOCKS", 64)
    rng = np.random.default_rng(4)
    losses = np.stack([noise(kind, 300, 9) for kind in NOISES], 1)
    losses[100:, :2] += 1.0
    losses[180:, 1] -= 1.5
    batches = [
        (dict(zip((*PARTS, LIST), row, strict=True)), int(num))
        for row, num in zip(losses.tolist(), rng.integers(20, 400, 300), strict=True)
    ]
    first, second = RateAdaptation(settings(), PARTS), RateAdaptation(settings(), PARTS)
    num_rises = 0
    for batch in batches:
        again = RateAdaptation(settings(), PARTS)
        again.load_state(stored(second.state()))
        second = again
        drift = first.update(*batch)
        assert second.update(*batch) == drift
        assert differing(first.state(), second.state()) == []
        assert first.factors() == second.factors()
        num_rises += len(drift.rose)
    assert num_rises >= 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "MAX_WINDOW_BLOCKS", 64)
    watch, longest = LossWatch(0.002), 0
    for loss in noise("normal", 1_000, 1):
        watch.update(float(loss), BATCH)
        longest = max(longest, len(watch.state()["window"]))
    assert longest == 63
    assert "rise" in [watch.update(8.0, BATCH) for _ in range(3)]


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
