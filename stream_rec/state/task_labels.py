"""What came of an item that was taken, by task: whether the event was of the task's types, or what value it had.

Shapes: B = events, T = tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_rec.records import Event
from stream_rec.settings_tasks import TaskSettings

MOST = 1e15  # of a value, so that its square is a number in float32


class TaskLabels:
    """Labels of events, in the order of the settings. By the types' own names: their rows can be shared by two."""

    def __init__(self, tasks: Mapping[str, TaskSettings]) -> None:
        self._tasks = [(task, task.of_types(name)) for name, task in tasks.items()]

    def of(self, events: Sequence[Event], counts_B: NDArray[np.bool_]) -> NDArray[np.float32]:
        """[B, T], NaN where an event says nothing of a task, and in the whole row of one that does not count.

        Of whether something happens every event says yes (1) or no (0); of a value only those of its types that have
        one.
        """
        labels_BT = np.full((len(events), len(self._tasks)), np.nan, dtype=np.float32)
        for index, (task, types) in enumerate(self._tasks):
            if task.kind == "happens":
                labels_BT[:, index] = [event.type in types for event in events]
            else:
                labels_BT[:, index] = [
                    _value(event, task.logarithmic) if event.type in types else np.nan for event in events
                ]
        labels_BT[~counts_B] = np.nan
        return labels_BT


def _value(event: Event, logarithmic: bool) -> float:
    if event.value is None or not math.isfinite(event.value):
        return math.nan
    value = min(max(event.value, -MOST), MOST)
    return math.copysign(math.log1p(abs(value)), value) if logarithmic else value
