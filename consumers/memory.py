"""An in-process log that keeps Kafka's promises: keyed partitions, offsets, committed positions, a compacted topic.

It holds encoded bytes, so that whatever runs on it goes through the same decoder as on a broker. Threads may append
while another polls. It has a bound: a full partition makes its writer wait (backpressure) until the positions of the
reader and of its commits have moved on; only records before both are ever overwritten.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from threading import Condition

from msgspec import Struct

from consumers.decode import Decoder
from stream_rec.config import DecodeSettings
from stream_rec.errors import BrokerError
from stream_rec.records import Event, ItemUpdate, Origin, Polled, Position, Received

EVENTS = "events"
ITEMS = "items"
_ITEMS_PARTITION = 0


class LogRecord(Struct, frozen=True):
    """One record as a broker would hold it; ``sequence`` counts the appends to all partitions of ``events``."""

    partition: int
    offset: int
    sequence: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


class _Ring:
    """The newest ``capacity`` records of one partition; offset o lies at o modulo capacity."""

    def __init__(self, capacity: int) -> None:
        self._records: list[LogRecord | None] = [None] * capacity
        self.first = 0
        self.next = 0
        self.committed = 0
        self.committed_once = False
        self.reading: int | None = None  # where the attached reader stands

    def makes_room(self) -> bool:
        """Whether one more record fits, by letting go of the oldest if it has been read and committed."""
        if self.next - self.first < len(self._records):
            return True
        if self.first >= self.committed or (self.reading is not None and self.first >= self.reading):
            return False
        self.first += 1
        return True

    def append(self, record: LogRecord) -> None:
        self._records[self.next % len(self._records)] = record
        self.next += 1

    def slice(self, start: int, max_records: int) -> list[LogRecord]:
        assert start >= self.first
        stop = min(self.next, start + max_records)
        found = (self._records[offset % len(self._records)] for offset in range(start, stop))
        return [record for record in found if record is not None]


class MemoryLog:
    """Topics ``events`` (``num_partitions``) and ``items`` (one partition, compacted), in memory, thread-safe.

    ``capacity`` is the number of records kept in each partition of ``events``. Of ``items`` only the newest record of
    a key stays, and beyond ``max_items`` keys the ones longest unchanged go.
    """

    def __init__(self, num_partitions: int = 1, capacity: int = 100_000, max_items: int = 200_000) -> None:
        if min(num_partitions, capacity, max_items) < 1:
            raise ValueError(
                f"num_partitions is {num_partitions}, capacity {capacity} and max_items {max_items}; "
                "all must be at least 1"
            )
        self.num_partitions = num_partitions
        self._capacity = capacity
        self._max_items = max_items
        self._changed = Condition()
        self._rings = [_Ring(capacity) for _ in range(num_partitions)]
        self._items: OrderedDict[bytes, LogRecord] = OrderedDict()  # in order of offset
        self._next_item = 0
        self._sequence = 0
        self._is_closed = False

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        headers: Iterable[tuple[str, bytes]] = (),
        *,
        timeout_s: float | None = None,
    ) -> Position:
        """Append one record and return where it lies (as position, so its own offset).

        The partition of an event is crc32(key) modulo their number; without a key they take turns. Where the
        partition is full this waits at most ``timeout_s`` (None: for ever) for the reader. Raises BrokerError when
        it is still full then, when the log is or gets closed, for an unknown topic, and for an item without key.
        """
        if topic not in (EVENTS, ITEMS):
            raise BrokerError(f"topic {topic!r} does not exist; the log has {EVENTS!r} and {ITEMS!r}")
        with self._changed:
            if topic == ITEMS:
                return self._append_item(key, value, timestamp_ms, list(headers))
            partition = (self._sequence if key is None else zlib.crc32(key)) % self.num_partitions
            ring = self._rings[partition]
            self._changed.wait_for(lambda: self._is_closed or ring.makes_room(), timeout_s)
            self._refuse_if_closed()
            if not ring.makes_room():
                raise BrokerError(f"{EVENTS}[{partition}] is full: {self._capacity} records wait to be committed")
            record = LogRecord(partition, ring.next, self._sequence, key, value, list(headers), timestamp_ms)
            ring.append(record)
            self._sequence += 1
            self._changed.notify_all()
            return Position(EVENTS, partition, record.offset)

    def close(self) -> None:
        """No more records: what is there can still be read, then the log has ended. Idempotent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def commit(self, positions: Iterable[Position]) -> None:
        """Commit positions of ``events``, all or none. Raises BrokerError for one that the log does not have."""
        with self._changed:
            positions = list(positions)
            for position in positions:
                if position.topic != EVENTS or not 0 <= position.partition < self.num_partitions:
                    raise BrokerError(f"{position.topic}[{position.partition}] does not exist")
                if not 0 <= position.offset <= self._rings[position.partition].next:
                    end = self._rings[position.partition].next
                    raise BrokerError(
                        f"{EVENTS}[{position.partition}]: no position {position.offset}, the end is {end}"
                    )
            for position in positions:
                ring = self._rings[position.partition]
                ring.committed, ring.committed_once = position.offset, True
            self._changed.notify_all()

    def committed(self) -> list[Position]:
        """The committed positions, of the partitions that have one."""
        with self._changed:
            rings = enumerate(self._rings)
            return [Position(EVENTS, partition, ring.committed) for partition, ring in rings if ring.committed_once]

    def bounds(self) -> list[tuple[int, int]]:
        """Of each partition of ``events`` the first offset held and the next to be written."""
        with self._changed:
            return [(ring.first, ring.next) for ring in self._rings]

    def reading(self, positions: Sequence[int] | None) -> None:
        """The reader stands here, by partition: from there on nothing is let go of. None: it has gone.

        Raises BrokerError, and changes nothing, where the log does not hold a position.
        """
        with self._changed:
            for partition, position in enumerate(positions or ()):
                ring = self._rings[partition]
                if not ring.first <= position <= ring.next:
                    raise BrokerError(
                        f"{EVENTS}[{partition}]: no position {position}, the log holds {ring.first} to {ring.next}"
                    )
            for partition, ring in enumerate(self._rings):
                ring.reading = None if positions is None else positions[partition]
            self._changed.notify_all()

    def read(self, positions: Sequence[int], max_records: int) -> list[LogRecord]:
        """At most ``max_records`` events from these offsets on, by partition, in the order they were appended."""
        with self._changed:
            waiting = [
                record
                for ring, start in zip(self._rings, positions, strict=True)
                for record in ring.slice(start, max_records)
            ]
        waiting.sort(key=lambda record: record.sequence)
        return waiting[:max_records]

    def read_items(self, start: int) -> list[LogRecord]:
        """The newest record of every key that changed at ``start`` or later, oldest first."""
        with self._changed:
            return list(takewhile(lambda record: record.offset >= start, reversed(self._items.values())))[::-1]

    def wait(self, positions: Sequence[int], item_start: int, timeout_s: float) -> bool:
        """Wait until there is something to read from here on or the end; False where the log has ended here."""
        with self._changed:

            def is_there_more() -> bool:
                return self._next_item > item_start or any(
                    ring.next > position for ring, position in zip(self._rings, positions, strict=True)
                )

            self._changed.wait_for(lambda: self._is_closed or is_there_more(), timeout_s)
            return is_there_more() or not self._is_closed

    def _append_item(
        self, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: list[tuple[str, bytes]]
    ) -> Position:
        self._refuse_if_closed()
        if key is None:
            raise BrokerError(f"{ITEMS} is compacted: a record needs a key")
        record = LogRecord(_ITEMS_PARTITION, self._next_item, -1, key, value, headers, timestamp_ms)
        self._items.pop(key, None)
        self._items[key] = record
        if len(self._items) > self._max_items:
            self._items.popitem(last=False)
        self._next_item += 1
        self._changed.notify_all()
        return Position(ITEMS, _ITEMS_PARTITION, record.offset)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise BrokerError("the log is closed: nothing can be appended")


