"""The last N interactions of every user, as tensors on the device: 12 bytes an entry.

Shapes: U = user rows, N = history length, B = events of a batch. A history is a ring; slot 0 of what readers
get is the newest entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_rec.state.allocation import zeros
from stream_rec.state.rings import places_before, slots_to_write
from stream_rec.state.vocabulary import Rows

# Seconds since 2001-09-09 fit 32 bits from 1933 to 2069; decoding has refused what lies outside.
TIME_ORIGIN_S = 1_000_000_000
# Two interactions further apart than this belong to two sessions: the usual half hour.
SESSION_GAP_S = 1_800


@dataclass
class History:
    """What a batch of moments looks back on, newest first. Empty slots hold item 0."""

    items_BN: Tensor  # item rows, int64
    times_BN: Tensor  # seconds since TIME_ORIGIN_S, int64
    types_BN: Tensor  # event type rows, int64
    situations_BN: Tensor  # hashed context of that event, int64
    values_BN: Tensor  # bucket of that event's value, int64
    lengths_B: Tensor  # entries in use, int64

    def session_lengths(self, clock_B: Tensor) -> Tensor:
        """[B] how many of the newest entries belong to the session that runs at ``clock_B`` (s since TIME_ORIGIN_S).

        No two of them, and not the newest and the moment, are more than SESSION_GAP_S apart; 0 where the newest entry
        is older. Entries whose item was retired count: they are places in the history, and their time is known.
        """
        elapsed_BN = (clock_B[:, None] - self.times_BN).clamp_min(0)
        gaps_BN = torch.diff(elapsed_BN, dim=1, prepend=torch.zeros_like(elapsed_BN[:, :1]))
        in_use_BN = torch.arange(elapsed_BN.shape[1], device=clock_B.device)[None, :] < self.lengths_B[:, None]
        return torch.cumprod((in_use_BN & (gaps_BN <= SESSION_GAP_S)).long(), dim=1).sum(1)


class Histories:
    """Rings by user row."""

    def __init__(self, max_users: int, length: int, device: torch.device) -> None:
        self.length = length
        self._items_UN = zeros(max_users + 1, length, dtype=torch.int32, device=device)
        self._times_UN = zeros(max_users + 1, length, dtype=torch.int32, device=device)
        self._types_UN = zeros(max_users + 1, length, dtype=torch.uint8, device=device)
        self._situations_UN = zeros(max_users + 1, length, dtype=torch.int16, device=device)
        self._values_UN = zeros(max_users + 1, length, dtype=torch.uint8, device=device)
        # On the host, since it follows from the ids alone: how many interactions a user has ever had.
        self._num_ever: Rows = np.zeros(max_users + 1, dtype=np.int64)

    def in_batch_order(self, user_B: Rows, counts_B: NDArray[np.bool_]) -> tuple[Rows, Rows]:
        """Earlier events of the same user within the batch, of those that count as history.

        Returns ``rank_B`` (how many there are) and ``previous_BN``: the batch index of the n-th newest of them,
        -1 where there is none, as wide as the batch needs and at most N.
        """
        order, end_B, rank_B = places_before(user_B, counts_B)
        depth_N = np.arange(min(self.length, int(rank_B.max(initial=0))))
        place_BN = end_B[:, None] - 1 - depth_N[None, :]
        previous_BN = np.where(depth_N[None, :] < rank_B[:, None], order[np.maximum(place_BN, 0)], -1)
        return rank_B, previous_BN

    def read(self, user_B: Rows) -> History:
        """Histories as stored. Creates nothing for users that are unknown (row 0)."""
        device = self._items_UN.device
        num_ever_B = torch.from_numpy(self._num_ever[user_B]).to(device)
        row_BN = torch.from_numpy(user_B).to(device)[:, None].expand(-1, self.length)
        newest_first_N = torch.arange(self.length, device=device)
        slot_BN = (num_ever_B[:, None] - 1 - newest_first_N[None, :]) % self.length
        in_use_BN = newest_first_N[None, :] < num_ever_B[:, None]
        return History(
            items_BN=torch.where(in_use_BN, self._items_UN[row_BN, slot_BN].long(), 0),
            times_BN=self._times_UN[row_BN, slot_BN].long(),
            types_BN=self._types_UN[row_BN, slot_BN].long(),
            situations_BN=self._situations_UN[row_BN, slot_BN].long(),
            values_BN=self._values_UN[row_BN, slot_BN].long(),
            lengths_B=num_ever_B.clamp(max=self.length),
        )

    def read_before(
        self,
        user_B: Rows,
        counts_B: NDArray[np.bool_],
        item_B: Tensor,
        time_B: Tensor,
        type_B: Tensor,
        situation_B: Tensor,
        value_B: Tensor,
    ) -> History:
        """Histories as each event of a batch found them: as stored, then the user's earlier events of the batch."""
        stored = self.read(user_B)
        rank, previous = self.in_batch_order(user_B, counts_B)
        depth = previous.shape[1]
        if depth == 0:
            return stored
        device = item_B.device
        rank_B = torch.from_numpy(rank).to(device)
        fill = np.full((len(rank), self.length - depth), -1, dtype=np.int64)
        previous_BN = torch.from_numpy(np.concatenate([previous, fill], axis=1)).to(device)
        slot_BN = torch.arange(self.length, device=device)[None, :] - rank_B[:, None]
        is_recent_BN = previous_BN >= 0
        source_BN = previous_BN.clamp_min(0)
        shifted_BN = slot_BN.clamp_min(0)

        def merge(recent_B: Tensor, stored_BN: Tensor) -> Tensor:
            return torch.where(is_recent_BN, recent_B[source_BN], stored_BN.gather(1, shifted_BN))

        return History(
            items_BN=merge(item_B, stored.items_BN),
            times_BN=merge(time_B, stored.times_BN),
            types_BN=merge(type_B, stored.types_BN),
            situations_BN=merge(situation_B, stored.situations_BN),
            values_BN=merge(value_B, stored.values_BN),
            lengths_B=(stored.lengths_B + rank_B).clamp(max=self.length),
        )

    def append(
        self,
        user_B: Rows,
        counts_B: NDArray[np.bool_],
        item_B: Tensor,
        time_B: Tensor,
        type_B: Tensor,
        situation_B: Tensor,
        value_B: Tensor,
    ) -> None:
        """Add the events that count, in order. Only a user's newest N are written, so no slot is written twice."""
        kept, slot, counts_B = slots_to_write(user_B, counts_B, self._num_ever, self.length)
        device = item_B.device
        kept_K = torch.from_numpy(kept).to(device)
        where = (torch.from_numpy(user_B[kept]).to(device), torch.from_numpy(slot).to(device))
        self._items_UN[where] = item_B[kept_K].int()
        self._times_UN[where] = time_B[kept_K].int()
        self._types_UN[where] = type_B[kept_K].to(torch.uint8)
        self._situations_UN[where] = situation_B[kept_K].to(torch.int16)
        self._values_UN[where] = value_B[kept_K].to(torch.uint8)
        np.add.at(self._num_ever, user_B[counts_B], 1)

    def turns(self, user_B: Rows, counts_B: NDArray[np.bool_]) -> Rows:
        """[B] which interaction of its user each event of a batch is, counted from 0. Before ``append``."""
        return self._num_ever[user_B] + places_before(user_B, counts_B)[2]

    def around(self, user_BG: Tensor, turn_BG: Tensor, window_Z: Tensor) -> tuple[Tensor, Tensor]:
        """Items and times [B, G, Z] that stand where the interactions around the given ones have been written.

        A ring that has gone round since holds others there: whoever asks compares the times.
        """
        turn_BGZ = turn_BG[:, :, None] + window_Z
        where = (user_BG[:, :, None], turn_BGZ % self.length)
        return torch.where(turn_BGZ >= 0, self._items_UN[where].long(), 0), self._times_UN[where].long()

    def forget_users(self, rows: list[int]) -> None:
        """Empty the histories of retired user rows; nothing of them is left for others to find (``around``)."""
        self._num_ever[rows] = 0
        self._items_UN[torch.tensor(rows, device=self._items_UN.device)] = 0

    def forget_items(self, rows: list[int], num_users: int) -> None:
        """Retired item rows become empty slots. One pass over the histories in use."""
        is_gone_I = torch.zeros(1 + max(rows), dtype=torch.bool, device=self._items_UN.device)
        is_gone_I[torch.tensor(rows, device=self._items_UN.device)] = True
        items_UN = self._items_UN[:num_users]
        index_UN = items_UN.clamp(max=max(rows)).long()
        items_UN.masked_fill_(is_gone_I[index_UN] & (items_UN <= max(rows)), 0)

    @property
    def num_entries(self) -> int:
        """Entries in use, over all users."""
        return int(np.minimum(self._num_ever, self.length).sum())

    def state(self, num_users: int) -> dict[str, Any]:
        """All of it for user rows below ``num_users``."""
        return {
            "items": self._items_UN[:num_users].clone(),
            "times": self._times_UN[:num_users].clone(),
            "types": self._types_UN[:num_users].clone(),
            "situations": self._situations_UN[:num_users].clone(),
            "values": self._values_UN[:num_users].clone(),
            "num_ever": self._num_ever[:num_users].copy(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        num_users = len(state["num_ever"])
        for name in ("items", "times", "types", "situations", "values"):
            table = getattr(self, f"_{name}_UN")
            table[:num_users] = state[name].to(table.device)
        self._num_ever[:] = 0
        self._num_ever[:num_users] = state["num_ever"]
