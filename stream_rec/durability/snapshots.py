"""Snapshots: one directory each, whole or not there at all, read without executing anything.

``<directory>/<worker>/snapshot-<batch>/`` holds ``tensors.safetensors``, ``values.json``, ``manifest.json`` with the
format version and the positions that the state reflects, and ``SHA256SUMS`` over these (``sha256sum -c`` reads it).
It is written under another name, synced, and renamed into place; what is left of an interrupted attempt is never
taken for one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stream_rec import __version__
from stream_rec.config import Settings
from stream_rec.errors import SnapshotError
from stream_rec.records import Position
from stream_rec.telemetry.logging import get_logger

FORMAT_VERSION = 1
TENSORS, VALUES, MANIFEST, CHECKSUMS = "tensors.safetensors", "values.json", "manifest.json", "SHA256SUMS"
PREFIX, UNFINISHED = "snapshot-", "unfinished-"

log = get_logger(__name__)


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot is."""

    format_version: int
    stream_rec_version: str
    batch: int
    positions: list[Position]
    shaping_settings: dict[str, Any]  # those that the state cannot be read without


@dataclass(frozen=True)
class Snapshot:
    """One that has been read and verified."""

    path: Path
    batch: int
    positions: list[Position]
    state: dict[str, Any]


def shaping_settings(settings: Settings) -> dict[str, Any]:
    """Dotted settings that decide shapes and meaning of what is stored."""
    state = settings.state.model_dump(mode="json")
    free = ("max_seen_per_user", "max_seen_entries", "admit_user_after", "admit_item_after")
    shaping = {f"state.{key}": value for key, value in state.items() if key not in free}
    shaping |= {f"model.{key}": value for key, value in settings.model.model_dump(mode="json").items()}
    learning, ranking = settings.learning, settings.ranking
    shaping |= {
        f"learning.{key}": getattr(learning, key) for key in ("order_shown", "replay_events", "exam_candidates")
    }
    return shaping | {f"ranking.{key}": getattr(ranking, key) for key in ("exclude_seen", "history_attention")}


class SnapshotStore:
    """The snapshots of one worker. Raises SnapshotError for what the disk or a damaged file does to it."""

    def __init__(self, settings: Settings) -> None:
        self.directory = settings.snapshot.directory / settings.worker.name
        self._keep = settings.snapshot.keep
        self._shaping = shaping_settings(settings)

    def write(self, batch: int, positions: Iterable[Position], state: dict[str, Any]) -> tuple[Path, int]:
        """Write one and return its path and size in bytes.

        Effects: 1. the files are written and synced under another name; 2. the directory is renamed into place;
        3. all but the newest ``keep`` are removed. A failure before 2 leaves earlier snapshots as they were, and what
        an interrupted attempt has left is removed by the next.
        """
        target = self.directory / f"{PREFIX}{batch:012d}"
        unfinished = self.directory / f"{UNFINISHED}{batch:012d}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left_over in self.directory.glob(f"{UNFINISHED}*"):
                shutil.rmtree(left_over, ignore_errors=True)
            unfinished.mkdir()
            tensors: dict[str, torch.Tensor] = {}
            values = _split(state, (), tensors)
            save_file(tensors, unfinished / TENSORS)
            (unfinished / VALUES).write_bytes(msgspec.json.encode(values))
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                stream_rec_version=__version__,
                batch=batch,
                positions=sorted(positions),
                shaping_settings=self._shaping,
            )
            (unfinished / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
            (unfinished / CHECKSUMS).write_text("".join(_checksums(unfinished)), encoding="utf-8")
            size_bytes = sum(file.stat().st_size for file in unfinished.iterdir())
            for name in (TENSORS, VALUES, MANIFEST, CHECKSUMS):
                _sync(unfinished / name)
            _sync(unfinished)
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
            _sync(self.directory)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise SnapshotError(f"snapshot {target} cannot be written: {error}") from error
        # One with a later number was passed over at the start as damaged: it must not count in place of a good one.
        for old in [path for path in self._paths() if path.name <= target.name][self._keep :]:
            shutil.rmtree(old, ignore_errors=True)
        return target, size_bytes

    def newest(self) -> Snapshot | None:
        """The newest snapshot that verifies, or None where there is none at all.

        A damaged one is reported and the one before it taken. Raises SnapshotError where all are damaged, or where
        the newest whole one was made with settings that give the state another shape.
        """
        damaged: list[str] = []
        for path in self._paths():
            try:
                snapshot, shaping = _read(path)
            except (OSError, ValueError, KeyError, SafetensorError, msgspec.MsgspecError) as error:
                log.warning("snapshot is damaged, trying the one before it", path=str(path), error=str(error))
                damaged.append(f"{path}: {error}")
                continue
            self._check_shape(path, shaping)
            return snapshot
        if damaged:
            raise SnapshotError("no snapshot verifies; to start empty, move the folder away: " + "; ".join(damaged))
        return None

    def _check_shape(self, path: Path, shaping: dict[str, Any]) -> None:
        names = sorted(shaping.keys() | self._shaping.keys())
        changed = [
            f"{name} was {shaping.get(name)!r} and is {self._shaping.get(name)!r}"
            for name in names
            if shaping.get(name) != self._shaping.get(name)
        ]
        if changed:
            raise SnapshotError(
                f"{path} was made with other settings: {'; '.join(changed)}. "
                "Set them back, or move the folder away to start empty"
            )

    def _paths(self) -> list[Path]:
        """Newest first."""
        if not self.directory.is_dir():
            return []
        return sorted(self.directory.glob(f"{PREFIX}*"), reverse=True)


def _read(path: Path) -> tuple[Snapshot, dict[str, Any]]:
    stored, found = (path / CHECKSUMS).read_text(encoding="utf-8"), _checksums(path)
    if stored != "".join(found):
        wrong = [line.split()[1] for line in found if line not in stored.splitlines(keepends=True)]
        raise ValueError(f"{', '.join(wrong) or CHECKSUMS} does not match its SHA-256")
    manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    if manifest.format_version != FORMAT_VERSION:
        raise ValueError(f"format version {manifest.format_version}, this release reads {FORMAT_VERSION}")
    tensors = load_file(path / TENSORS)
    state = _join(msgspec.json.decode((path / VALUES).read_bytes()), tensors)
    return Snapshot(path, manifest.batch, manifest.positions, state), manifest.shaping_settings


def _split(value: Any, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    """Copy of a tree of dicts in which tensors and arrays are replaced by their names in ``tensors``."""
    if isinstance(value, dict):
        return {key: _split(item, (*path, key), tensors) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        name = ".".join(path)
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        tensors[name] = tensor.cpu().contiguous()
        return {"$array" if isinstance(value, np.ndarray) else "$tensor": name}
    return value


def _join(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Inverse of ``_split``."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$tensor"}:
        return tensors[value["$tensor"]]
    if value.keys() == {"$array"}:
        return tensors[value["$array"]].numpy()
    return {key: _join(item, tensors) for key, item in value.items()}


def _checksums(path: Path) -> list[str]:
    """The lines of ``SHA256SUMS`` for the files as they are."""
    lines = []
    for name in (TENSORS, VALUES, MANIFEST):
        with (path / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return lines


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
