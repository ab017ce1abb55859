"""What every baseline offers, and how it is played: a list before each event, then learn from it.

``Baseline`` is the contract: learn from one event, give a list at any moment, tell sizes, save and load. ``Player``
takes whole micro-batches. ``OneByOne`` makes a player of a baseline that learns per event; those that learn per batch
are players themselves, with the parameters of the batch's start for every list of the batch.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from stream_rec.records import Event

_K = TypeVar("_K")
_V = TypeVar("_V")

UNKNOWN = -math.inf  # the score of an item of which a baseline knows nothing: it is not listed


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
        """Everything learnt: nested dicts of JSON values, and of arrays and tensors where there are any."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; what goes beyond the bounds of now is dropped."""
        ...


class Turn(NamedTuple):
    """One event of a batch: what it counts, and what its user must not be shown just before it.

    ``among`` are the only items that may be listed, where that is given: then, too, an event may weigh 0, which is
    shown a list and not learnt.
    """

    event: Event
    weight: float
    exclude: AbstractSet[str]
    among: Sequence[str] | None = None


@runtime_checkable
class Player(Protocol):
    """A method that goes through a stream in micro-batches."""

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        """For each turn the list (item ids, best first, at most k) of just before it; then all of it is learnt."""
        ...


class OneByOne:
    """Plays a baseline that learns per event: list, learn, next."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        """As ``Player``."""
        return [self._turn(turn, k) for turn in turns]

    def _turn(self, turn: Turn, k: int) -> list[str]:
        items = self.baseline.top(turn.event.user_id, turn.event.timestamp_ms, k, turn.exclude)
        self.baseline.update(turn.event, turn.weight)
        return items


@runtime_checkable
class Scorer(Protocol):
    """A baseline that can also say how good given items are, to put a list of candidates in order."""

    def scores(self, user_id: str, now_ms: int, items: Sequence[str]) -> list[float]:
        """One number for each item, the higher the better; ``UNKNOWN`` where nothing is known. Changes nothing."""
        ...


def put_newest(store: OrderedDict[_K, _V], key: _K, value: _V, capacity: int) -> None:
    """Set the key as the most recently used; beyond ``capacity`` the least recently used goes."""
    store[key] = value
    store.move_to_end(key)
    if len(store) > capacity:
        store.popitem(last=False)
