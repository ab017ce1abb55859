"""What the tests of the state share: tiny settings, short ways to write events, and equality of whole state trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from stream_rec.config import LearningSettings, RankingSettings, Settings, StateSettings
from stream_rec.records import Event

CPU = torch.device("cpu")
START_S = 1_600_000_000  # a Sunday, 12:26:40 UTC


def event(user: str, item: str, at_s: float = 0.0, type_: str = "view", **context: str | float) -> Event:
    """An event ``at_s`` seconds after START_S."""
    return Event(user, item, type_, round((START_S + at_s) * 1000), context=context)


def tiny(*, exclude_seen: bool = True, unseen_items: bool = True, **state: Any) -> Settings:
    """Settings whose every bound is small; ``state`` overrides."""
    bounds: dict[str, Any] = {
        "max_users": 8,
        "max_items": 8,
        "history_length": 3,
        "max_seen_per_user": 5,
        "max_seen_entries": 64,
        "max_neighbours": 3,
        "max_item_features": 4,
        "num_feature_buckets": 64,
        "num_context_slots": 2,
        "num_context_buckets": 64,
        "popularity_half_lives_s": [300.0, 86_400.0],
        "transition_half_lives_s": [3_600.0, 86_400.0],
    }
    return Settings(
        state=StateSettings(**(bounds | state)),
        learning=LearningSettings(event_weights={"impression": 0.0, "purchase": 2.5}),
        ranking=RankingSettings(list_length=3, exclude_seen=exclude_seen, unseen_items=unseen_items),
    )


def differences(one: Any, other: Any, path: str = "state") -> Iterator[str]:
    """Where two trees of dicts, lists, tensors, arrays and plain values differ, bit for bit, types included."""
    if type(one) is not type(other):
        yield f"{path}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{path}: keys {list(one)} and {list(other)}"
        else:
            for key in one:
                yield from differences(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield f"{path}: {len(one)} and {len(other)} entries"
        else:
            for index, (left, right) in enumerate(zip(one, other, strict=True)):
                yield from differences(left, right, f"{path}[{index}]")
    elif isinstance(one, torch.Tensor | np.ndarray):
        left, right = np.asarray(one), np.asarray(other)
        if left.dtype != right.dtype or left.shape != right.shape or left.tobytes() != right.tobytes():
            yield f"{path}: {left} and {right}"
    elif one != other:
        yield f"{path}: {one!r} and {other!r}"


def frozen(tree: Any) -> Any:
    """A copy of a state tree that later changes cannot reach."""
    if isinstance(tree, dict):
        return {key: frozen(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [frozen(value) for value in tree]
    if isinstance(tree, torch.Tensor):
        return tree.clone()
    return tree.copy() if isinstance(tree, np.ndarray) else tree
