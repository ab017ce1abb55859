"""What encoders read with: tables for what past interactions were like, and for what is known of the moment itself.

Shapes: B = moments, N = history length (newest first), D = dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.base import Inputs
from stream_rec.state.context import NUM_EVENT_TYPES, NUM_VALUE_BUCKETS

NUM_GAP_BUCKETS = 32  # log2 of seconds: the last bucket begins at 68 years
# Rows move in larger steps than dense parameters, and a user has few events: at full weight his vector drowns the rest.
USER_SHARE = 0.3
# Of queries that are plain sums of rows: these start small, and what is small learns slowly.
FACTOR_SCALE = 4.0


def gap_bucket(gaps: Tensor) -> Tensor:
    """Bucket of a gap in seconds: 0 for none, else 1 + floor(log2), at most NUM_GAP_BUCKETS - 1."""
    return torch.log2(gaps.clamp_min(0).float() + 1.0).ceil().long().clamp(max=NUM_GAP_BUCKETS - 1)


def steps_between(gaps_BN: Tensor) -> Tensor:
    """[B, N] seconds from the interaction before each one to it; 0 for the oldest. Does not depend on the moment."""
    return F.pad((gaps_BN[:, 1:] - gaps_BN[:, :-1]).clamp_min(0), (0, 1))


def item_vectors_of(inputs: Inputs) -> Tensor:
    """[B, N, D] input vectors of the history's items; row 0's in empty slots."""
    return F.embedding(inputs.items_BN, inputs.vectors_RD)


def taste(inputs: Inputs) -> Tensor:
    """[B, D] a user as SVD++ has him: a vector of his own plus the sum of his items over the root of their number.

    His own vector starts from zero, so without the items all users would begin alike and factors could not part.
    """
    in_use_BN = inputs.items_BN > 0
    sum_BD = (item_vectors_of(inputs) * in_use_BN[:, :, None]).sum(1)
    return inputs.users_BD + sum_BD * torch.rsqrt(in_use_BN.sum(1).clamp_min(1).float())[:, None]


def start_tables(module: nn.Module) -> None:
    """Small values in every embedding table of the module, zeros in padding rows."""
    for table in (m for m in module.modules() if isinstance(m, nn.Embedding)):
        nn.init.normal_(table.weight, std=0.02)
        if table.padding_idx is not None:
            nn.init.zeros_(table.weight[table.padding_idx : table.padding_idx + 1])


class PastReader(nn.Module):
    """A vector for each past interaction: its item, how long ago, of which type, in which situation, of what value."""

    def __init__(self, dimension: int, num_context_buckets: int) -> None:
        super().__init__()
        self.gaps = nn.Embedding(NUM_GAP_BUCKETS, dimension)
        self.types = nn.Embedding(NUM_EVENT_TYPES, dimension)
        self.situations = nn.Embedding(num_context_buckets, dimension, padding_idx=0)
        self.values = nn.Embedding(NUM_VALUE_BUCKETS, dimension, padding_idx=0)
        start_tables(self)

    def forward(self, inputs: Inputs, gaps_BN: Tensor) -> Tensor:
        """[B, N, D]; anything in empty slots. ``gaps_BN`` (s) is what "how long ago" counts from."""
        read_BND: Tensor = item_vectors_of(inputs) + self.gaps(gap_bucket(gaps_BN)) + self._around(inputs)
        return read_BND

    def _around(self, inputs: Inputs) -> Tensor:
        """[B, N, D] all that is not the item itself, nor when."""
        around_BND: Tensor = (
            self.types(inputs.types_BN) + self.situations(inputs.situations_BN) + self.values(inputs.values_BN)
        )
        return around_BND


class MomentReader(nn.Module):
    """A vector for the moment: who, when, how long after the last interaction and into the session, in what context."""

    def __init__(self, dimension: int, history_length: int, num_context_buckets: int) -> None:
        super().__init__()
        self.hours = nn.Embedding(24, dimension)
        self.weekdays = nn.Embedding(7, dimension)
        self.last_gap = nn.Embedding(NUM_GAP_BUCKETS, dimension)
        self.lengths = nn.Embedding(history_length + 1, dimension)
        self.session_lengths = nn.Embedding(history_length + 1, dimension)
        self.context = nn.Embedding(num_context_buckets, dimension, padding_idx=0)
        start_tables(self)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D]"""
        read_BD: Tensor = (
            USER_SHARE * inputs.users_BD
            + self.hours(inputs.hours_B)
            + self.weekdays(inputs.weekdays_B)
            + self.last_gap(gap_bucket(inputs.gaps_BN[:, 0]))
            + self.lengths(inputs.lengths_B)
            + self.session_lengths(inputs.session_lengths_B)
            + self.context(inputs.slots_BC).sum(1)
        )
        return read_BD
