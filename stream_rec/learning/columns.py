"""What a batch is learnt against: a working set of item rows, and which of them the softmax runs over.

Shapes: B = moments, N = history length, I = item rows, R = rows of the working set, C = columns, E = places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_rec.learning.negatives import NegativeSampler
from stream_rec.state.moments import Moments


@dataclass
class Columns:
    """The first row of the working set and the first column are row 0."""

    rows: slice | Tensor  # item rows of the working set; the first is row 0
    items_BN: Tensor  # the histories, as places in the working set
    local_C: slice | Tensor  # places of the columns in the working set
    items: slice | Tensor  # item rows of the columns; the first is row 0
    num_columns: int
    target_B: Tensor  # column of each moment's item
    column_of_I: Tensor | None  # item row → column, num_columns where it is none; None where rows are columns
    correction_C: Tensor | None  # log chance of a sampled column

    def target_places(self) -> Tensor:
        """[B] places of the moments' items in the working set."""
        return self.target_B if isinstance(self.local_C, slice) else self.local_C[self.target_B]

    def targets(self, places_E: Tensor) -> tuple[Tensor, Tensor]:
        """Columns [E] of places in the working set, and whether they are one: 0 stands for those that are none."""
        columns_E = places_E
        if self.column_of_I is not None:
            assert isinstance(self.rows, Tensor), "a sample of columns goes with a list of rows"
            columns_E = self.column_of_I[self.rows[places_E]]
        is_column_E = (columns_E > 0) & (columns_E < self.num_columns)
        return torch.where(is_column_E, columns_E, 0), is_column_E


def choose_columns(
    moments: Moments, batch: int, num_rows: int, sampler: NegativeSampler, max_full: int, read_length: int
) -> Columns:
    """All items where there are at most ``max_full``, else a sample of negatives and the batch's own.

    Of the histories the newest ``read_length``: what the encoder reads.
    """
    items_BN = moments.history.items_BN[:, :read_length]
    if num_rows - 1 <= max_full:
        everything = slice(0, num_rows)
        return Columns(everything, items_BN, everything, everything, num_rows, moments.item_B, None, None)
    columns_C, correction_C = sampler.draw(batch, num_rows, moments.items[moments.counts])
    num_columns = columns_C.shape[0]
    column_of_I = torch.full((num_rows,), num_columns, dtype=torch.int64, device=columns_C.device)
    column_of_I[columns_C] = torch.arange(num_columns, device=columns_C.device)
    rows_R, local_X = distinct(torch.cat([columns_C, items_BN.reshape(-1)]))
    return Columns(
        rows=rows_R,
        items_BN=local_X[num_columns:].view_as(items_BN),
        local_C=local_X[:num_columns],
        items=columns_C,
        num_columns=num_columns,
        target_B=column_of_I[moments.item_B],
        column_of_I=column_of_I,
        correction_C=correction_C,
    )


def distinct(rows_X: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct values, sorted, and where each input is among them; without waiting for the device.

    The result has the input's length, filled up with row 0: ``rows_X`` must hold a 0, so that row 0 is the first
    of the distinct ones. Whoever writes back must write the same to all fillers, as ``RowOptimiser.step`` does.
    """
    sorted_X, order_X = torch.sort(rows_X, stable=True)
    is_first_X = torch.ones_like(sorted_X, dtype=torch.bool)
    is_first_X[1:] = sorted_X[1:] != sorted_X[:-1]
    place_X = torch.cumsum(is_first_X, 0) - 1
    rows_R = torch.zeros_like(rows_X).scatter_(0, place_X, sorted_X)
    local_X = torch.empty_like(rows_X).scatter_(0, order_X, place_X)
    return rows_R, local_X
