"""Optimisers by the names that ``learning.row_optimiser`` and ``learning.dense_optimiser`` have for them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from stream_rec.config import LearningSettings
from stream_rec.learning.optimisers.adagrad import Adagrad, RowAdagrad
from stream_rec.learning.optimisers.adam import Adam, AdamW, RowAdam
from stream_rec.learning.optimisers.base import DenseOptimiser, RowOptimiser
from stream_rec.learning.optimisers.lion import Lion
from stream_rec.learning.optimisers.rmsprop import RMSprop, RowRMSprop
from stream_rec.learning.optimisers.sgd import SGD, RowSGD


def _adagrad(learning: LearningSettings) -> RowOptimiser:
    retention: float = 2.0 ** (-1.0 / learning.row_accumulator_half_life_steps)
    return RowAdagrad(l2=learning.row_l2, retention=retention)


ROW_OPTIMISERS: dict[str, Callable[[LearningSettings], RowOptimiser]] = {
    "adagrad": _adagrad,
    "sgd": lambda learning: RowSGD(l2=learning.row_l2),
    "adam": lambda learning: RowAdam(l2=learning.row_l2),
    "rmsprop": lambda learning: RowRMSprop(l2=learning.row_l2),
}

DENSE_OPTIMISERS: dict[str, type[DenseOptimiser]] = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "lion": Lion,
}


def make_row_optimiser(learning: LearningSettings) -> RowOptimiser:
    """The one that ``learning.row_optimiser`` names; one serves any number of tables."""
    return ROW_OPTIMISERS[learning.row_optimiser](learning)


def make_dense_optimiser(learning: LearningSettings, module: nn.Module, *, weight_decay: float) -> DenseOptimiser:
    """The one that ``learning.dense_optimiser`` names, over ``module``."""
    return DENSE_OPTIMISERS[learning.dense_optimiser](module, weight_decay=weight_decay)
