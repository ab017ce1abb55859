"""The contract of an architecture: it reads a history in its moment and answers with a query.

Shapes: B = moments, N = history length (newest first), R = rows of the working set, D = dimension,
C = context slots. An item's logit is the inner product of the query with the item's output vector, plus a bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Inputs:
    """What an encoder may read. ``items_BN`` points into ``vectors_RD``; 0 is an empty slot, whose vector is row 0.

    Types and situations of empty slots hold anything: what once stood there is not wiped out.
    """

    vectors_RD: Tensor  # input vectors of the working set: id embedding + attributes
    items_BN: Tensor  # int64
    gaps_BN: Tensor  # seconds from that interaction to this moment, >= 0, int64; 0 in an empty slot
    types_BN: Tensor  # event type rows, int64
    situations_BN: Tensor  # hashed context of that interaction, int64
    lengths_B: Tensor  # interactions in the history, int64
    hours_B: Tensor  # hour of day, UTC, 0–23
    weekdays_B: Tensor  # 0–6
    slots_BC: Tensor  # rows of the context fields of this moment, 0 where empty


class Encoder(nn.Module, ABC):
    """Reads ``Inputs``, returns queries. Must give a query for an empty history too, without NaN."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
