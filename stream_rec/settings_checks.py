"""What a single field cannot check: settings that exclude each other, and client settings that are not free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from stream_rec.settings_tasks import TaskSettings

CROSS_FIELD = "cross_field"  # type of the error that ``refuse`` raises

# kafka-python's own default: a larger request is never sent.
DEFAULT_MAX_REQUEST_BYTES = 1_048_576

# What the pass-through tables may not hold, and what decides it instead. Most of these would silently break
# a promise: auto-commit alone makes a restart lose events.
NOT_PASSED_THROUGH = {
    "bootstrap_servers": "set kafka.bootstrap_servers",
    "group_id": "set kafka.group_id",
    "auto_offset_reset": "set kafka.start",
    "compression_type": "set kafka.compression",
    "transaction_timeout_ms": "set kafka.transaction_timeout_ms",
    "max_block_ms": "set kafka.max_block_ms",
    "transactional_id": "it is worker.name",
    "enable_auto_commit": "positions are committed with what they caused",
    "isolation_level": "aborted transactions are never read",
    "enable_idempotence": "the producer is transactional",
    "acks": "the producer is transactional",
    "key_serializer": "keys are UTF-8",
    "value_serializer": "values are JSON",
    "key_deserializer": "keys are decoded after polling",
    "value_deserializer": "values are decoded after polling",
}


def refuse(problems: list[tuple[str, str]]) -> None:
    """Raise one error for settings that do not go together: pairs of dotted key and text."""
    if problems:
        text = "; ".join(f"{key}: {problem}" for key, problem in problems)
        # The text goes in as a value: pydantic would read braces in a template.
        raise PydanticCustomError(CROSS_FIELD, "{text}", {"text": text, "problems": problems})


def not_passed_through(table: str, entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Problems of ``kafka.client``, ``kafka.consumer`` or ``kafka.producer``: keys that it may not hold."""
    return [
        (f"kafka.{table}.{key}", f"is not passed through: {NOT_PASSED_THROUGH[key]}")
        for key in entries
        if key in NOT_PASSED_THROUGH
    ]


def task_problems(
    tasks: Mapping[str, TaskSettings], event_weights: Mapping[str, float], encoder: str
) -> list[tuple[str, str]]:
    """Problems of ``learning.tasks``: nothing to learn from, or nothing to learn with."""
    problems = []
    if tasks and encoder == "none":
        text = "a task reads what the encoder has found, and model.encoder = 'none' finds nothing; take another encoder"
        problems.append(("learning.tasks", text))
    for name, task in tasks.items():
        types = sorted(task.of_types(name))
        if all(event_weights.get(type_, 1.0) == 0 for type_ in types):
            text = f"events of type {', '.join(types)} weigh 0 in learning.event_weights: nothing is learnt from them"
            problems.append((f"learning.tasks.{name}", text))
        if task.logarithmic and task.kind != "value":
            text = f"true goes with kind = 'value'; {task.kind} has no value"
            problems.append((f"learning.tasks.{name}.logarithmic", text))
    return problems
