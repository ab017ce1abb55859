"""What every baseline offers: learn from one event, give a list at any moment, tell its sizes, save and load."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeVar

from stream_rec.records import Event

_K = TypeVar("_K")
_V = TypeVar("_V")


class Baseline(Protocol):
    """What is measured beside the model: learns from every event that counts, and gives a list at any moment."""

    name: str

    def update(self, event: Event, weight: float) -> None:
        """Learn from one event; ``weight`` is greater than 0. Events come in the order of the log."""
        ...

    def top(self, user_id: str, now_ms: int, k: int, exclude: AbstractSet[str]) -> list[str]:
        """At most k (from 1) distinct item ids, best first, none of them excluded. Changes nothing."""
        ...

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Store → entries, capacity."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything learnt, JSON-able."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; what goes beyond the bounds of now is dropped."""
        ...


def put_newest(store: OrderedDict[_K, _V], key: _K, value: _V, capacity: int) -> None:
    """Set the key as the most recently used; beyond ``capacity`` the least recently used goes."""
    store[key] = value
    store.move_to_end(key)
    if len(store) > capacity:
        store.popitem(last=False)
