"""Optimisers behind one contract, one algorithm a file."""

from __future__ import annotations

from stream_rec.learning.optimisers.adam import AdamW
from stream_rec.learning.optimisers.base import DenseOptimiser, RowOptimiser
from stream_rec.learning.optimisers.registry import make_dense_optimiser, make_row_optimiser

__all__ = ["AdamW", "DenseOptimiser", "RowOptimiser", "make_dense_optimiser", "make_row_optimiser"]
