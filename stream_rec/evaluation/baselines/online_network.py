"""A sequence network trained online in micro-batches: what GRU4Rec and SASRec share.

Shapes: B events of a batch, L places of a history, D dimensions, I items that have a row, K places of a list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.evaluation.baselines.base import Turn
from stream_rec.evaluation.baselines.item_table import ItemTable
from stream_rec.evaluation.baselines.recent_items import RecentItems
from stream_rec.records import Event

NOT_LISTED = float("-inf")


class SequenceEncoder(nn.Module, ABC):
    """What turns a history into a query; each network is one."""

    @abstractmethod
    def forward(self, inputs_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """Queries (B, D) from the embedded places, of which the first ``lengths_B`` (from 1) count, newest last."""


class Example(NamedTuple):
    """An event to be learnt: what its user had taken just before it, oldest first, and the item's row."""

    history: tuple[str, ...]
    row: int
    weight: float


class OnlineNetwork:
    """Cross-entropy over all items met so far, one Adam step a batch, every event a target once.

    A place before the first stands for the beginning, so that somebody without history is asked for, too. Input and
    output share one table. Lists of a batch are made with the parameters of its start and histories of just before
    each event. Raises ValueError for bounds that a batch does not fit into.
    """

    def __init__(
        self,
        name: str,
        encoder: SequenceEncoder,
        *,
        max_users: int,
        max_items: int,
        dimension: int,
        length: int,
        rate: float,
        has_bias: bool,
        seed: int,
        batch_size: int = 256,
        device: str = "cpu",
    ) -> None:
        if max_items < 2 * batch_size:
            raise ValueError(f"max_items is {max_items}; allowed is from {2 * batch_size}, twice a batch")
        self.name = name
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._length = length
        self._has_bias = has_bias
        self._recent = RecentItems(length - 1, max_users)
        self._table = ItemTable(max_items, dimension, dimension**-0.5, seed, self._device)
        self._encoder = encoder.to(self._device)
        self._start_D = nn.Parameter(torch.zeros(dimension, device=self._device))
        self._optimiser = torch.optim.Adam([*self._dense(), self._table.weight_RD, self._table.bias_R], lr=rate)
        self._table.learnt_by(self._optimiser)
        self._pending: list[Example] = []

    def update(self, event: Event, weight: float) -> None:
        """As ``Baseline``; learns when a batch is full."""
        self._pending.append(self._take(event, weight))
        if len(self._pending) == self._batch_size:
            self._step(self._pending)
            self._pending = []

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """As ``Baseline``; with the parameters after the last full batch."""
        if not len(self._table.rows):
            return []
        scores_BI = self._scores([self._recent.of(user_id)])
        return self._lists(scores_BI, [exclude], k)[0]

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        """As ``Player``: 1. take in the batch; 2. list for every event; 3. one step."""
        assert not self._pending, "events that wait for their batch would be learnt in the middle of this one"
        known = [self._table.rows.find(turn.event.item_id) is not None for turn in turns]
        examples = [self._take(turn.event, turn.weight) for turn in turns]
        scores_BI = self._scores([example.history for example in examples])
        first_place: dict[int, int] = {}
        for place, example in enumerate(examples):
            if not known[place]:
                first_place.setdefault(example.row, place)
        for row, place in first_place.items():
            # An item that this batch brings is nobody's to be shown before the event that brings it.
            scores_BI[: place + 1, row] = NOT_LISTED
        lists = self._lists(scores_BI, [turn.exclude for turn in turns], k)
        self._step(examples)
        return lists

    def sizes(self) -> dict[str, tuple[int, int]]:
        """As ``Baseline``."""
        rows = self._table.rows
        pending = {f"{self.name} pending": (len(self._pending), self._batch_size)}
        return {f"{self.name} items": (len(rows), rows.capacity), f"{self.name} users": self._recent.size(), **pending}

    def state(self) -> dict[str, Any]:
        """As ``Baseline``: copies of all tensors."""
        parameters = [*self._dense(), self._table.weight_RD, self._table.bias_R]
        moments = [self._optimiser.state.get(parameter, {}) for parameter in parameters]
        return {
            "table": self._table.state(),
            "recent": self._recent.state(),
            "parameters": [parameter.detach().clone() for parameter in parameters],
            "moments": [{name: value.clone() for name, value in one.items()} for one in moments],
            "pending": [[list(example.history), example.row, example.weight] for example in self._pending],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``Baseline``."""
        self._table.load_state(state["table"], num_rows=len(state["parameters"][-1]))
        self._recent.load_state(state["recent"])
        parameters = [*self._dense(), self._table.weight_RD, self._table.bias_R]
        for parameter, saved, moments in zip(parameters, state["parameters"], state["moments"], strict=True):
            parameter.data.copy_(saved)
            if moments:
                self._optimiser.state[parameter] = {name: value.clone() for name, value in moments.items()}
        self._pending = [Example(tuple(history), row, weight) for history, row, weight in state["pending"]]

    def _dense(self) -> list[nn.Parameter]:
        return [self._start_D, *self._encoder.parameters()]

    def _take(self, event: Event, weight: float) -> Example:
        history = self._recent.of(event.user_id)
        row = self._table.touch(event.item_id)
        self._recent.add(event.user_id, event.item_id)
        return Example(history, row, weight)

    def _logits(self, histories: Sequence[tuple[str, ...]]) -> Tensor:
        """Scores (B, I) of all rows given so far."""
        rows = [self._table.rows.find_all(history) for history in histories]
        num_items = self._table.rows.num_rows
        lengths_B = torch.tensor([len(one) + 1 for one in rows], device=self._device)
        length = max(len(one) for one in rows)
        rows_BL = torch.tensor([one + [0] * (length - len(one)) for one in rows], device=self._device)
        embedded_BLD = F.embedding(rows_BL.view(len(rows), length).long(), self._table.weight_RD)
        start_BLD = self._start_D.expand(len(rows), 1, -1)
        queries_BD = self._encoder(torch.cat([start_BLD, embedded_BLD], dim=1), lengths_B)
        logits_BI: Tensor = queries_BD @ self._table.weight_RD[:num_items].T
        return logits_BI + self._table.bias_R[:num_items] if self._has_bias else logits_BI

    def _scores(self, histories: Sequence[tuple[str, ...]]) -> Tensor:
        with torch.no_grad():
            scores_BI = self._logits(histories)
        scores_BI[:, self._table.rows.free] = NOT_LISTED
        return scores_BI

    def _lists(self, scores_BI: Tensor, excludes: Sequence[AbstractSet[str]], k: int) -> list[list[str]]:
        rows = self._table.rows
        places, columns = [], []
        for place, exclude in enumerate(excludes):
            excluded = rows.find_all(exclude)
            places += [place] * len(excluded)
            columns += excluded
        if places:
            scores_BI[torch.tensor(places, device=self._device), torch.tensor(columns, device=self._device)] = (
                NOT_LISTED
            )
        best = torch.topk(scores_BI, min(k, scores_BI.shape[1]))
        return [
            [rows.id(row) for row, score in zip(best_rows, scores, strict=True) if score > NOT_LISTED]
            for best_rows, scores in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _step(self, examples: Sequence[Example]) -> None:
        logits_BI = self._logits([example.history for example in examples])
        if self._table.rows.free:
            mask_I = torch.zeros(logits_BI.shape[1], device=self._device)
            mask_I[self._table.rows.free] = NOT_LISTED
            logits_BI = logits_BI + mask_I
        targets_B = torch.tensor([example.row for example in examples], device=self._device)
        weights_B = torch.tensor([example.weight for example in examples], device=self._device)
        losses_B = F.cross_entropy(logits_BI, targets_B, reduction="none")
        self._optimiser.zero_grad()
        ((losses_B * weights_B).sum() / weights_B.sum()).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
