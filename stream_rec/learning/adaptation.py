"""Learning rates that follow the stream: raised where a part's loss has risen for real, lowered where it is calm.

Host floats only, once a batch: the loss of each part is read back anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream_rec.config import LearningSettings
from stream_rec.learning.drift import DipWatch, LossWatch

LISTS = "second_stage"  # the part whose loss is that of the lists themselves, 1 - NDCG: of all parts the last to speak


@dataclass(frozen=True)
class Drift:
    """Parts whose loss has changed."""

    rose: frozenset[str]
    fell: frozenset[str]


class RateAdaptation:
    """What each part's learning rate is multiplied with.

    A part whose loss rises learns at once as many times as fast as ``drift_boosts`` says, and the excess halves with
    every ``drift_half_life_events``. A fall ends it: what the excess was for has been learnt. A part without any rise
    slows down towards ``calm_factor``; so does one whose loss only falls, and a rise takes that back. What makes the
    lists is the exception: its loss is watched for short dips, and it never slows down.
    """

    def __init__(self, learning: LearningSettings, parts: Sequence[str]) -> None:
        self._learning = learning
        self._parts = tuple(parts)
        self._watches: dict[str, LossWatch | DipWatch] = {
            name: DipWatch() if name == LISTS else LossWatch(learning.drift_significance) for name in self._parts
        }
        self._excess = dict.fromkeys(self._parts, 0.0)  # of the factor, above 1
        self._calm_events = dict.fromkeys(self._parts, 0)  # since the last rise

    def update(self, losses: Mapping[str, float], num_events: int) -> Drift:
        """Take in a batch: the mean loss of each part; of ``num_events`` events.

        Whoever holds rows must ``soften`` them where "rows" rose, and whoever counts what goes with what let the old
        count less where ``LISTS`` did.
        """
        if not self._learning.adapt:
            return Drift(frozenset(), frozenset())
        changes = {name: self._watches[name].update(loss, num_events) for name, loss in losses.items()}
        kept = 2.0 ** (-num_events / self._learning.drift_half_life_events)
        rose, fell = set(), set()
        for part in self._parts:
            self._excess[part] *= kept
            self._calm_events[part] += num_events
            if changes.get(part) == "rise":
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
        if part == LISTS:
            return 1.0 + self._excess[part]
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
