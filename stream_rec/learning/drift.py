"""Whether a loss has changed for real: small changes that last by ADWIN, short deep dips by CUSUM.

Host floats only, once a batch: the losses are read back anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from river.drift import ADWIN

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
# Of the lists' loss a block is taken to be no further than MOST_DIP noises above its level, and DIP_SLACK of that are
# forgiven: two blocks in a row that jump make an alarm, one does not, and neither does a level that wanders.
MOST_DIP, DIP_SLACK, DIP_ALARM = 5.0, 2.0, 5.0
LEVEL_BLOCKS = 6  # of a learner that goes on getting better the level must follow
REMEASURE_BLOCKS = 32  # level and noise that a window is seen in are those of so many blocks ago at most
MAX_WINDOW_BLOCKS = 2_048  # what a snapshot holds of a calm stream; then the older half is forgotten

Change = Literal["rise", "fall"]


class Blocks:
    """Small batches taken together, and how far a block's mean is from that of the block before: the loss's noise.

    That shows whatever the level does.
    """

    def __init__(self) -> None:
        self._sum, self._events = 0.0, 0
        self.num, self._previous, self.variance = 0, 0.0, 0.0

    def add(self, loss: float, num_events: int) -> float | None:
        """The block's mean where a batch completes one. A loss that is not finite, or of no event, is passed over."""
        if not math.isfinite(loss) or num_events <= 0:
            return None
        self._sum += loss * num_events
        self._events += num_events
        if self._events < BLOCK_EVENTS:
            return None
        block = self._sum / self._events
        self._sum, self._events = 0.0, 0
        self._learn_noise(block)
        return block

    def noise(self, level: float) -> float:
        """One standard deviation. A loss that hardly moves at all would make a change of any rounding."""
        return max(math.sqrt(self.variance), 1e-3 * abs(level), 1e-9)

    def _learn_noise(self, block: float) -> None:
        """Half the mean square of successive differences (von Neumann 1941), decayed."""
        if self.num:
            difference = abs(block - self._previous)
            if self.num > NUM_BLOCKS_FOR_NOISE:
                # A jump is what is to be found, not noise.
                difference = min(difference, 4.0 * math.sqrt(2.0 * self.variance))
            share = max(1.0 / self.num, 1.0 - 2.0 ** (-1.0 / NOISE_HALF_LIFE_BLOCKS))
            self.variance += share * (difference**2 / 2.0 - self.variance)
        self._previous = block
        self.num += 1

    def state(self) -> dict[str, Any]:
        """A few numbers."""
        return {
            "sum": self._sum,
            "events": self._events,
            "num": self.num,
            "previous": self._previous,
            "variance": self.variance,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``, bit for bit."""
        self._sum, self._events = state["sum"], state["events"]
        self.num, self._previous, self.variance = state["num"], state["previous"], state["variance"]


class LossWatch:
    """ADWIN (Bifet & Gavaldà, SIAM 2007) over one loss, in units of the loss's own noise."""

    def __init__(self, significance: float) -> None:
        """``significance`` is ADWIN's delta."""
        self._significance = significance
        self._blocks = Blocks()
        self._origin, self._noise = 0.0, 1.0
        self._see(())

    def update(self, loss: float, num_events: int) -> Change | None:
        """Take in a batch's mean loss. A loss that is not finite, or of no event, is passed over."""
        block = self._blocks.add(loss, num_events)
        if block is None:
            return None
        return self._judge(block) if self._blocks.num > NUM_BLOCKS_FOR_NOISE else None

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
        self._noise = self._blocks.noise(self._origin)
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
            "blocks": self._blocks.state(),
            "origin": self._origin,
            "noise": self._noise,
            "window": np.array(self._window, dtype=np.float64),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``, bit for bit."""
        self._blocks.load_state(state["blocks"])
        self._origin, self._noise = state["origin"], state["noise"]
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


class DipWatch:
    """CUSUM (Page, Biometrika 1954) over the loss of the lists, in units of its own noise: sees a short dip at once.

    ADWIN is sure of small changes that last; a loss that jumps by five times its noise and is made up for within a
    thousand events is over before it is sure.
    """

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._restart()

    def _restart(self) -> None:
        self._num_blocks, self._mean, self._sum = 0, 0.0, 0.0

    def update(self, loss: float, num_events: int) -> Change | None:
        """Take in a batch's mean loss. A loss that is not finite, or of no event, is passed over."""
        block = self._blocks.add(loss, num_events)
        if block is None:
            return None
        if self._num_blocks >= NUM_BLOCKS_FOR_NOISE:
            deviation = (block - self._mean) / self._blocks.noise(self._mean)
            self._sum = max(0.0, self._sum + min(deviation, MOST_DIP) - DIP_SLACK)
            if self._sum >= DIP_ALARM:
                # What comes is another level.
                self._restart()
                return "rise"
        if self._sum > 0.0:
            return None  # what may be a dip is no part of the level
        self._num_blocks += 1
        self._mean += max(1.0 / self._num_blocks, 1.0 / LEVEL_BLOCKS) * (block - self._mean)
        return None

    def state(self) -> dict[str, Any]:
        """A few numbers."""
        return {"blocks": self._blocks.state(), "num_blocks": self._num_blocks, "mean": self._mean, "sum": self._sum}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``, bit for bit."""
        self._blocks.load_state(state["blocks"])
        self._num_blocks, self._mean, self._sum = state["num_blocks"], state["mean"], state["sum"]
