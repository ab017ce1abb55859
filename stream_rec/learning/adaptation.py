"""Learning rates that follow the stream: raised where a part's loss has risen for real, lowered where it is calm.

Host floats only, once a batch: the loss of each part is read back anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from river.drift import ADWIN

from stream_rec.config import LearningSettings

LIST = "list"  # the loss that belongs to every part: 1 - NDCG of the lists before learning

BLOCK_EVENTS = 128  # small batches are taken together until they hold this many events: their mean says something
NUM_BLOCKS_FOR_NOISE = 8  # none is judged before the noise is known
NOISE_HALF_LIFE_BLOCKS = 64.0
# ADWIN's bound holds for whatever lies within a range of 1, and pays for it with 2/3m·ln(2/delta) beside the term in
# the variance. Means of many events are nearly normal: in quarters of their noise that payment is small, and a jump
# of five times the noise is seen within 2 batches, not 4.
PER_NOISE = 4.0
# A block is taken to be no further than this from the window's mean. One odd batch alone stays below what ADWIN takes
# for a change at a significance under .01; two in a row are above it.
MOST_DEVIATION = 5.0 * PER_NOISE
LEAST_STEP = 1.0  # in noises: a lower tide is nothing that learning could answer
REMEASURE_BLOCKS = 32  # level and noise that a window is seen in are those of so many blocks ago at most
MAX_WINDOW_BLOCKS = 2_048  # what a snapshot holds of a calm stream; then the older half is forgotten

Change = Literal["rise", "fall"]


class LossWatch:
    """ADWIN (Bifet & Gavaldà, SIAM 2007) over one loss, in units of the loss's own noise.

    The noise shows in how far a block's mean is from that of the block before, whatever the level does.
    """

    def __init__(self, significance: float) -> None:
        """``significance`` is ADWIN's delta."""
        self._significance = significance
        self._block_sum, self._block_events = 0.0, 0
        self._num_blocks, self._previous, self._variance = 0, 0.0, 0.0
        self._origin, self._noise = 0.0, 1.0
        self._see(())

    def update(self, loss: float, num_events: int) -> Change | None:
        """Take in a batch's mean loss. A loss that is not finite, or of no event, is passed over."""
        if not math.isfinite(loss) or num_events <= 0:
            return None
        self._block_sum += loss * num_events
        self._block_events += num_events
        if self._block_events < BLOCK_EVENTS:
            return None
        block = self._block_sum / self._block_events
        self._block_sum, self._block_events = 0.0, 0
        self._learn_noise(block)
        return self._judge(block) if self._num_blocks > NUM_BLOCKS_FOR_NOISE else None

    def _learn_noise(self, block: float) -> None:
        """Half the mean square of successive differences (von Neumann 1941), decayed."""
        if self._num_blocks:
            difference = abs(block - self._previous)
            if self._num_blocks > NUM_BLOCKS_FOR_NOISE:
                # A jump is what is to be found, not noise.
                difference = min(difference, 4.0 * math.sqrt(2.0 * self._variance))
            share = max(1.0 / self._num_blocks, 1.0 - 2.0 ** (-1.0 / NOISE_HALF_LIFE_BLOCKS))
            self._variance += share * (difference**2 / 2.0 - self._variance)
        self._previous = block
        self._num_blocks += 1

    def _judge(self, block: float) -> Change | None:
        if len(self._window) % REMEASURE_BLOCKS:
            self._feed(block)
        else:
            self._restart([*self._window, block])
        if self._adwin.drift_detected:
            cut, step = clearest_cut(self._window)
            self._restart(self._window[cut:])
            if abs(step) >= LEAST_STEP * self._noise:
                return "rise" if step > 0 else "fall"
        elif len(self._window) >= MAX_WINDOW_BLOCKS:
            self._restart(self._window[-MAX_WINDOW_BLOCKS // 2 :])
        return None

    def _restart(self, window: Sequence[float]) -> None:
        """Measure level and noise, and see ``window`` with a fresh ADWIN."""
        self._origin = sum(window) / len(window)
        # A loss that hardly moves at all would make a change of any rounding.
        self._noise = max(math.sqrt(self._variance), 1e-3 * abs(self._origin), 1e-9)
        self._see(window)

    def _see(self, window: Sequence[float]) -> None:
        """A fresh ADWIN that has seen ``window``. Its memory cannot be read, but it follows from what it was fed."""
        self._window: list[float] = []
        # Looks after every block, at cuts of any length: a batch is 256 events, and waiting costs thousands.
        self._adwin = ADWIN(delta=self._significance, clock=1, min_window_length=1, grace_period=10)
        for block in window:
            self._feed(block)

    def _feed(self, block: float) -> None:
        deviation = PER_NOISE * (block - self._origin) / self._noise
        if self._window:
            mean = self._adwin.estimation
            deviation = min(max(deviation, mean - MOST_DEVIATION), mean + MOST_DEVIATION)
        self._window.append(block)
        self._adwin.update(deviation)

    def state(self) -> dict[str, Any]:
        """JSON values and one array of at most ``MAX_WINDOW_BLOCKS``."""
        return {
            "block_sum": self._block_sum,
            "block_events": self._block_events,
            "num_blocks": self._num_blocks,
            "previous": self._previous,
            "variance": self._variance,
            "origin": self._origin,
            "noise": self._noise,
            "window": np.array(self._window, dtype=np.float64),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``, bit for bit."""
        self._block_sum, self._block_events = state["block_sum"], state["block_events"]
        self._num_blocks, self._previous = state["num_blocks"], state["previous"]
        self._variance, self._origin, self._noise = state["variance"], state["origin"], state["noise"]
        self._see(state["window"].tolist())


def clearest_cut(window: Sequence[float]) -> tuple[int, float]:
    """How many values lie before the cut of ``window`` at which the mean changes most clearly, and by how much.

    At least two values.
    """
    sums = np.cumsum(window)
    num_old = np.arange(1, len(window))
    num_new = len(window) - num_old
    step = (sums[-1] - sums[:-1]) / num_new - sums[:-1] / num_old
    clearest = int(np.argmax(np.abs(step) * np.sqrt(num_old * num_new)))
    return clearest + 1, float(step[clearest])


@dataclass(frozen=True)
class Drift:
    """Parts whose loss has changed."""

    rose: frozenset[str]
    fell: frozenset[str]


class RateAdaptation:
    """What each part's learning rate is multiplied with.

    A part whose loss rises learns at once as many times as fast as ``drift_boosts`` says, and the excess halves with
    every ``drift_half_life_events``. A fall ends it: what the excess was for has been learnt. A part without any rise
    slows down towards ``calm_factor``; so does one whose loss only falls, and a rise takes that back.
    """

    def __init__(self, learning: LearningSettings, parts: Sequence[str]) -> None:
        self._learning = learning
        self._parts = tuple(parts)
        self._watches = {name: LossWatch(learning.drift_significance) for name in (*self._parts, LIST)}
        self._excess = dict.fromkeys(self._parts, 0.0)  # of the factor, above 1
        self._calm_events = dict.fromkeys(self._parts, 0)  # since the last rise

    def update(self, losses: Mapping[str, float], num_events: int) -> Drift:
        """Take in a batch: the mean loss of each part, and under ``LIST`` that of the lists, where it is known.

        Whoever holds rows must ``soften`` them where "rows" rose.
        """
        if not self._learning.adapt:
            return Drift(frozenset(), frozenset())
        changes = {name: self._watches[name].update(loss, num_events) for name, loss in losses.items()}
        kept = 2.0 ** (-num_events / self._learning.drift_half_life_events)
        rose, fell = set(), set()
        for part in self._parts:
            self._excess[part] *= kept
            self._calm_events[part] += num_events
            if "rise" in (changes.get(part), changes.get(LIST)):
                rose.add(part)
                self._excess[part] = self._learning.drift_boosts.get(part, 1.0) - 1.0
                self._calm_events[part] = 0
            elif changes.get(part) == "fall":
                fell.add(part)
                self._excess[part] = 0.0
        return Drift(frozenset(rose), frozenset(fell))

    def factors(self) -> dict[str, float]:
        """Part → what its rate is to be multiplied with; all 1 where ``learning.adapt`` is off."""
        return {part: self._factor(part) for part in self._parts}

    def _factor(self, part: str) -> float:
        learning = self._learning
        liveliness: float = 2.0 ** (-self._calm_events[part] / learning.calm_half_life_events)
        calm = learning.calm_factor + (1.0 - learning.calm_factor) * liveliness
        return calm * (1.0 + self._excess[part])

    def state(self) -> dict[str, Any]:
        """Watches and factors, of bounded size."""
        return {
            "watches": {name: watch.state() for name, watch in self._watches.items()},
            "excess": dict(self._excess),
            "calm_events": dict(self._calm_events),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``, bit for bit. A part that the state does not know begins anew."""
        for name, watch in self._watches.items():
            if name in state["watches"]:
                watch.load_state(state["watches"][name])
        for part in self._parts:
            self._excess[part] = state["excess"].get(part, 0.0)
            self._calm_events[part] = state["calm_events"].get(part, 0)
