"""An encoder with nothing but item and user tables and a softmax over all items: what it learns is its own doing.

Statistics know the answers of many a tiny world; here there are none.

Shapes: I = item rows, U = user rows, D = dimension, B = moments, E = extra positions, X = of these per moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stream_rec.models.base import Inputs
from stream_rec.models.network import Network
from stream_rec.records import Event
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from tests.stream_rec.models.encoder_inputs import CPU, DIMENSION, settings_of
from tests.stream_rec.tiny_worlds import batches

NUM_EXTRA = 4
STEPS = 4  # a batch
TABLE_RATE, RATE = 0.03, 0.005


class Alone:
    """Learns by plain Adam. Tables start as the network's do: inputs small at random, outputs and users at zero."""

    def __init__(self, encoder: str, **sections: dict[str, Any]) -> None:
        settings = settings_of(encoder, **sections)
        self.memory = Memory(settings, CPU)
        self.network = Network(settings, CPU)
        self.generator = torch.Generator().manual_seed(1)
        num_items, num_users = settings.state.max_items + 1, settings.state.max_users + 1
        self.in_ID = (torch.randn(num_items, DIMENSION, generator=self.generator) * 0.05).requires_grad_()
        self.out_ID = torch.zeros(num_items, DIMENSION, requires_grad=True)
        self.users_UD = torch.zeros(num_users, DIMENSION, requires_grad=True)
        tables = [self.in_ID, self.out_ID, self.users_UD]
        groups = [{"params": tables, "lr": TABLE_RATE}, {"params": self.network.encoder.parameters(), "lr": RATE}]
        self.optimiser = torch.optim.Adam(groups)
        self.losses: list[float] = []

    def inputs(self, moments: Moments) -> Inputs:
        """What the encoder reads at these moments."""
        return self.network.inputs(moments, self.in_ID, moments.history.items_BN, self.users_UD[moments.user_B])

    def logits(self, moments: Moments) -> Tensor:
        """[B, I] of all item rows in use; none for the empty one."""
        logits_BI: Tensor = self.network.encoder(self.inputs(moments)) @ self.out_ID[: self.memory.num_item_rows].T
        return logits_BI.index_fill(1, torch.tensor([0]), float("-inf"))

    def learn(self, events: Sequence[Event], size: int = 64) -> None:
        """Take in all events, a few steps a batch."""
        for batch in batches(events, size):
            moments, _ = self.memory.enter(batch)
            for _ in range(STEPS):
                self.optimiser.zero_grad()
                loss = F.cross_entropy(self.logits(moments), moments.item_B)
                self.losses.append(loss.item())
                (loss + 0.5 * self._extra_loss(self.inputs(moments))).backward()
                self.optimiser.step()
            self.memory.update(moments)

    def _extra_loss(self, inputs: Inputs) -> Tensor:
        draws_BX = torch.rand(len(inputs.lengths_B), NUM_EXTRA, generator=self.generator)
        extra = self.network.encoder.extra_targets(inputs, draws_BX)
        if extra is None:
            return torch.zeros(())
        queries_ED, target_E, weight_E = extra
        losses_E = F.cross_entropy(queries_ED @ self.out_ID[: self.memory.num_item_rows].T, target_E, reduction="none")
        return (losses_E * weight_E).sum() / weight_E.sum().clamp_min(1)

    def best(self, events: Sequence[Event], num_best: int = 1) -> list[list[str]]:
        """Ids of the best items just before each event; learns nothing."""
        moments, _ = self.memory.enter(events)
        with torch.no_grad():
            rows_BK = self.logits(moments).topk(num_best).indices.tolist()
        return [self.memory.items.ids(rows) for rows in rows_BK]
