"""How sure a figure is: bootstrap over blocks of time.

Neighbouring events are not independent (a headline that everybody reads is hit a hundred times in a row), so that
whole blocks of consecutive events are drawn (Künsch, Annals of Statistics 1989; blocks do not overlap here, Carlstein,
Annals of Statistics 1986). An interval is that of the percentiles.

Shapes: E scored events, B blocks, N draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.study.gains import Gain

Floats = NDArray[np.float64]

NUM_BLOCKS = 100
NUM_DRAWS = 1_000
LEVEL = 0.95
SEED = 1


class Interval(NamedTuple):
    """A figure over events, and the bounds between which it lies."""

    value: float
    low: float
    high: float


class Blocks:
    """Blocks of time and the draws of them, the same for every figure of a stream, so that figures are paired.

    ``num_events`` events are parted into ``num_blocks`` runs of the same length, give or take one, or into as many
    as there are events. Raises ValueError where there is no event.
    """

    def __init__(
        self, num_events: int, *, num_blocks: int = NUM_BLOCKS, num_draws: int = NUM_DRAWS, seed: int = SEED
    ) -> None:
        if num_events < 1:
            raise ValueError(f"num_events is {num_events}; allowed is from 1")
        num_blocks = min(num_blocks, num_events)
        self.edges = np.linspace(0, num_events, num_blocks + 1).astype(np.int64)
        drawn_NB = np.random.default_rng(seed).integers(0, num_blocks, (num_draws, num_blocks))
        # How often each draw has each block: a draw's mean is then one product of matrices.
        self._times_NB = np.stack([np.bincount(one_B, minlength=num_blocks) for one_B in drawn_NB]).astype(np.float64)

    @property
    def num_blocks(self) -> int:
        """Blocks there are."""
        return len(self.edges) - 1

    def sums(self, values_E: Floats) -> Floats:
        """Sum (B,) of each block."""
        sums_B: Floats = np.add.reduceat(values_E, self.edges[:-1])
        return sums_B

    def interval(self, gain: Gain, *, level: float = LEVEL) -> Interval:
        """What the gain comes to, with its interval."""
        return _bounded(whole(gain), self._draws(gain), level)

    def difference(self, gain: Gain, other: Gain, *, level: float = LEVEL) -> Interval:
        """The one minus the other, paired: on the same draws. Exactly 0 throughout where both are the same."""
        return _bounded(whole(gain) - whole(other), self._draws(gain) - self._draws(other), level)

    def _draws(self, gain: Gain) -> Floats:
        return _ratio(self._times_NB @ self.sums(gain.values_E), self._times_NB @ self.sums(gain.weights_E))


def whole(gain: Gain) -> float:
    """What the gain comes to over all its events; 0 where they weigh nothing."""
    return float(_ratio(gain.values_E.sum(), gain.weights_E.sum()))


def _ratio(values: Floats | float, weights: Floats | float) -> Floats:
    return np.divide(values, weights, out=np.zeros(np.shape(values)), where=np.asarray(weights) > 0)


def _bounded(value: float, drawn_N: Floats, level: float) -> Interval:
    low, high = np.quantile(drawn_N, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
