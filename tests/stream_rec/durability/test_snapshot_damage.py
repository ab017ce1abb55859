"""Damaged snapshots and failing disks: the one before is taken, and nothing good is lost."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from stream_rec.durability import snapshots
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.errors import SnapshotError
from tests.stream_rec.durability.snapshot_states import FILES, POSITIONS, names, newest, settings_in, some_state
from tests.stream_rec.tiny_worlds import differing


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    file.write_bytes(content)


# -- damage --------------------------------------------------------------------------------------------------------


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def flip_in_the_middle(file: Path) -> None:
    flip(file, file.stat().st_size * 4)


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [truncate, empty, lengthen, flip_in_the_middle, os.remove, to_folder])
def test_of_a_damaged_one_the_one_before_is_taken_and_the_damage_reported(
    store: SnapshotStore, name: str, damage: Callable[[Path], None]
) -> None:
    store.write(1, POSITIONS[:1], some_state(1))
    path, _ = store.write(2, POSITIONS, some_state(2))
    damage(path / name)
    with capture_logs() as logs:
        snapshot = newest(store)
    assert (snapshot.batch, snapshot.positions) == (1, POSITIONS[:1])
    assert differing(snapshot.state, some_state(1)) == []
    assert [(line["log_level"], line["path"]) for line in logs] == [("warning", str(path))]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), bit=st.integers(0, 100_000))
def test_no_flipped_bit_gets_by(tmp_path: Path, name: str, bit: int) -> None:
    shutil.rmtree(tmp_path / "worker-1", ignore_errors=True)
    store = SnapshotStore(settings_in(tmp_path))
    store.write(1, POSITIONS, some_state(1))
    path, _ = store.write(2, POSITIONS, some_state(2))
    flip(path / name, bit)
    assert newest(store).batch == 1


def test_where_all_are_damaged_the_start_is_refused_and_each_is_named(store: SnapshotStore) -> None:
    """Starting empty in silence would publish lists of a model that knows nothing."""
    paths = [store.write(batch, POSITIONS, some_state())[0] for batch in (1, 2)]
    for path in paths:
        flip_in_the_middle(path / "tensors.safetensors")
    with pytest.raises(SnapshotError, match=r"no snapshot verifies.*move the folder away") as caught:
        store.newest()
    assert all(str(path) in str(caught.value) for path in paths)
    assert "tensors.safetensors does not match its SHA-256" in str(caught.value)


def test_a_damaged_newer_one_pushes_out_no_good_one(tmp_path: Path) -> None:
    """The batch that the worker resumes from is before the damaged one, so what it writes next sorts behind it."""
    store = SnapshotStore(settings_in(tmp_path, keep=1))
    store.write(10, POSITIONS, some_state(10))
    truncate(newest(store).path / "values.json")
    store.write(7, POSITIONS, some_state(7))
    assert newest(store).batch == 7
    store.write(8, POSITIONS, some_state(8))
    assert newest(store).batch == 8
    store.write(11, POSITIONS, some_state(11))
    assert names(store) == ["snapshot-000000000011"]


def test_unfinished_attempts_are_never_taken_and_the_next_one_clears_them_away(store: SnapshotStore) -> None:
    path, _ = store.write(1, POSITIONS, some_state(1))
    for batch in (2, 3):
        shutil.copytree(path, store.directory / f"unfinished-{batch:012d}")
    (store.directory / "unfinished-000000000003" / "manifest.json").unlink()
    assert newest(store).batch == 1
    store.write(4, POSITIONS, some_state(4))
    assert names(store) == ["snapshot-000000000001", "snapshot-000000000004"]


def test_other_things_in_the_folder_are_left_alone(store: SnapshotStore) -> None:
    store.write(1, POSITIONS, some_state(1))
    (store.directory / "notes.txt").write_text("mine", encoding="utf-8")
    (store.directory / "snapshot-stray-file").write_text("no folder", encoding="utf-8")
    assert newest(store).batch == 1
    store.write(2, POSITIONS, some_state(2))
    assert newest(store).batch == 2
    assert (store.directory / "notes.txt").read_text(encoding="utf-8") == "mine"


# -- the disk ------------------------------------------------------------------------------------------------------


@contextmanager
def disk_that_takes(num_bytes: int) -> Iterator[None]:
    """Every file ends at so many bytes: the system refuses the write, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("num_bytes", "state"),
    [
        (1_000, {"large": torch.zeros(100_000)}),
        (10_000, {"large": "x" * 20_000}),
        (10, {}),
    ],
    ids=["tensors", "values", "the very first"],
)
def test_a_full_disk_is_a_snapshot_error_and_what_was_there_stays(
    store: SnapshotStore, num_bytes: int, state: dict[str, Any]
) -> None:
    store.write(1, POSITIONS, some_state(1))
    with disk_that_takes(num_bytes), pytest.raises(SnapshotError, match=r"snapshot .*000000000002 cannot be written"):
        store.write(2, POSITIONS, state)
    assert names(store) == ["snapshot-000000000001"]
    assert differing(newest(store).state, some_state(1)) == []
    store.write(2, POSITIONS, some_state(2))
    assert newest(store).batch == 2


def test_a_folder_that_cannot_be_made_is_a_snapshot_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = SnapshotStore(settings_in(tmp_path / "file"))
    assert store.newest() is None
    with pytest.raises(SnapshotError, match="cannot be written"):
        store.write(1, POSITIONS, some_state())


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failure_at_the_last_moment_leaves_the_one_before(
    store: SnapshotStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(1, POSITIONS, some_state(1))

    def fail(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(SnapshotError, match="Input/output error"):
        store.write(2, POSITIONS, some_state(2))
    monkeypatch.undo()
    assert names(store) == ["snapshot-000000000001"]
    assert newest(store).batch == 1


def test_everything_is_on_disk_before_the_name_is(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could leave the final name over half a file; the checksum would find it, too late."""
    effects: list[str] = []
    sync, rename = snapshots._sync, Path.rename

    def record_sync(path: Path) -> None:
        effects.append(path.name)
        sync(path)

    def record_rename(path: Path, target: Path) -> Path:
        effects.append("rename")
        return rename(path, target)

    monkeypatch.setattr(snapshots, "_sync", record_sync)
    monkeypatch.setattr(Path, "rename", record_rename)
    store.write(1, POSITIONS, some_state())
    assert effects == [*FILES, "unfinished-000000000001", "rename", "worker-1"]
