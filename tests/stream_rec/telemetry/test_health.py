"""Health: alive is about the loop alone, ready names the first reason why not."""

from __future__ import annotations

import pytest

from stream_rec.telemetry.health import Health

FINE = {"assigned": True, "lag_records": 5, "connected": True, "last_step_sound": True}


class Time:
    """A clock that the test moves."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> Health:
    return Health(alive_timeout_s=10.0, ready_max_lag=5, monotonic_s=time)


def test_a_start_that_takes_its_time_is_alive_and_not_ready(health: Health, time: Time):
    time.now_s += 10.0
    assert health.alive()[0]
    ok, reason = health.ready()
    assert not ok
    assert "starting" in reason


def test_a_loop_that_stops_coming_round_is_not_alive(health: Health, time: Time):
    time.now_s += 10.5
    ok, reason = health.alive()
    assert not ok
    assert "10.5 s" in reason
    health.beat()
    assert health.alive()[0]


def test_an_update_is_a_beat(health: Health, time: Time):
    time.now_s += 10.5
    health.update(**FINE)
    assert health.alive()[0]


def test_ready(health: Health):
    health.update(**FINE)
    assert health.ready()[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"assigned": False}, "no partition"),
        ({"lag_records": 6}, "6 records behind"),
        ({"connected": False}, "broker"),
        ({"last_step_sound": False}, "not finite"),
    ],
)
def test_not_ready_says_why_and_recovers(health: Health, change, word: str):
    health.update(**(FINE | change))
    ok, reason = health.ready()
    assert not ok
    assert word in reason
    assert health.alive()[0], "an orchestrator must not kill it for that"
    health.update(**FINE)
    assert health.ready()[0]


def test_a_loop_that_hangs_is_not_ready_whatever_it_said_last(health: Health, time: Time):
    health.update(**FINE)
    time.now_s += 11.0
    ok, reason = health.ready()
    assert not ok
    assert "come round" in reason
