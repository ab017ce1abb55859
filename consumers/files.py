"""Recorded logs and catalogues: files to events and items, in file order, bad rows as rejections.

A log is Parquet (extra ``files``), CSV or TSV, JSON lines, or MovieLens' ``ratings.csv`` and ``u.data``; text also
as ``.gz``. Columns are those of the wire (``user_id item_id type timestamp value event_id session_id``), or
recognised (``event``, ``event_type``; ``ts_ms``, ``ts``; MovieLens' names), or named by a mapping; ``impressions`` and
``prices`` are lists, or text with ``|`` between. Without a column
of types every event is a ``view``, and a ``rating`` where the value comes from a column of that name. All other
columns become context. JSON lines that hold the four required wire fields are decoded exactly as from Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from consumers import file_columns
from consumers.decode import Decoder, Fault
from consumers.file_columns import ITEM_COLUMNS, resolve_columns
from consumers.file_formats import JsonLinesTable, open_table
from consumers.file_rows import EventReader, WireReader, is_wire_format, items_of, rejected_row
from stream_rec.config import DecodeSettings
from stream_rec.errors import InputFileError
from stream_rec.records import Event, Item, ItemUpdate, Origin, Polled, Position, Received, Rejected

Rows = list[Event | Rejected]
_Record = tuple[tuple[str, int], int, Event | Rejected]  # (topic, partition), row, record


class FileLog:
    """One recorded log. ``name`` is the topic of its records, ``partition`` the partition, a row number the offset.

    ``num_rows`` is exact for Parquet; for text it counts lines, so it is at least the number of rows.
    """

    def __init__(self, path: Path, num_rows: int, partition: int, read: Callable[[int], Iterator[Rows]]) -> None:
        self.path = path
        self.name = path.name
        self.num_rows = num_rows
        self.partition = partition
        self._read = read

    def chunks(self, first_row: int = 0) -> Iterator[tuple[int, Rows]]:
        """Consecutive rows from ``first_row`` on with the number of the first; each call reads the file anew.

        A row that cannot be used is a ``Rejected`` in its place. Raises InputFileError where the file is corrupt.
        """
        for rows in self._read(first_row):
            yield first_row, rows
            first_row += len(rows)


def open_log(
    path: Path | str,
    mapping: Mapping[str, str] | None = None,
    settings: DecodeSettings | None = None,
    partition: int = 0,
) -> FileLog:
    """Open a recorded log; ``mapping`` is field → column of the file.

    Raises InputFileError where the file cannot be read or a column is missing, SettingsError for an unknown field.
    """
    path = Path(path)
    settings = settings or DecodeSettings()
    table = open_table(path)
    if isinstance(table, JsonLinesTable) and not mapping and is_wire_format(table):
        wire = WireReader(path.name, partition, table, Decoder(settings))
        return FileLog(path, table.num_rows, partition, wire.read)
    return FileLog(path, table.num_rows, partition, EventReader(path, partition, table, mapping or {}, settings).read)


def open_logs(
    paths: Iterable[Path | str], mapping: Mapping[str, str] | None = None, settings: DecodeSettings | None = None
) -> list[FileLog]:
    """Open several logs to be read one after the other; the partition of each is its place among them."""
    return [open_log(path, mapping, settings, partition) for partition, path in enumerate(paths)]


def read_items(
    path: Path | str,
    mapping: Mapping[str, str] | None = None,
    settings: DecodeSettings | None = None,
    on_rejected: Callable[[Rejected], None] | None = None,
) -> Iterator[Item]:
    """The items of a catalogue file: every column that is no field of an item becomes an attribute.

    ``categories`` and ``tags`` are lists or text with ``|`` between. A row that cannot be used goes to
    ``on_rejected``; without it the first such row raises InputFileError. The file is opened and its columns are
    checked at once, not at the first item. Raises as ``open_log``.
    """
    path = Path(path)
    table = open_table(path)
    found = resolve_columns(path, table.columns, ITEM_COLUMNS, ("item_id",), mapping or {})
    decoder = Decoder(settings or DecodeSettings())

    def items() -> Iterator[Item]:
        first_row = 0
        names = [name for name in table.columns if name not in found.values()]
        numeric: frozenset[str] | None = frozenset() if table.typed else None
        for batch in table.batches():
            if numeric is None:
                numeric = file_columns.numeric_text({name: batch.columns[name] for name in names})
            faults: dict[int, Fault] = {index: (row.reason, row.detail) for index, row in batch.broken.items()}
            for index, item in enumerate(items_of(batch, found, names, numeric, faults)):
                fault = faults.get(index) or decoder.id_fault("item_id", item.item_id)
                if fault is None:
                    yield item
                    continue
                if on_rejected is None:
                    raise InputFileError(f"{path}: row {first_row + index + 1}: {fault[0]}: {fault[1]}")
                on_rejected(rejected_row(batch, index, fault, Origin(path.name, 0, first_row + index)))
            first_row += batch.num_rows

    return items()


class FileSource:
    """A source (``stream_rec.ports.Source``) that reads logs one after the other, then has ended.

    Without ``speed`` every poll but the last brings exactly ``max_records`` rows and never waits. With it, a poll
    brings what is due: recorded time passes ``speed`` times as fast as ``monotonic_s``, from the first event read.
    Ends after ``limit`` rows, where that is given.
    All of ``catalogue`` comes with the first poll, also after a restart. Nothing is ever committed to a file.

    Raises ValueError for logs that share name and partition (see ``open_logs``) and for a speed that is not positive.
    """

    num_rebalances = 0  # there is nobody to share the partitions with

    def __init__(
        self,
        logs: Sequence[FileLog],
        catalogue: Iterable[Item] = (),
        *,
        speed: float | None = None,
        limit: int | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ValueError(f"speed is {speed}, allowed are numbers above 0")
        self._logs = list(logs)
        self._next_row = {(log.name, log.partition): 0 for log in self._logs}
        if len(self._next_row) != len(self._logs):
            raise ValueError("two logs have the same name and partition; open them together with open_logs")
        self._catalogue = catalogue
        self._speed = speed
        self._limit = limit
        self._monotonic_s = monotonic_s
        self._sleep_s = sleep_s
        self._start: tuple[float, int] | None = None  # monotonic s and recorded ms of the first event
        self._records: Iterator[_Record] | None = None  # None until the first poll
        self._ahead: _Record | None = None  # one record read ahead tells whether there is an end
        self._finished: set[tuple[str, int]] = set()

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """At most ``max_records`` rows; waits (only with ``speed``) at most ``timeout_s`` for the first to be due."""
        polled = Polled()
        if self._records is None:
            self._records = islice(self._read(), self._limit)
            self._ahead = next(self._records, None)
            polled.item_updates = [ItemUpdate(item.item_id, item) for item in self._catalogue]
        deadline_s = self._monotonic_s() + timeout_s
        touched: dict[tuple[str, int], int] = {}
        while self._ahead is not None and len(polled.received) + len(polled.rejected) < max_records:
            partition, row, record = self._ahead
            if isinstance(record, Rejected):
                polled.rejected.append(record)
            elif self._is_due(record, None if touched else deadline_s):
                polled.received.append(Received(record, Origin(*partition, row)))
            else:
                break
            touched[partition] = row + 1
            self._ahead = next(self._records, None)
        self._next_row.update(touched)
        polled.next_positions = [Position(*partition, row) for partition, row in touched.items()]
        polled.ended = self._ahead is None
        return polled

    def assignment(self) -> frozenset[tuple[str, int]]:
        """All logs."""
        return frozenset(self._next_row)

    def restart_at(self, positions: Iterable[Position]) -> None:
        """Begin each named log at that row; positions of other logs are left alone, as another worker's would be.

        Raises InputFileError for a row beyond the end of the file.
        """
        assert self._records is None, "restart_at is said before the first poll"
        num_rows = {(log.name, log.partition): log.num_rows for log in self._logs}
        for position in positions:
            partition = (position.topic, position.partition)
            if partition not in num_rows:
                continue
            if position.offset > num_rows[partition]:
                raise InputFileError(
                    f"{position.topic}: cannot go on at row {position.offset}, the file has {num_rows[partition]}"
                )
            self._next_row[partition] = position.offset

    def committed(self) -> Sequence[Position]:
        """None: a replay publishes everything it reads."""
        return ()

    def lag(self) -> dict[tuple[str, int], int]:
        """Rows not yet brought, of each log; an upper bound for text until its end is reached."""
        return {
            (log.name, log.partition): 0
            if (log.name, log.partition) in self._finished
            else max(0, log.num_rows - self._next_row[log.name, log.partition])
            for log in self._logs
        }

    def connected(self) -> bool:
        """Always: a file cannot go away."""
        return True

    def close(self) -> None:
        """Forget the open file; a poll after it says that the source has ended. Idempotent."""
        self._records = iter(())
        self._ahead = None

    def _read(self) -> Iterator[_Record]:
        for log in self._logs:
            partition = (log.name, log.partition)
            for first_row, rows in log.chunks(self._next_row[partition]):
                for row, record in enumerate(rows, first_row):
                    yield partition, row, record
            self._finished.add(partition)

    def _is_due(self, event: Event, deadline_s: float | None) -> bool:
        """Whether the event's time has come; with a deadline, sleep until it has or until the deadline."""
        if self._speed is None:
            return True
        now_s = self._monotonic_s()
        if self._start is None:
            self._start = (now_s, event.timestamp_ms)
        start_s, first_ms = self._start
        due_s = start_s + (event.timestamp_ms - first_ms) / 1000 / self._speed
        if deadline_s is not None and due_s > now_s:
            self._sleep_s(max(0.0, min(due_s, deadline_s) - now_s))
            return due_s <= deadline_s
        return due_s <= now_s
