"""Tiny worlds with a known right answer, small settings to learn them with, and states to compare bit by bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from stream_rec.config import Settings
from stream_rec.learning.device import configure_torch
from stream_rec.learning.learner import Learner
from stream_rec.records import Event, Item, ItemUpdate
from stream_rec.state.moments import Moments

START_MS = 1_700_000_000_000
BATCH = 64

World = Callable[..., list[Event]]

SMALL: dict[str, dict[str, Any]] = {
    # Two threads that wait for each other by spinning make such small steps a hundred times slower on a busy machine.
    "worker": {"threads": 1},
    "state": {
        "max_users": 256,
        "max_items": 64,
        "history_length": 8,
        "max_neighbours": 8,
        "max_item_features": 4,
        "num_feature_buckets": 64,
        "num_context_slots": 2,
        "num_context_buckets": 64,
        "request_context": ["device"],
    },
    "model": {"dimension": 16},
    # Worlds below repeat themselves: what was taken once is right again.
    "ranking": {"list_length": 10, "exclude_seen": False},
    "learning": {"num_uniform_negatives": 16, "num_popular_negatives": 8},
}


def small_settings(**sections: dict[str, Any]) -> Settings:
    """Settings for tiny worlds; ``sections`` are laid over them."""
    tree = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL.keys() | sections.keys()}
    settings = Settings.model_validate(tree)
    configure_torch(settings.worker)
    return settings


def cycle(num_events: int, *, num_items: int = 20, num_users: int = 40, seed: int = 0) -> list[Event]:
    """Everybody walks round the same ring: after item i comes i + 1. The last item tells the next."""
    return _walk(num_events, num_items, [1] * num_users, seed)


def strides(num_events: int, *, num_items: int = 20, num_users: int = 60, seed: int = 0) -> list[Event]:
    """Users walk the ring by 1, 2 or 3: who looks at the last item alone is right one time in three.

    Counting what follows what cannot tell the strides apart; a network that reads two items back can.
    """
    return _walk(num_events, num_items, [1 + user % 3 for user in range(num_users)], seed)


def _walk(num_events: int, num_items: int, stride_of: list[int], seed: int) -> list[Event]:
    rng = random.Random(seed)
    place = [rng.randrange(num_items) for _ in stride_of]
    events = []
    for n in range(num_events):
        user = rng.randrange(len(stride_of))
        place[user] = (place[user] + stride_of[user]) % num_items
        events.append(Event(f"u{user}", f"i{place[user]}", "click", START_MS + 1000 * n))
    return events


def checkerboard(num_events: int, *, num_items: int = 40, num_users: int = 40, seed: int = 0) -> list[Event]:
    """Even users take even items and odd users odd ones, each as likely as the other."""
    rng = random.Random(seed)
    users = [rng.randrange(num_users) for _ in range(num_events)]
    items = [2 * rng.randrange(num_items // 2) + user % 2 for user in users]
    return [
        Event(f"u{user}", f"i{item}", "click", START_MS + 1000 * n)
        for n, (user, item) in enumerate(zip(users, items, strict=True))
    ]


def rich(num_events: int, *, num_items: int = 40, num_users: int = 30, seed: int = 0) -> list[Event]:
    """Nothing to learn, everything to carry: contexts, several types, ties in time, times that jump back and far."""
    rng = random.Random(seed)
    events, time_ms = [], START_MS
    for n in range(num_events):
        time_ms += rng.choice([0, 0, 900, 5_000, -3_000, 40 * 86_400_000 if n % 97 == 96 else 0])
        context: dict[str, str | float] = {"device": rng.choice(["phone", "desk"]), "lat": rng.uniform(50, 51)}
        events.append(
            Event(
                f"u{rng.randrange(num_users)}",
                f"i{min(rng.randrange(num_items), rng.randrange(num_items))}",
                rng.choice(["click", "cart", "impression"]),
                time_ms,
                context=context if rng.random() < 0.7 else {},
            )
        )
    return events


def attributes(num_items: int, *, unavailable: Sequence[int] = ()) -> list[ItemUpdate]:
    """A catalogue entry for each item."""
    items = [
        Item(f"i{n}", categories=[f"c{n % 3}"], price=1.0 + n, tags=[f"t{n % 5}"], available=n not in unavailable)
        for n in range(num_items)
    ]
    return [ItemUpdate(item.item_id, item) for item in items]


def batches(events: Sequence[Event], size: int = BATCH) -> Iterator[Sequence[Event]]:
    """In order, the last one may be shorter."""
    return (events[start : start + size] for start in range(0, len(events), size))


def learn(learner: Learner, events: Sequence[Event], size: int = BATCH) -> Moments:
    """Learn all of it; the moments of the last batch."""
    for batch in batches(events, size):
        moments = learner.enter(batch)
        learner.learn(moments)
    return moments


def learn_and_list(learner: Learner, events: Sequence[Event], size: int = BATCH) -> list[list[str]]:
    """Learn all of it; for each event the list of just before it."""
    lists = []
    for batch in batches(events, size):
        moments = learner.enter(batch)
        lists += learner.rank_entered(moments)
        learner.learn(moments)
    return lists


def first_hits(events: Sequence[Event], lists: Sequence[Sequence[str]]) -> list[bool]:
    """HR@1 of each event."""
    return [event.item_id in ranked[:1] for event, ranked in zip(events, lists, strict=True)]


def differing(left: Any, right: Any, path: str = "") -> list[str]:
    """Dotted names of what is not the same bit for bit in two states; a NaN equals itself."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(left.keys() | right.keys())
        return [name for key in keys for name in differing(left.get(key), right.get(key), f"{path}.{key}")]
    if isinstance(left, torch.Tensor | np.ndarray) and type(left) is type(right):
        same = left.dtype == right.dtype and left.shape == right.shape and _bytes(left) == _bytes(right)
    else:
        same = type(left) is type(right) and left == right
    return [] if same else [path.lstrip(".")]


def _bytes(array: torch.Tensor | np.ndarray[Any, Any]) -> bytes:
    return array.detach().cpu().numpy().tobytes() if isinstance(array, torch.Tensor) else array.tobytes()