class MemorySource:
    """A source (``stream_rec.ports.Source``) on a ``MemoryLog``; it owns all partitions. One at a time per log.

    Events of all partitions come in the order of their appends, so a poll depends on positions and log alone. The
    catalogue is read from its beginning, before the events and without limit; its positions are not reported.
    """

    num_rebalances = 0  # there is nobody to share the partitions with

    def __init__(self, log: MemoryLog, settings: DecodeSettings | None = None) -> None:
        self._log = log
        self._decoder = Decoder(settings or DecodeSettings())
        self._committed = log.committed()
        self._positions = [first for first, _ in log.bounds()]
        for position in self._committed:
            self._positions[position.partition] = position.offset
        self._next_item = 0
        self._is_closed = False
        log.reading(self._positions)

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """At most ``max_records`` events and rejected records, waiting at most ``timeout_s`` for the first.

        The end is told with the last records of a closed log, not after them.
        """
        polled = Polled()
        if self._is_closed or not self._log.wait(self._positions, self._next_item, timeout_s):
            polled.ended = True
            return polled
        self._take_items(polled, max_records)
        taken = self._log.read(self._positions, max_records - len(polled.rejected))
        for record in taken:
            origin = Origin(EVENTS, record.partition, record.offset)
            event = self._decoder.event(record.key, record.value, record.headers, origin, record.timestamp_ms)
            if isinstance(event, Event):
                polled.received.append(Received(event, origin))
            else:
                polled.rejected.append(event)
            self._positions[record.partition] = record.offset + 1
        touched = sorted({record.partition for record in taken})
        polled.next_positions = [Position(EVENTS, partition, self._positions[partition]) for partition in touched]
        self._log.reading(self._positions)
        polled.ended = not self._log.wait(self._positions, self._next_item, 0.0)
        return polled

    def assignment(self) -> frozenset[tuple[str, int]]:
        """All partitions of ``events``."""
        return frozenset((EVENTS, partition) for partition in range(self._log.num_partitions))

    def restart_at(self, positions: Iterable[Position]) -> None:
        """Begin at these positions instead of the committed ones.

        Raises BrokerError where the log no longer holds a position or does not reach it yet.
        """
        wanted = list(self._positions)
        for position in positions:
            if (position.topic, position.partition) in self.assignment():
                wanted[position.partition] = position.offset
        self._log.reading(wanted)
        self._positions = wanted

    def committed(self) -> Sequence[Position]:
        """The committed positions as they were when this source was made."""
        return self._committed

    def lag(self) -> dict[tuple[str, int], int]:
        """Records between position and end of each partition."""
        bounds = self._log.bounds()
        return {
            (EVENTS, p): end - position
            for p, ((_, end), position) in enumerate(zip(bounds, self._positions, strict=True))
        }

    def connected(self) -> bool:
        """Always: the log of this process cannot go away."""
        return True

    def close(self) -> None:
        """Let go of the log, which stays as it is for the next source. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._log.reading(None)

    def _take_items(self, polled: Polled, max_rejected: int) -> None:
        for record in self._log.read_items(self._next_item):
            if len(polled.rejected) == max_rejected:
                return
            origin = Origin(ITEMS, record.partition, record.offset)
            update = self._decoder.item(record.key, record.value, record.headers, origin, record.timestamp_ms)
            if isinstance(update, ItemUpdate):
                polled.item_updates.append(update)
            else:
                polled.rejected.append(update)
            self._next_item = record.offset + 1
