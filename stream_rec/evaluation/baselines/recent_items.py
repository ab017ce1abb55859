"""The items that each user took last, bounded in users and in items."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from stream_rec.evaluation.baselines.base import put_newest

_NOBODY: tuple[str, ...] = ()


class RecentItems:
    """Of at most ``max_users`` users the newest ``length`` items, newest last; ids, since rows change hands."""

    def __init__(self, length: int, max_users: int) -> None:
        self._length = length
        self._max_users = max_users
        self._items: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def of(self, user_id: str) -> tuple[str, ...]:
        """Newest last; empty for a user who is not known. Changes nothing."""
        return self._items.get(user_id, _NOBODY)

    def add(self, user_id: str, item_id: str) -> None:
        """The user has taken this item."""
        put_newest(self._items, user_id, (*self.of(user_id), item_id)[-self._length :], self._max_users)

    def size(self) -> tuple[int, int]:
        """Users, capacity."""
        return len(self._items), self._max_users

    def state(self) -> list[list[Any]]:
        """JSON-able."""
        return [[user, list(items)] for user, items in self._items.items()]

    def load_state(self, state: list[list[Any]]) -> None:
        """Take over what ``state`` gave; of more users the newest."""
        self._items = OrderedDict()
        for user, items in state:
            put_newest(self._items, user, tuple(items[-self._length :]), self._max_users)
