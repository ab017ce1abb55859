"""Where we stand on each owned partition: where to begin, what has been handed out, how far the end is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import RetriableError

from consumers.buffer import Buffer, Partition
from consumers.client import position_of
from stream_rec.config import KafkaSettings
from stream_rec.errors import BrokerError
from stream_rec.records import Position

log = structlog.get_logger("consumers.positions")

SETTLE_TIMEOUT_MS = 5_000


class Positions:
    """The positions of one group member. ``settle`` and ``advanced`` belong to the polling thread."""

    def __init__(self, kafka: KafkaSettings, consumer: KafkaConsumer) -> None:
        self._start = kafka.start
        self._consumer = consumer
        self._restart: dict[TopicPartition, int] = {}
        self._unsettled: set[TopicPartition] = set()
        self._lock = Lock()  # over the three that other threads read
        self._committed: dict[TopicPartition, int | None] = {}
        self._handed_out: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._reported: dict[TopicPartition, int] = {}

    def restart_at(self, positions: Iterable[Position]) -> None:
        self._restart = {TopicPartition(p.topic, p.partition): p.offset for p in positions}

    def owned(self) -> frozenset[Partition]:
        with self._lock:
            return frozenset(tuple(p) for p in (*self._unsettled, *self._handed_out))

    def partitions(self) -> list[TopicPartition]:
        """The partitions whose beginning is decided: those that may be paused and resumed."""
        return list(self._handed_out)

    def committed(self) -> list[Position]:
        with self._lock:
            return [Position(p.topic, p.partition, at) for p, at in self._committed.items() if at is not None]

    def lag(self) -> dict[Partition, int]:
        with self._lock:
            return {tuple(p): max(0, self._ends.get(p, at) - at) for p, at in self._handed_out.items()}

    def forget(self, partition: TopicPartition) -> None:
        """No longer ours, or about to be settled anew."""
        with self._lock:
            self._unsettled.discard(partition)
            self._committed.pop(partition, None)
            self._handed_out.pop(partition, None)
            self._ends.pop(partition, None)
        self._reported.pop(partition, None)

    def expect(self, partitions: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._unsettled |= set(partitions)

    def settle(self) -> list[TopicPartition]:
        """Decide where the newly assigned partitions begin, seek there, return those that may now be resumed.

        1. a position of the snapshot, once; 2. the committed offset; 3. ``kafka.start``. Where no broker answers
        they stay paused, and the next call tries again. BrokerError where the log does not hold the snapshot's
        position; a committed offset that it does not hold is logged and gives way to ``kafka.start``.
        """
        partitions = sorted(self._unsettled)
        if not partitions:
            return []
        try:
            first = self._consumer.beginning_offsets(partitions, timeout_ms=SETTLE_TIMEOUT_MS)
            end = self._consumer.end_offsets(partitions, timeout_ms=SETTLE_TIMEOUT_MS)
            committed = {p: self._consumer.committed(p, timeout_ms=SETTLE_TIMEOUT_MS) for p in partitions}
        except RetriableError as error:
            log.warning("cannot ask where to begin", partitions=[p.partition for p in partitions], error=str(error))
            return []
        for partition in partitions:
            at = self._begin(partition, first[partition], end[partition], committed[partition])
            self._consumer.seek(partition, at)
            with self._lock:
                self._unsettled.discard(partition)
                self._committed[partition] = committed[partition]
                self._handed_out[partition] = at
                self._ends[partition] = end[partition]
            # A beginning by kafka.start is reported, so that it is committed: else a worker that is started at
            # `latest` and ends before the first event would begin further on, and lose what came between.
            if committed[partition] is not None:
                self._reported[partition] = at
        return partitions

    def _begin(self, partition: TopicPartition, first: int, end: int, committed: int | None) -> int:
        restart = self._restart.pop(partition, None)
        if restart is not None:
            if not first <= restart <= end:
                raise _not_held(partition, restart, first, end)
            return restart
        by_setting = first if self._start == "earliest" else end
        if committed is None:
            return by_setting
        if not first <= committed <= end:
            log.warning(
                "the log no longer holds the committed offset; beginning by kafka.start",
                topic=partition.topic,
                partition=partition.partition,
                committed=committed,
                log_holds=[first, end],
                begins_at=by_setting,
            )
            return by_setting
        return committed

    def advanced(self, buffer: Buffer) -> list[Position]:
        """The positions that have moved since the last call, in the order of partitions.

        Where records of a partition wait in the buffer the oldest of them is next; else what Kafka's client would
        fetch next, which is behind transaction markers and aborted records too: a position short of a marker at the
        end of a log would show a lag of one for ever.
        """
        moved = []
        for partition in sorted(self._handed_out):
            at = buffer.first_offset(tuple(partition))
            if at is None:
                at = position_of(self._consumer, partition)
            assert at is not None, f"{partition} is settled and has no position"
            with self._lock:
                self._handed_out[partition] = at
            if self._reported.get(partition) != at:
                self._reported[partition] = at
                moved.append(Position(partition.topic, partition.partition, at))
        return moved

    def look_at_ends(self, topic: str, timeout_ms: int) -> bool:
        """Ask for the ends of the owned partitions, of the topic's first one where none is owned; was it answered?"""
        partitions = self.partitions() or [TopicPartition(topic, 0)]
        try:
            ends = self._consumer.end_offsets(partitions, timeout_ms=timeout_ms)
        except RetriableError:
            return False
        with self._lock:
            self._ends.update((p, end) for p, end in ends.items() if p in self._handed_out)
        return True


def not_held(consumer: KafkaConsumer, positions: Mapping[TopicPartition, int]) -> BrokerError:
    """The error for positions that the log turned out not to hold while it was read."""
    partition, at = min(positions.items())
    first = consumer.beginning_offsets([partition], timeout_ms=SETTLE_TIMEOUT_MS)[partition]
    end = consumer.end_offsets([partition], timeout_ms=SETTLE_TIMEOUT_MS)[partition]
    return _not_held(partition, at, first, end)


def _not_held(partition: TopicPartition, at: int, first: int, end: int) -> BrokerError:
    return BrokerError(
        f"Topic {partition.topic}, partition {partition.partition}: the position {at} is not in the log, which holds "
        f"offsets {first} to {end}. What lay between cannot be read any more. Two ways out: move the folder of "
        f'snapshots away and set kafka.start = "latest" to go on with what comes next, or move it away and keep '
        f'kafka.start = "earliest" to start empty and learn from all that the log still holds.'
    )
