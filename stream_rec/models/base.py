"""The contract of an architecture: it reads a history in its moment and answers with a query.

Shapes: B = moments, N = history length (newest first), R = rows of the working set, D = dimension,
C = context slots, K = candidates per moment, X = extra positions per moment, E = extra positions of a batch. An item's
logit is the inner product of the query with the item's output vector, plus a bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


@dataclass
class Inputs:
    """What an encoder may read. ``items_BN`` points into ``vectors_RD``; 0 is an empty slot, whose vector is row 0.

    Types, situations and values of empty slots hold anything: what once stood there is not wiped out.
    """

    vectors_RD: Tensor  # input vectors of the working set: id embedding + attributes
    items_BN: Tensor  # int64
    gaps_BN: Tensor  # seconds from that interaction to this moment, >= 0, int64; 0 in an empty slot
    types_BN: Tensor  # event type rows, int64
    situations_BN: Tensor  # hashed context of that interaction, int64
    values_BN: Tensor  # buckets of that interaction's value (stars, seconds, …), int64; 0 for none
    users_BD: Tensor  # learnt vectors of the users; zeros for one who is unknown or new
    lengths_B: Tensor  # interactions in the history, int64
    session_lengths_B: Tensor  # of these the newest that belong to the running session, int64
    hours_B: Tensor  # hour of day, UTC, 0–23
    weekdays_B: Tensor  # 0–6
    slots_BC: Tensor  # rows of the context fields of this moment, 0 where empty


class Encoder(nn.Module, ABC):
    """Reads ``Inputs``, returns queries. Must give a query for an empty history too, without NaN."""

    interacts: ClassVar[bool] = False  # whether ``interact`` says anything

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""

    def interact(self, inputs: Inputs, query_BD: Tensor, candidates_BKD: Tensor) -> Tensor:
        """[B, K] logit of what only candidate and history together say, to be added to that of the query.

        Target attention, or an MLP over the pair: what an inner product of two vectors cannot express. Too dear for a
        whole catalogue, so it is asked for the few candidates that the second stage weighs. ``candidates_BKD`` holds
        their input vectors, ``query_BD`` what ``forward`` returned for these inputs. Only where it ``interacts``.
        """
        raise NotImplementedError

    def extra_targets(self, inputs: Inputs, draws_BX: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Further positions to learn from: masked items of the history, or what followed each of its prefixes.

        Returns queries [E, D], targets [E] (places in ``vectors_RD``, as in ``items_BN``) and weights [E] (0 where
        there is nothing to learn); None where the architecture learns from the moment's own item alone.
        ``draws_BX`` is uniform in [0, 1), the only chance there is: it follows from the seed and the batch.
        """
        return None
