"""``replay --out lists.jsonl``: what would have been shown before each event, one JSON line an event, in log order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from stream_rec.errors import SettingsError, StreamRecError
from stream_rec.records import Event

_BUFFER_BYTES = 1 << 20


class ListsFile:
    """Writes lines ``{"user_id", "item_id", "type", "timestamp", "items": [item ids, best first]}``.

    Lines go to ``<name>.partial`` beside the file and are renamed into place by ``close``, so that a partial file
    is never taken for a whole one. Used in a ``with``, an exception leaves the ``.partial`` and no file.

    Raises SettingsError where the file cannot be created there.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(self._path.name + ".partial")
        self._encoder = msgspec.json.Encoder()
        self.num_written = 0
        if self._path.is_dir():
            raise SettingsError(f"--out {self._path}: is a folder, expected the name of a file")
        try:
            self._file: BinaryIO | None = self._partial.open("wb", _BUFFER_BYTES)
        except OSError as error:
            raise SettingsError(f"--out {self._path}: cannot be written: {error.strerror}") from error

    def write(self, events: Sequence[Event], lists: Sequence[Sequence[str]]) -> None:
        """Append one line for each event with its list (item ids, best first), which may be empty.

        Raises StreamRecError where the disk refuses; the file can then no longer be completed.
        """
        assert self._file is not None, "written after close"
        lines = [
            {
                "user_id": event.user_id,
                "item_id": event.item_id,
                "type": event.type,
                "timestamp": event.timestamp_ms,
                "items": items,
            }
            for event, items in zip(events, lists, strict=True)
        ]
        try:
            self._file.write(self._encoder.encode_lines(lines))
        except OSError as error:
            self.discard()
            raise StreamRecError(f"{self._partial}: cannot be written: {error.strerror}") from error
        self.num_written += len(lines)

    def close(self) -> None:
        """Complete the file: 1. flush to disk, 2. rename into place, 3. make the rename durable. Idempotent."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.discard()
            os.replace(self._partial, self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            self.discard()
            raise StreamRecError(f"{self._path}: cannot be completed: {error.strerror}") from error

    def discard(self) -> None:
        """Stop writing and leave what there is as ``.partial``. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            # A full disk refuses the buffer once more; what is discarded need not be whole.
            with suppress(OSError):
                file.close()

    def __enter__(self) -> ListsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
