"""Answers to what each metric gives for them, event by event.

Shapes: E scored events, R ranks from a miss on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.ranking_metrics import ACCURACY, MAX_RANK, RankHistogram
from stream_rec.evaluation.study.answers import AnswerTable
from stream_rec.evaluation.study.plan import LIST, OFF_POLICY, RERANK

Floats = NDArray[np.float64]

MAX_ANY_RANK = 255  # what an answer can hold
MAX_WEIGHT = 100.0  # a single event of a tiny propensity would otherwise decide by itself


class Gain(NamedTuple):
    """A metric event by event: it is the sum of ``values_E`` over the sum of ``weights_E``."""

    values_E: Floats
    weights_E: Floats


class Terms(NamedTuple):
    """What is reported of a kind of stream: metrics, the one that decides, and the one that stands beside it."""

    metrics: tuple[str, ...]
    decides: str
    beside: str


TERMS = {
    LIST: Terms(ACCURACY, decides="ndcg@10", beside="hr@10"),
    RERANK: Terms(("hr@1", "hr@5", "ndcg@10", "mrr"), decides="mrr", beside="hr@1"),
    OFF_POLICY: Terms(("snips", "ips", "mean weight"), decides="snips", beside="ips"),
}


def _gains_of_ranks() -> dict[str, Floats]:
    """Metric → its value (R,) for one event whose item stands at each rank, from the one place that defines them."""
    gains: dict[str, Floats] = {metric: np.zeros(MAX_ANY_RANK + 1) for metric in ACCURACY}
    for rank in range(MAX_RANK + 1):
        histogram = RankHistogram()
        histogram.update(rank)
        for metric, value in histogram.accuracy().items():
            gains[metric][rank] = value
    ranks_R = np.arange(MAX_ANY_RANK + 1)
    for k in (1, 5):
        gains[f"hr@{k}"] = ((ranks_R > 0) & (ranks_R <= k)).astype(np.float64)
    # Of a list that is only put in order, every place counts.
    gains["mrr"] = np.where(ranks_R > 0, 1.0 / np.maximum(ranks_R, 1), 0.0)
    return gains


_GAINS = _gains_of_ranks()


def gains_of(answers: AnswerTable, mode: str) -> dict[str, Gain]:
    """Metric → its gains (E,), of the metrics in ``TERMS``."""
    if mode == OFF_POLICY:
        return _policy_gains(answers)
    ones_E = np.ones(len(answers.rank_E))
    return {metric: Gain(_GAINS[metric][answers.rank_E], ones_E) for metric in TERMS[mode].metrics}


def mean_gains(each: Sequence[dict[str, Gain]]) -> dict[str, Gain]:
    """Of several seeds, event by event."""
    return {
        metric: Gain(
            np.mean([gains[metric].values_E for gains in each], axis=0),
            np.mean([gains[metric].weights_E for gains in each], axis=0),
        )
        for metric in each[0]
    }


def _policy_gains(answers: AnswerTable) -> dict[str, Gain]:
    """Inverse propensity scores (Horvitz & Thompson, JASA 1952), and self-normalised (Swaminathan & Joachims, 2015)."""
    weight_E = np.minimum(answers.share_E / np.maximum(answers.propensity_E, 1e-12), MAX_WEIGHT).astype(np.float64)
    ones_E, earned_E = np.ones(len(weight_E)), weight_E * answers.reward_E
    return {"snips": Gain(earned_E, weight_E), "ips": Gain(earned_E, ones_E), "mean weight": Gain(weight_E, ones_E)}
