"""What an event says of each task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stream_rec.records import Event
from stream_rec.settings_tasks import TaskSettings
from stream_rec.state.context import event_type_row
from stream_rec.state.task_labels import MOST, TaskLabels

NAN = math.nan
TASKS: dict[str, dict[str, Any]] = {
    "purchase": {},
    "liked": {"types": ["like", "bookmark"]},
    "stars": {"kind": "value", "types": ["rating"]},
    "seconds": {"kind": "value", "types": ["play"], "logarithmic": True},
}


def labels(events: list[tuple[str, float | None]], counts: list[bool] | None = None) -> list[list[float]]:
    tasks = TaskLabels({name: TaskSettings.model_validate(task) for name, task in TASKS.items()})
    happened = [Event("u", "i", type_, 0, value=value) for type_, value in events]
    return tasks.of(happened, np.asarray(counts or [True] * len(events))).tolist()


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("view", None, [0, 0, NAN, NAN]),
        ("purchase", 30.0, [1, 0, NAN, NAN]),
        ("bookmark", None, [0, 1, NAN, NAN]),
        ("rating", 4.0, [0, 0, 4, NAN]),
        ("rating", None, [0, 0, NAN, NAN]),
        ("rating", math.inf, [0, 0, NAN, NAN]),
        ("rating", -1e300, [0, 0, -MOST, NAN]),
        ("play", math.e - 1, [0, 0, NAN, 1]),
        ("play", 1 - math.e, [0, 0, NAN, -1]),
    ],
)
def test_an_event_says_of_each_task(type_: str, value: float | None, expected: list[float]) -> None:
    assert labels([(type_, value)])[0] == pytest.approx(expected, nan_ok=True)


def test_an_event_that_does_not_count_says_nothing() -> None:
    assert np.isnan(labels([("purchase", 1.0), ("purchase", 1.0)], [True, False])).tolist() == [
        [False, False, True, True],
        [True, True, True, True],
    ]


def test_types_that_share_a_row_are_told_apart() -> None:
    """Rows of event types are hashed to few: of a hundred names some fall on that of a purchase."""
    (other, *_) = [f"t{n}" for n in range(100) if event_type_row(f"t{n}") == event_type_row("purchase")]
    assert labels([(other, None), ("purchase", None)]) == pytest.approx(
        np.asarray([[0, 0, NAN, NAN], [1, 0, NAN, NAN]]), nan_ok=True
    )
