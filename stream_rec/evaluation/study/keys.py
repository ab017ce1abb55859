"""What the answers of a run depend on: when any of it changes, the run has to be done again."""

from __future__ import annotations

from typing import Any

from stream_rec import __version__
from stream_rec.config import Settings
from stream_rec.evaluation.ranking_metrics import MAX_RANK
from stream_rec.evaluation.study.answers import FORMAT, file_digest
from stream_rec.evaluation.study.plan import Run, StreamSpec

PARTS_OF_THE_MODEL = {"state", "model", "learning", "ranking"}


def exam_settings(settings: Settings) -> dict[str, Any]:
    """What the questions depend on: runs that differ here cannot be compared event by event."""
    return {
        "decode": settings.decode.model_dump(mode="json"),
        "state": settings.state.model_dump(mode="json", include={"max_users", "max_items", "max_seen_per_user"}),
        "event_weights": dict(settings.learning.event_weights),
        "exclude_seen": settings.ranking.exclude_seen,
        "list_length": min(MAX_RANK, settings.ranking.list_length),
        "max_batch": settings.worker.max_batch,
    }


def stream_key(stream: StreamSpec) -> dict[str, Any]:
    """A stream by the contents of its files: where they lie makes no difference. Reads them whole."""
    return {
        "log": file_digest(stream.log),
        "items": file_digest(stream.items) if stream.items else None,
        "repeats": stream.allows_repeats,
        "limit": stream.limit,
        "columns": dict(stream.columns),
        "item_columns": dict(stream.item_columns),
        "mode": stream.mode,
        "actions": stream.actions,
    }


def made_with(run: Run, settings: Settings, stream: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides how the run answers; threads and names do not. ``stream`` is its ``stream_key``."""
    made: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "stream": stream,
        "seed": run.seed,
        "exam": exam_settings(settings),
    }
    if run.method.baseline:
        return {**made, "baseline": run.method.baseline}
    model = settings.model_dump(mode="json", include=PARTS_OF_THE_MODEL)
    return {**made, "model": {**model, "device": settings.worker.device}}
