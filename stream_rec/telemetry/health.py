"""Whether the worker lives and whether it is of use: two questions that an orchestrator treats differently.

Not alive gets the process killed, so only a loop that has stopped coming round says no. Not ready merely takes
it out of dashboards and rollouts: no broker, no partitions, too far behind, a step that had to be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class _Seen(NamedTuple):
    assigned: bool
    lag_records: int
    connected: bool
    last_step_sound: bool


class Health:
    """Written by the loop, read by the telemetry server's threads.

    Each write replaces one reference, so a reader sees a whole report or the one before it, without a lock
    in the hot loop. ``monotonic_s`` is injected: seconds on a clock that never goes back.
    """

    def __init__(self, alive_timeout_s: float, ready_max_lag: int, monotonic_s: Callable[[], float]) -> None:
        self._alive_timeout_s = alive_timeout_s
        self._ready_max_lag = ready_max_lag
        self._monotonic_s = monotonic_s
        # The start counts as a beat: loading torch and a snapshot must not look like a loop that hangs.
        self._beat_s = monotonic_s()
        self._seen: _Seen | None = None

    def beat(self) -> None:
        """Say that the loop has come round. To be called every time round, also when nothing was polled."""
        self._beat_s = self._monotonic_s()

    def update(self, assigned: bool, lag_records: int, connected: bool, last_step_sound: bool) -> None:
        """Say how things stand after a step; also a beat."""
        self._seen = _Seen(assigned, lag_records, connected, last_step_sound)
        self.beat()

    def alive(self) -> tuple[bool, str]:
        """Whether the loop came round within ``alive_timeout_s``, and the reason in words."""
        silent_s = self._monotonic_s() - self._beat_s
        if silent_s > self._alive_timeout_s:
            return False, f"the loop has not come round for {silent_s:.1f} s (allowed: {self._alive_timeout_s:g} s)"
        return True, "the loop comes round"

    def ready(self) -> tuple[bool, str]:
        """Whether the worker is assigned, caught up and sound, and the first reason why not."""
        alive, reason = self.alive()
        if not alive:
            return False, reason
        seen = self._seen
        if seen is None:
            return False, "starting: no step has been reported yet"
        if not seen.connected:
            return False, "the broker cannot be reached"
        if not seen.assigned:
            return False, "no partition is assigned to this worker"
        if seen.lag_records > self._ready_max_lag:
            return False, f"{seen.lag_records} records behind (worker.ready_max_lag: {self._ready_max_lag})"
        if not seen.last_step_sound:
            return False, "the last step was left out: loss or gradient was not finite"
        return True, "assigned, caught up, last step sound"
