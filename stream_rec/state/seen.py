"""What each user has consumed, so that it is not shown again: blocks of rows in one bounded pool.

A user's items lie together in a block whose size doubles from 8 as it fills (a buddy allocator in one array),
so that the sets of a whole batch are one gather and a snapshot is a copy. When a user has ``max_per_user``
items, or the pool is full, the user's oldest item gives way. On the host: these are sets of decisions made
with ids (is it new to the user?), and only the pairs to exclude travel to the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_BLOCK = 8


class SeenItems:
    """Sets of item rows by user row. ``capacity`` bounds the entries of all users together."""

    def __init__(self, max_users: int, max_per_user: int, capacity: int) -> None:
        self.capacity = max(capacity, SMALLEST_BLOCK)
        self.num_entries = 0
        self._max_per_user = max_per_user
        self._pool = np.zeros(1024, dtype=np.int32)
        self._pool_used = 0
        self._start = np.zeros(max_users + 1, dtype=np.int64)
        self._size = np.zeros(max_users + 1, dtype=np.int32)  # size of the block, 0 = none
        self._count = np.zeros(max_users + 1, dtype=np.int32)
        self._oldest = np.zeros(max_users + 1, dtype=np.int32)  # where the next item goes in a full ring
        self._free: dict[int, list[int]] = {}  # block size → starts

    def of(self, user: int) -> NDArray[np.int32]:
        """Item rows that the user has consumed, in no particular order. A view: copy it to keep it."""
        start = self._start[user]
        view: NDArray[np.int32] = self._pool[start : start + self._count[user]]
        return view

    def add(self, user: int, item: int) -> bool:
        """Remember it; False if it was there already."""
        if user == 0 or bool((self.of(user) == item).any()):
            return user == 0
        count = int(self._count[user])
        if count == self._size[user]:
            self._grow(user)
        if count < min(self._size[user], self._max_per_user):
            self._pool[self._start[user] + count] = item
            self._count[user] = count + 1
            self.num_entries += 1
        elif count:
            slot = int(self._oldest[user])
            self._pool[self._start[user] + slot] = item
            self._oldest[user] = (slot + 1) % count
        return True

    def _grow(self, user: int) -> None:
        """Double the user's block if the bounds allow it; otherwise leave it as it is."""
        old_size = int(self._size[user])
        new_size = old_size * 2 if old_size else SMALLEST_BLOCK
        if old_size >= self._max_per_user:
            return
        starts = self._free.get(new_size)
        if starts:
            new_start = starts.pop()
        elif self._pool_used + new_size <= self.capacity:
            new_start = self._pool_used
            self._pool_used += new_size
            if self._pool_used > len(self._pool):
                self._pool = np.concatenate([self._pool, np.zeros(len(self._pool), dtype=np.int32)])
        else:
            return
        # Unroll the ring, so that "oldest" is slot 0 of the larger block.
        ring = np.roll(self.of(user), -int(self._oldest[user]))
        self._pool[new_start : new_start + len(ring)] = ring
        self._release(user)
        self._start[user], self._size[user], self._oldest[user] = new_start, new_size, 0

    def _release(self, user: int) -> None:
        size = int(self._size[user])
        if size:
            self._free.setdefault(size, []).append(int(self._start[user]))
        self._size[user] = 0

    def forget_users(self, users: list[int]) -> None:
        """Drop what these users consumed (their rows were retired)."""
        for user in users:
            self._release(user)
            self.num_entries -= int(self._count[user])
            self._count[user] = self._oldest[user] = 0

    def forget_items(self, items: list[int], num_users: int) -> None:
        """Take retired item rows out of all sets: the row will belong to another item. One pass over the pool."""
        users = np.flatnonzero(self._count[:num_users])
        users = users[np.argsort(self._start[users], kind="stable")]
        # Blocks that were given back still hold old rows, so there can be hits though nobody has anything.
        hits = np.flatnonzero(np.isin(self._pool[: self._pool_used], np.asarray(items, dtype=np.int32)))
        if not len(hits) or not len(users):
            return
        owner = users[np.searchsorted(self._start[users], hits, side="right") - 1]
        inside = hits < self._start[owner] + self._count[owner]
        for user in np.unique(owner[inside]):
            kept = np.roll(self.of(user), -int(self._oldest[user]))
            kept = kept[~np.isin(kept, items)]
            self.num_entries -= int(self._count[user]) - len(kept)
            self._pool[self._start[user] : self._start[user] + len(kept)] = kept
            self._count[user], self._oldest[user] = len(kept), 0

    def state(self, num_users: int) -> dict[str, Any]:
        """All of it for user rows below ``num_users``."""
        return {
            "pool": self._pool[: self._pool_used].copy(),
            "start": self._start[:num_users].copy(),
            "size": self._size[:num_users].copy(),
            "count": self._count[:num_users].copy(),
            "oldest": self._oldest[:num_users].copy(),
            "free": [[size, starts] for size, starts in self._free.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        pool = state["pool"]
        self._pool_used = len(pool)
        self._pool = np.zeros(1 << max(10, (len(pool) - 1).bit_length()), dtype=np.int32)
        self._pool[: len(pool)] = pool
        num_users = len(state["start"])
        for name in ("start", "size", "count", "oldest"):
            array = getattr(self, f"_{name}")
            array[:] = 0
            array[:num_users] = state[name]
        self._free = {size: list(starts) for size, starts in state["free"]}
        self.num_entries = int(self._count.sum())
