"""From the answers of all runs to the figures of a study; every view is made of these.

Shapes: E scored events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_rec.evaluation.ranking_metrics import SPREAD
from stream_rec.evaluation.study import splits
from stream_rec.evaluation.study.answers import AnswerTable, RunResult
from stream_rec.evaluation.study.gains import TERMS, Gain, Terms, gains_of, mean_gains
from stream_rec.evaluation.study.intervals import Blocks, Interval, whole
from stream_rec.evaluation.study.plan import MODEL, Run, StreamSpec

SMOOTHED_BLOCKS = 5  # a point of a curve is the mean of so many blocks

NOTHING = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class MethodFigures:
    """One method on one stream. Means over seeds, event by event, where there are several.

    ``difference`` is the method minus the model, metric → paired interval; None where the model was not run. A split's
    figures are those of the two metrics that decide, None where no event belongs to it; ``curve`` is the first of
    these over time. ``spread`` is empty where not all items can be listed.
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
    """One stream: its sizes, and its methods, the best first. ``times_ms`` are those of the curves' points.

    ``metrics`` are those that are reported of its kind, ``decides`` is the one to go by, ``beside`` the one beside it.
    """

    name: str
    options: str
    mode: str
    metrics: list[str]
    decides: str
    beside: str
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
        """By the metric that decides."""
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
    terms = TERMS[stream.mode]
    of_seeds = {
        method: [gains_of(one.result.answers, stream.mode) for one in runs] for method, runs in by_method.items()
    }
    model = mean_gains(of_seeds[MODEL]) if MODEL in of_seeds else None
    methods = [
        _method_figures(runs, of_seeds[method], model, blocks, masks, terms) for method, runs in by_method.items()
    ]
    methods.sort(key=lambda method: -method.accuracy[terms.decides].value)
    return StreamFigures(
        name=stream.name,
        options=stream.text(),
        mode=stream.mode,
        metrics=list(terms.metrics),
        decides=terms.decides,
        beside=terms.beside,
        num_events=first.facts.num_events,
        num_burn_in=first.facts.num_burn_in,
        num_scored=len(answers.rank_E),
        num_rejected=first.facts.num_rejected,
        split_sizes={split: int(mask_E.sum()) for split, mask_E in masks.items()},
        times_ms=_times(answers, blocks),
        methods=methods,
    )


def _method_figures(
    runs: Sequence[Finished],
    of_seeds: Sequence[dict[str, Gain]],
    model: dict[str, Gain] | None,
    blocks: Blocks | None,
    masks: dict[str, splits.Mask],
    terms: Terms,
) -> MethodFigures:
    stream, spec = runs[0].run.stream, runs[0].run.method
    gains = mean_gains(of_seeds)
    facts = [one.result.facts for one in runs]
    cpu_s = sum(one.cpu_s for one in facts)
    difference = None
    if model:
        difference = {m: blocks.difference(gains[m], model[m]) if blocks else NOTHING for m in terms.metrics}
    return MethodFigures(
        method=spec.text,
        title=spec.title,
        family=spec.family,
        seeds=[one.run.seed for one in runs],
        accuracy={metric: blocks.interval(gain) if blocks else NOTHING for metric, gain in gains.items()},
        per_seed={metric: [whole(one[metric]) for one in of_seeds] for metric in gains},
        spread={}
        if stream.is_choice
        else {name: float(np.mean([one.spread[name] for one in facts])) for name in SPREAD},
        events_per_cpu_s=sum(one.num_events for one in facts) / cpu_s if cpu_s > 0 else 0.0,
        difference=difference,
        splits={split: _split(gains, mask_E, terms) for split, mask_E in masks.items()},
        curve=_curve(gains[terms.decides], blocks),
    )


def _split(gains: dict[str, Gain], mask_E: splits.Mask, terms: Terms) -> dict[str, float] | None:
    if not mask_E.any():
        return None
    return {
        metric: whole(Gain(gains[metric].values_E[mask_E], gains[metric].weights_E[mask_E]))
        for metric in (terms.decides, terms.beside)
    }


def _curve(gain: Gain, blocks: Blocks | None) -> list[float]:
    """Figures of blocks, each with those around it; at both ends with fewer."""
    if blocks is None:
        return []
    sums_B, weights_B, reach = blocks.sums(gain.values_E), blocks.sums(gain.weights_E), SMOOTHED_BLOCKS // 2
    around = [slice(max(0, block - reach), block + reach + 1) for block in range(blocks.num_blocks)]
    return [whole(Gain(sums_B[near], weights_B[near])) for near in around]


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
