"""Decayed sums in whole arrays: forward decay with plain numbers, for tables that are added up at every query."""

from __future__ import annotations

import math
from collections.abc import Callable

MAX_EXPONENT = 256.0  # 2^256 leaves a double room for sums, squares and 2^-256 of the past


class DecayedWeights:
    """What an event adds to a decayed sum, relative to a landmark (Cormode et al., ICDE 2009).

    The sums of one instance share the factor 2^((now − landmark)/half-life), so they compare and their ratios are
    exact. Before the factor overflows, ``rescale`` is called with what all sums must be multiplied by, and the
    landmark moves. A half-life of None never decays.
    """

    def __init__(self, half_life_s: float | None, rescale: Callable[[float], None]) -> None:
        self._half_life_ms = None if half_life_s is None else half_life_s * 1000.0
        self._rescale = rescale
        self.landmark_ms: int | None = None

    def gain(self, timestamp_ms: int, weight: float) -> float:
        """What an event of this weight adds. May call ``rescale`` first."""
        if self._half_life_ms is None:
            return weight
        if self.landmark_ms is None:
            self.landmark_ms = timestamp_ms
        exponent = (timestamp_ms - self.landmark_ms) / self._half_life_ms
        if exponent > MAX_EXPONENT:
            self._rescale(math.exp2(-min(exponent, 1_100.0)))  # below 2^-1074 there is no double: nothing of it is left
            self.landmark_ms = timestamp_ms
            exponent = 0.0
        return weight * math.exp2(max(exponent, -1_000.0))
