"""What recurrent encoders share: the history from the oldest to the newest through a cell, the last state as the query.

Shapes: B = moments, N = history length, D = dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, PastReader, start_tables, steps_between


class RecurrentEncoder(Encoder):
    """Subclasses name the cell."""

    cell: type[nn.GRU] | type[nn.LSTM]

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.start = nn.Embedding(1, dimension)
        start_tables(self)
        self.past = PastReader(dimension, num_context_buckets)
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.norm_in = nn.LayerNorm(dimension)
        self.cells = self.cell(dimension, dimension, num_layers=num_layers, batch_first=True)
        self.to_query = nn.Linear(dimension, dimension)
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        past_BND = self.norm_in(self.past(inputs, steps_between(inputs.gaps_BN)))
        ordered_BND, lengths_B = oldest_first(past_BND, inputs.items_BN > 0)
        states_BND, _ = self.cells(ordered_BND)
        # Before any interaction there is a state, too: the one that a step into the history starts from.
        start_B1D = self.start.weight.expand(len(lengths_B), 1, -1)
        states_BND = torch.cat([start_B1D, states_BND], dim=1)
        last_BD = states_BND.gather(1, lengths_B[:, None, None].expand(-1, 1, states_BND.shape[2]))[:, 0]
        queries_BD: Tensor = self.norm_out(self.to_query(last_BD) + self.moment(inputs))
        return queries_BD


def oldest_first(past_BND: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Entries in use in order of time, then the empty ones; and how many are in use, [B].

    Empty slots stand last, where no state that is read has passed them: cells need not know a mask, and the host
    need not know a length.
    """
    length = mask_BN.shape[1]
    lengths_B = mask_BN.sum(1)
    place_N = torch.arange(length, device=mask_BN.device)
    # Newest first becomes oldest first by counting down; empty slots get keys beyond all of them.
    key_BN = torch.where(mask_BN, length - place_N, 2 * length)
    order_BN = torch.argsort(key_BN, dim=1, stable=True)
    return past_BND.gather(1, order_BN[:, :, None].expand_as(past_BND)), lengths_B
