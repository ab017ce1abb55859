"""A table of item embeddings that grows with the items met, and the optimiser that must follow it.

Shapes: R rows that there is room for, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from stream_rec.evaluation.baselines.rows import Rows

FIRST_ROWS = 1_024


class ItemTable(nn.Module):
    """Embeddings, drawn from N(0, ``scale``²) when an item is first met, and biases that start at 0.

    Rows double in number as items come: an Adam step costs what the stream needs, not what the bound allows.
    """

    def __init__(self, capacity: int, dimension: int, scale: float, seed: int, device: torch.device) -> None:
        super().__init__()
        self.rows = Rows(capacity, self._forget)
        self._scale = scale
        self._seed = seed
        self._num_drawn = 0
        self._fresh: set[int] = set()  # rows given back, to be drawn anew
        self._optimiser: torch.optim.Adam | None = None
        num_rows = min(capacity, FIRST_ROWS)
        self.weight_RD = nn.Parameter(torch.zeros(num_rows, dimension, device=device))
        self.bias_R = nn.Parameter(torch.zeros(num_rows, device=device))

    def learnt_by(self, optimiser: torch.optim.Adam) -> None:
        """Whose moments have to grow with the table and are cleared with its rows."""
        self._optimiser = optimiser

    def touch(self, item_id: str) -> int:
        """The item's row, drawn where it is new."""
        num_before = self.rows.num_rows
        row = self.rows.touch(item_id)
        if row >= num_before or row in self._fresh:
            self._draw(row)
        return row

    def state(self) -> dict[str, Any]:
        """Rows and counters; the parameters are in ``state_dict``."""
        return {"rows": self.rows.state(), "num_drawn": self._num_drawn, "fresh": sorted(self._fresh)}

    def load_state(self, state: dict[str, Any], num_rows: int) -> None:
        """Take over what ``state`` gave, with room for ``num_rows`` rows of parameters to be loaded into."""
        self.rows.load_state(state["rows"])
        self._num_drawn, self._fresh = state["num_drawn"], set(state["fresh"])
        self._grow(num_rows)

    def _draw(self, row: int) -> None:
        if row >= len(self.bias_R):
            self._grow(min(self.rows.capacity, max(row + 1, 2 * len(self.bias_R))))
        # From a counter, so that the n-th item of a stream begins the same whatever happened in between.
        generator = np.random.default_rng((self._seed, self._num_drawn))
        drawn_D = generator.normal(0.0, self._scale, self.weight_RD.shape[1])
        with torch.no_grad():
            self.weight_RD[row] = torch.as_tensor(drawn_D, dtype=torch.float32, device=self.weight_RD.device)
            self.bias_R[row] = 0.0
        self._num_drawn += 1
        self._fresh.discard(row)

    def _grow(self, num_rows: int) -> None:
        if num_rows <= len(self.bias_R):
            return
        for name in ("weight_RD", "bias_R"):
            old: nn.Parameter = getattr(self, name)
            new = nn.Parameter(_padded(old.data, num_rows))
            setattr(self, name, new)
            if self._optimiser is not None:
                _replace(self._optimiser, old, new)

    def _forget(self, rows: list[int]) -> None:
        self._fresh.update(rows)
        for parameter in (self.weight_RD, self.bias_R):
            moments = self._optimiser.state.get(parameter, {}) if self._optimiser is not None else {}
            for name in ("exp_avg", "exp_avg_sq"):
                if name in moments:
                    moments[name][rows] = 0.0


def _padded(rows_RX: torch.Tensor, num_rows: int) -> torch.Tensor:
    padded = rows_RX.new_zeros((num_rows, *rows_RX.shape[1:]))
    padded[: len(rows_RX)] = rows_RX
    return padded


def _replace(optimiser: torch.optim.Adam, old: nn.Parameter, new: nn.Parameter) -> None:
    """Let the optimiser go on with ``new`` where it had ``old``, with its moments."""
    for group in optimiser.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    moments = optimiser.state.pop(old, None)
    if moments is not None:
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = _padded(moments[name], len(new))
        optimiser.state[new] = moments
