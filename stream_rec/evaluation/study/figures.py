"""From the answers of all runs to the figures of a study; every view is made of these.

Shapes: E scored events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.ranking_metrics import ACCURACY, SPREAD
from stream_rec.evaluation.study import splits
from stream_rec.evaluation.study.answers import AnswerTable, RunResult
from stream_rec.evaluation.study.gains import gains_of
from stream_rec.evaluation.study.intervals import Blocks, Interval
from stream_rec.evaluation.study.plan import MODEL, MethodSpec, Run, StreamSpec

DECIDES = "ndcg@10"  # finer than a hit rate: it also sees where in the list the hit is
SMOOTHED_BLOCKS = 5  # a point of a curve is the mean of so many blocks

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MethodFigures:
    """One method on one stream. Means over seeds, event by event, where there are several.

    ``difference`` is the method minus the model, metric → paired interval; None where the model was not run. A split's
    figures are HR@10 and NDCG@10, None where no event belongs to it. ``curve`` is NDCG@10 over time.
    """

    method: str
    title: str
    family: str
    seeds: list[int]
    accuracy: dict[str, Interval]
    per_seed: dict[str, list[float]]
    spread: dict[str, float]
    events_per_cpu_s: float
    difference: dict[str, Interval] | None
    splits: dict[str, dict[str, float] | None]
    curve: list[float]


@dataclass(frozen=True)
class StreamFigures:
    """One stream: its sizes, and its methods, the best first. ``times_ms`` are those of the curves' points."""

    name: str
    options: str
    num_events: int
    num_burn_in: int
    num_scored: int
    num_rejected: int
    split_sizes: dict[str, int]
    times_ms: list[int]
    methods: list[MethodFigures]

    def model(self) -> MethodFigures | None:
        """The model at its defaults."""
        return next((method for method in self.methods if method.method == MODEL), None)

    def best_baseline(self) -> MethodFigures | None:
        """By NDCG@10."""
        return next((method for method in self.methods if method.family != MODEL), None)


@dataclass(frozen=True)
class Study:
    """All streams, and the command that makes the same again."""

    version: str
    command: str
    streams: list[StreamFigures]

    def to_json_values(self) -> dict[str, Any]:
        """Nested dicts and lists; intervals as value, low, high."""
        return _named(asdict(self))  # type: ignore[no-any-return]


class Finished(NamedTuple):
    """A run and what came of it."""

    run: Run
    result: RunResult


def figures_of(stream: StreamSpec, finished: Sequence[Finished]) -> StreamFigures:
    """The figures of one stream from its finished runs, at least one; all of them have been asked the same."""
    first = finished[0].result
    by_method: dict[str, list[Finished]] = {}
    for one in finished:
        assert one.result.answers.questions_digest() == first.answers.questions_digest(), one.run
        by_method.setdefault(one.run.method.text, []).append(one)
    answers = first.answers
    blocks = Blocks(len(answers.rank_E)) if len(answers.rank_E) else None
    masks = splits.masks(answers)
    gains = {method: _mean_gains(runs) for method, runs in by_method.items()}
    methods = [
        _method_figures(runs, gains[method], gains.get(MODEL), blocks, masks) for method, runs in by_method.items()
    ]
    methods.sort(key=lambda method: -method.accuracy[DECIDES].value)
    return StreamFigures(
        name=stream.name,
        options=stream.text(),
        num_events=first.facts.num_events,
        num_burn_in=first.facts.num_burn_in,
        num_scored=len(answers.rank_E),
        num_rejected=first.facts.num_rejected,
        split_sizes={split: int(mask_E.sum()) for split, mask_E in masks.items()},
        times_ms=_times(answers, blocks),
        methods=methods,
    )


def _mean_gains(runs: Sequence[Finished]) -> dict[str, Floats]:
    """Metric → value (E,), the mean over the seeds."""
    each = [gains_of(one.result.answers.rank_E) for one in runs]
    return {metric: np.mean([gains[metric] for gains in each], axis=0) for metric in ACCURACY}


def _method_figures(
    runs: Sequence[Finished],
    gains: dict[str, Floats],
    model: dict[str, Floats] | None,
    blocks: Blocks | None,
    masks: dict[str, splits.Mask],
) -> MethodFigures:
    spec: MethodSpec = runs[0].run.method
    per_seed = [gains_of(one.result.answers.rank_E) for one in runs]
    num_events = sum(one.result.facts.num_events for one in runs)
    cpu_s = sum(one.result.facts.cpu_s for one in runs)
    return MethodFigures(
        method=spec.text,
        title=spec.title,
        family=spec.family,
        seeds=[one.run.seed for one in runs],
        accuracy={metric: _interval(gains[metric], blocks) for metric in ACCURACY},
        per_seed={metric: [_mean(one[metric]) for one in per_seed] for metric in ACCURACY},
        spread={name: float(np.mean([one.result.facts.spread[name] for one in runs])) for name in SPREAD},
        events_per_cpu_s=num_events / cpu_s if cpu_s > 0 else 0.0,
        difference={metric: _interval(gains[metric] - model[metric], blocks) for metric in ACCURACY} if model else None,
        splits={split: _split(gains, mask_E) for split, mask_E in masks.items()},
        curve=_curve(gains[DECIDES], blocks),
    )


def _interval(values_E: Floats, blocks: Blocks | None) -> Interval:
    return blocks.interval(values_E) if blocks else Interval(0.0, 0.0, 0.0)


def _mean(values_E: Floats) -> float:
    return float(values_E.mean()) if len(values_E) else 0.0


def _split(gains: dict[str, Floats], mask_E: splits.Mask) -> dict[str, float] | None:
    if not mask_E.any():
        return None
    return {metric: float(gains[metric][mask_E].mean()) for metric in ("hr@10", DECIDES)}


def _curve(values_E: Floats, blocks: Blocks | None) -> list[float]:
    """Means of blocks, each over those around it too; at both ends over fewer."""
    if blocks is None:
        return []
    means_B, reach = blocks.means(values_E), SMOOTHED_BLOCKS // 2
    return [float(means_B[max(0, block - reach) : block + reach + 1].mean()) for block in range(blocks.num_blocks)]


def _times(answers: AnswerTable, blocks: Blocks | None) -> list[int]:
    """Time (ms) of the event in the middle of each block."""
    if blocks is None:
        return []
    middles = (blocks.edges[:-1] + blocks.edges[1:]) // 2
    return [int(answers.timestamp_ms[middle]) for middle in middles]


def _named(value: Any) -> Any:
    if isinstance(value, Interval):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _named(inner) for key, inner in value.items()}
    return [_named(inner) for inner in value] if isinstance(value, list) else value
