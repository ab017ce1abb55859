"""Studies made up: results with known answers, without running anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stream_rec.evaluation.study.answers import Answers, Question, RunFacts, RunResult
from stream_rec.evaluation.study.figures import Finished, StreamFigures, Study, figures_of
from stream_rec.evaluation.study.plan import Run, StreamSpec, parse_methods, parse_stream

NUM_EVENTS = 400
START_MS = 1_700_000_000_000
STREAM = parse_stream("shop.csv,items=<items>.csv")


def questions(num_events: int = NUM_EVENTS) -> list[Question]:
    """Half of the events are of people without history; every tenth item has never been seen."""
    return [
        Question(START_MS + 60_000 * n, n % 50, n % 2 * 10, 0 if n % 10 == 0 else 5, 10_000 if n % 3 else 7)
        for n in range(num_events)
    ]


def result(ranks: Sequence[int]) -> RunResult:
    answers = Answers()
    for question, rank in zip(questions(len(ranks)), ranks, strict=True):
        answers.append(question, rank)
    spread = {"coverage@10": 0.5, "personalisation@10": 0.75}
    facts = RunFacts(num_events=2 * len(ranks), num_burn_in=10, num_rejected=0, cpu_s=2.0, wall_s=3.0, spread=spread)
    return RunResult({}, facts, answers.table())


def ranks(share_of_hits: float, seed: int, num_events: int = NUM_EVENTS) -> list[int]:
    """Ranks of 1 with that chance, misses otherwise."""
    return (np.random.default_rng(seed).random(num_events) < share_of_hits).astype(int).tolist()


def figures(methods: Mapping[str, Sequence[Sequence[int]]], stream: StreamSpec = STREAM) -> StreamFigures:
    """Method → the ranks of each of its seeds."""
    finished = [
        Finished(Run(stream, method, seed), result(one))
        for text, each in methods.items()
        for method in parse_methods([text])
        for seed, one in enumerate(each, 1)
    ]
    return figures_of(stream, finished)


def a_study() -> Study:
    """One stream, four methods, one of them with two seeds."""
    methods = {
        "popularity": [ranks(0.2, 1)],
        "model": [ranks(0.5, 2), ranks(0.5, 3)],
        "item-knn": [ranks(0.3, 4)],
        "model[model.encoder=gru]": [ranks(0.45, 5), ranks(0.45, 6)],
    }
    return Study("1.2.3", "stream-rec evaluate --stream shop.csv", [figures(methods)])
