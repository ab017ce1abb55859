"""Who touched an item lately, and where in his history: the index that a session kNN looks its neighbours up in.

Shapes: I = item rows, R = visitors kept, B = moments or events of a batch, S = items asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.rings import slots_to_write
from stream_rec.state.vocabulary import Rows


@dataclass
class Visits:
    """The newest visits of some items. Empty places hold user 0."""

    users_BSR: Tensor  # user rows, int64
    turns_BSR: Tensor  # which interaction of that user it was, counted from 0, int64
    times_BSR: Tensor  # seconds since TIME_ORIGIN_S, int64


class Visitors:
    """Rings by item row: 12 bytes a visit. What a visit says is checked against the histories when it is read."""

    def __init__(self, max_items: int, length: int, device: torch.device) -> None:
        self.length = length
        self._users_IR = zeros(max_items + 1, length, dtype=torch.int32, device=device)
        self._turns_IR = zeros(max_items + 1, length, dtype=torch.int32, device=device)
        self._times_IR = zeros(max_items + 1, length, dtype=torch.int32, device=device)
        self._num_ever: Rows = np.zeros(max_items + 1, dtype=np.int64)

    def read(self, items_BS: Tensor) -> Visits:
        """In no order; nothing for row 0."""
        return Visits(self._users_IR[items_BS].long(), self._turns_IR[items_BS].long(), self._times_IR[items_BS].long())

    def append(self, items: Rows, counts: NDArray[np.bool_], user_B: Tensor, turn_B: Tensor, clock_B: Tensor) -> None:
        """Add the events that count, in order."""
        kept, slot, counts = slots_to_write(items, counts, self._num_ever, self.length)
        device = user_B.device
        kept_K = torch.from_numpy(kept).to(device)
        where = (torch.from_numpy(items[kept]).to(device), torch.from_numpy(slot).to(device))
        self._users_IR[where] = user_B[kept_K].int()
        self._turns_IR[where] = turn_B[kept_K].int()
        self._times_IR[where] = clock_B[kept_K].int()
        np.add.at(self._num_ever, items[counts], 1)

    def forget_items(self, rows: list[int]) -> None:
        """Empty the rings of retired item rows."""
        self._num_ever[rows] = 0
        self._users_IR[torch.tensor(rows, device=self._users_IR.device)] = 0

    def state(self, num_rows: int) -> dict[str, Any]:
        """All of it for item rows below ``num_rows``."""
        return {
            "users": self._users_IR[:num_rows].clone(),
            "turns": self._turns_IR[:num_rows].clone(),
            "times": self._times_IR[:num_rows].clone(),
            "num_ever": self._num_ever[:num_rows].copy(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        num_rows = len(state["num_ever"])
        self._users_IR.zero_()
        for name in ("users", "turns", "times"):
            table = getattr(self, f"_{name}_IR")
            table[:num_rows] = state[name].to(table.device)
        self._num_ever[:] = 0
        self._num_ever[:num_rows] = state["num_ever"]
