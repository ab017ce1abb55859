"""GRU4Rec, plain and online (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016; Hidasi & Karatzoglou, CIKM 2018).

Shapes: B events of a batch, L places of a history, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.evaluation.baselines.online_network import OnlineNetwork, SequenceEncoder


class GruEncoder(SequenceEncoder):
    """One layer of gated recurrent units; its state after the newest item is the query."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self._gru = nn.GRU(dimension, dimension, batch_first=True)

    def forward(self, inputs_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """As ``SequenceEncoder``."""
        states_BLD, _ = self._gru(inputs_BLD)
        last_B11 = (lengths_B - 1).view(-1, 1, 1)
        last_BD: Tensor = states_BLD.gather(1, last_B11.expand(-1, 1, states_BLD.shape[2])).squeeze(1)
        return last_BD


class Gru4Rec(OnlineNetwork):
    """Cross-entropy with all items as negatives (the paper's largest sample), tied embeddings, item biases."""

    def __init__(
        self,
        *,
        max_users: int,
        max_items: int,
        seed: int = 1,
        dimension: int = 64,
        length: int = 30,
        rate: float = 0.003,
        batch_size: int = 256,
    ) -> None:
        # Weights are drawn under the seed, and what draws elsewhere goes on as if nothing had been drawn.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = GruEncoder(dimension)
        super().__init__(
            "GRU4Rec",
            encoder,
            max_users=max_users,
            max_items=max_items,
            dimension=dimension,
            length=length,
            rate=rate,
            has_bias=True,
            seed=seed,
            batch_size=batch_size,
        )
