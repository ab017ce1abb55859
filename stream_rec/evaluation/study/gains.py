"""Ranks to what each metric gives for them, event by event.

Shapes: E scored events, R ranks from a miss on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.ranking_metrics import ACCURACY, MAX_RANK, RankHistogram

Floats = NDArray[np.float64]


def _gains_of_ranks() -> dict[str, Floats]:
    """Metric → its value (R,) for one event whose item stands at each rank, from the one place that defines them."""
    gains: dict[str, Floats] = {metric: np.zeros(MAX_RANK + 1) for metric in ACCURACY}
    for rank in range(MAX_RANK + 1):
        histogram = RankHistogram()
        histogram.update(rank)
        for metric, value in histogram.accuracy().items():
            gains[metric][rank] = value
    return gains


_GAINS = _gains_of_ranks()


def gains_of(rank_E: NDArray[np.uint8]) -> dict[str, Floats]:
    """Metric → value (E,) of each event; their means are the metrics of the stream."""
    return {metric: gains_R[rank_E] for metric, gains_R in _GAINS.items()}
