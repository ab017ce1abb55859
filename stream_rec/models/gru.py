"""GRU4Rec (Hidasi et al., ICLR 2016): gated recurrent units over what was touched, the last state asks for the next."""

from __future__ import annotations

from torch import nn

from stream_rec.models.recurrent import RecurrentEncoder


class GruEncoder(RecurrentEncoder):
    """``num_layers`` GRUs on top of each other."""

    cell = nn.GRU
