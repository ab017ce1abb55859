"""Sums that forget, without ever touching what has not changed.

Counts decay by forward decay (Cormode, Shkapenyuk, Srivastava & Xu, ICDE 2009): an event of weight w at time t adds
w · 2^((t − L)/h) for a fixed landmark L and half-life h. Dividing by 2^((now − L)/h) would give the usual decayed
count, but it is the same factor for all, so the order only changes for the item that is touched, no matter how much
time passes, and an event that arrives late simply adds what it would have added in its place. Scores are kept as
log2 of that sum: it grows by one per half-life for ever, where the sum itself would overflow after 1,024 of them.
"""

from __future__ import annotations

import math

LOG2_E = 1.0 / math.log(2.0)


def half_life_name(half_life_s: float | None) -> str:
    """In the largest unit that divides it: 900 → ``15 min``, 10800 → ``3 h``; None → ``all time``."""
    if half_life_s is None:
        return "all time"
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if half_life_s % unit_s == 0:
            return f"{half_life_s / unit_s:.15g} {unit}"
    return f"{half_life_s:.15g} s"


class ForwardDecay:
    """Adds events to scores. A half-life of None never decays, and its scores are plain sums of weights."""

    def __init__(self, half_life_s: float | None) -> None:
        if half_life_s is not None and not half_life_s >= 0.001:
            raise ValueError(
                f"half_life_s is {half_life_s}; allowed is from 0.001 s, a tick of the timestamps, or None"
            )
        self._half_life_ms = None if half_life_s is None else half_life_s * 1000.0
        self.landmark_ms: int | None = None

    def added(self, score: float | None, timestamp_ms: int, weight: float) -> float:
        """The score after one more event; ``score`` is None for the first. Never less than before."""
        if self._half_life_ms is None:
            return weight if score is None else score + weight
        if self.landmark_ms is None:
            # The first event rather than the epoch: small exponents keep the precision of the fraction.
            self.landmark_ms = timestamp_ms
        gain = math.log2(weight) + (timestamp_ms - self.landmark_ms) / self._half_life_ms
        if score is None:
            return gain
        high, low = (score, gain) if score >= gain else (gain, score)
        return high + math.log1p(2.0 ** (low - high)) * LOG2_E
