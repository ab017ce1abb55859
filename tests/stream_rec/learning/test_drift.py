"""Changes of a loss: a jump is seen within a few batches, a short dip of the lists as well, noise is neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stream_rec.learning import drift
from stream_rec.learning.drift import DipWatch, LossWatch, clearest_cut

BATCH = 256
NOISES = ("normal", "laplace", "t3", "daily")


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


def changes_of(
    losses: Sequence[float], num_events: int = BATCH, watch: LossWatch | DipWatch | None = None
) -> list[tuple[int, str]]:
    """Number of the batch and what was seen at it."""
    watch = watch or LossWatch(0.002)
    seen = [(n, watch.update(float(loss), num_events)) for n, loss in enumerate(losses)]
    return [(n, change) for n, change in seen if change]


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


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_WINDOW_BLOCKS", 64)
    watch, longest = LossWatch(0.002), 0
    for loss in noise("normal", 1_000, 1):
        watch.update(float(loss), BATCH)
        longest = max(longest, len(watch.state()["window"]))
    assert longest == 63
    assert "rise" in [watch.update(8.0, BATCH) for _ in range(3)]


# -- short dips ----------------------------------------------------------------------------------------------------


def dip(kind: str, size: float, seed: int) -> np.ndarray[Any, Any]:
    """A jump after 120 batches, made up for within twelve."""
    losses = noise(kind, 150, seed)
    losses[120:132] += size * np.linspace(1.0, 0.0, 12)
    return losses


@pytest.mark.parametrize("kind", NOISES)
def test_a_dip_of_six_noises_is_seen_before_it_is_over(kind: str) -> None:
    """Within 768 events, nineteen times in twenty; ADWIN would miss one in two of them or come late."""
    dips = [dip(kind, 1.2, seed) for seed in range(40)]
    delays = [[n - 119 for n, _ in changes_of(losses, watch=DipWatch()) if n >= 120] or [999] for losses in dips]
    assert np.quantile([delay[0] for delay in delays], 0.95) <= 3


def test_noise_is_no_dip() -> None:
    """Of each kind 20,000 batches, five million events: two alarms at most."""
    for kind in NOISES:
        alarms = [changes_of(noise(kind, 1_000, seed), watch=DipWatch()) for seed in range(20)]
        assert sum(map(len, alarms)) <= 2, kind


def test_one_odd_batch_is_no_dip_and_two_in_a_row_are() -> None:
    losses = noise("normal", 200, 0)
    losses[150] += 100.0
    assert changes_of(losses, watch=DipWatch()) == []
    losses[151] += 100.0
    assert changes_of(losses, watch=DipWatch()) == [(151, "rise")]


def test_what_is_learnt_away_is_no_dip_and_the_level_follows() -> None:
    """A dip is seen from where the loss has come to, not from where it has been on the way."""
    losses = noise("normal", 200, 1) + 4.0 * np.exp(-np.arange(200) / 40)
    assert changes_of(losses, watch=DipWatch()) == []
    losses[160:] += 1.2
    assert changes_of(losses, watch=DipWatch())[0][0] in (160, 161, 162)


def test_a_change_that_stays_is_one_alarm() -> None:
    losses = noise("normal", 400, 2)
    losses[150:] += 2.0
    assert len(changes_of(losses, watch=DipWatch())) == 1


def test_what_is_no_loss_is_passed_over_by_both() -> None:
    losses, watch, seen = dip("normal", 2.0, 7), DipWatch(), []
    for n, loss in enumerate(losses):
        for nothing, num_events in ((math.nan, BATCH), (math.inf, BATCH), (99.0, 0)):
            assert watch.update(nothing, num_events) is None
        change = watch.update(float(loss), BATCH)
        seen += [(n, change)] if change else []
    assert seen == changes_of(losses, watch=DipWatch()) != []
