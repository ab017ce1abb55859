"""A store in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_rec.durability.snapshots import SnapshotStore
from tests.stream_rec.durability.snapshot_states import settings_in


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(settings_in(tmp_path))
