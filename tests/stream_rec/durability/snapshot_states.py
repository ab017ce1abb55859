"""What the tests of snapshots share: settings, a state with every kind of value, and short ways to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_rec.config import Settings
from stream_rec.durability.snapshots import Snapshot, SnapshotStore
from stream_rec.records import Position
from tests.stream_rec.tiny_worlds import small_settings

FILES = ("tensors.safetensors", "values.json", "manifest.json", "SHA256SUMS")
POSITIONS = [Position("events", 0, 17), Position("events", 1, 4)]


def settings_in(folder: Path, *, keep: int = 3, **sections: Any) -> Settings:
    return small_settings(snapshot={"directory": folder, "keep": keep}, **sections)


def some_state(number: int = 0) -> dict[str, Any]:
    """Every kind of value that a state may hold."""
    return {
        "tensors": {
            "float": torch.tensor([1.5, float("nan"), -0.0, float("inf")]) + number,
            "long": torch.arange(number, number + 3),
            "bool": torch.tensor([True, False]),
            "int16": torch.tensor([[1, 2], [3, 4]], dtype=torch.int16).T,  # not contiguous
            "scalar": torch.tensor(7.0),
            "empty": torch.zeros(0, 4),
        },
        "array": np.arange(5, dtype=np.int32) * number,
        "empty": np.zeros(0, dtype=np.int64),
        "number": number,
        "nothing": None,
        "text": "ümlaut \u2028 \x00",
        "list": [["a", 1, 0.1 + 0.2], []],
    }


def newest(store: SnapshotStore) -> Snapshot:
    snapshot = store.newest()
    assert snapshot is not None
    return snapshot


def names(store: SnapshotStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())
