"""The events source: one member of a consumer group that reads ``events``, and beside it the catalogue.

The order of effects in one ``poll``: keep the membership alive, fetch, act on what the group has given or taken,
decode into a bounded buffer, hand out. Offsets are never committed here: they travel with the lists, in the sink's
transaction (KIP-98, KIP-447).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from kafka import ConsumerGroupMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RetriableError,
)

from consumers.assignment import Change, RebalanceNotes, keep_finished_join
from consumers.buffer import Buffer, Entry, Partition, sort_out
from consumers.catalogue import KafkaCatalogue
from consumers.client import CLOSE_TIMEOUT_MS, new_consumer, position_of, unreachable
from consumers.decode import Decoder
from consumers.positions import Positions, not_held
from consumers.records import decode_args, skip_unreadable, unreadable_is_next
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import StreamRecError
from stream_rec.records import Origin, Polled, Position, Rejected

log = structlog.get_logger("consumers.events")

# While nothing has arrived, new assignments and the catalogue are looked at this often.
SLICE_S = 0.1
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_MS = 250


class KafkaEventSource:
    """``stream_rec.ports.Source`` over a consumer group.

    Everything but ``connected``, ``group_metadata``, ``lag``, ``committed`` and ``assignment`` belongs to one
    thread: the one that calls ``poll``. The constructor blocks until a broker has answered; BrokerError otherwise.

    ``num_rebalances`` counts how often partitions were given or taken; it changes inside ``poll`` only.
    """

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, decode: DecodeSettings, worker_name: str) -> None:
        self._kafka = kafka
        self._topic = topics.events.name
        self._decoder = Decoder(decode)
        self._buffer = Buffer()
        self._backpressure = False
        self._connected = True  # a broker has just answered the constructor
        self._probe_at_s = 0.0
        self._closed = False
        self._catalogue = KafkaCatalogue(kafka, topics, decode, worker_name)
        try:
            self._consumer = new_consumer(
                kafka,
                client_id=worker_name,
                group_id=kafka.group_id,
                partition_assignment_strategy=[CooperativeStickyAssignor],
            )
        except StreamRecError:
            self._catalogue.close()
            raise
        self._positions = Positions(kafka, self._consumer)
        self._notes = RebalanceNotes(self._consumer.pause)
        self._consumer.subscribe([self._topic], listener=self._notes)

    @property
    def num_rebalances(self) -> int:
        """How often the group has given us partitions or taken some, the first assignment included."""
        return self._notes.num_rebalances

    def restart_at(self, positions: Iterable[Position]) -> None:
        """The positions that a snapshot reflects; each holds for the first assignment of its partition.

        Whether the log still holds one is known when its partition is assigned, so it is ``poll`` that raises
        BrokerError for one that it does not: a partition that went to another worker is no concern of ours.
        """
        self._positions.restart_at(position for position in positions if position.topic == self._topic)

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """At most ``max_records`` events and rejected records, waiting at most ``timeout_s`` for the first.

        With ``max_records`` 0 it only keeps the membership alive. Until the catalogue has been read to the end that
        it had at the start, only changes of the catalogue are returned. Raises BrokerError where a position is not
        held by the log or the broker refuses; a broker that is only away gives empty answers (see ``connected``).
        """
        assert not self._closed, "poll after close"
        polled = Polled()
        deadline_s = time.monotonic() + timeout_s
        self._probe()
        while True:
            left_s = max(0.0, deadline_s - time.monotonic())
            wait_s = 0.0 if len(self._buffer) or not self._catalogue.caught_up else min(left_s, SLICE_S)
            self._fetch(wait_s)
            self._catalogue.poll(polled, 0.0 if self._catalogue.caught_up else min(left_s, SLICE_S))
            if self._catalogue.caught_up and max_records:
                sort_out(self._buffer.take(max_records), polled.received, polled.rejected)
            if len(polled) or left_s == 0.0:
                break
        self._relieve()
        polled.next_positions = self._positions.advanced(self._buffer)
        return polled

    def assignment(self) -> frozenset[Partition]:
        """The event partitions owned right now; none while the membership is lost."""
        # A member that the group has dropped learns of it on the IO thread; its next poll would only then let go.
        if self._consumer.group_metadata().generation_id < 0:
            return frozenset()
        return self._positions.owned()

    def committed(self) -> Sequence[Position]:
        """The group's committed positions of the owned partitions as they were when these were assigned."""
        return self._positions.committed()

    def lag(self) -> dict[Partition, int]:
        """Records between the position and the end of the log, at most a second old, by owned partition."""
        return self._positions.lag()

    def group_metadata(self) -> ConsumerGroupMetadata:
        """The membership that the sink commits under (KIP-447); ``generation_id`` is -1 while there is none."""
        return self._consumer.group_metadata()

    def connected(self) -> bool:
        """Whether a broker answered when last asked, at most a second before the last ``poll``. Costs nothing."""
        return self._connected

    def close(self) -> None:
        """Leave the group, release sockets and threads. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._catalogue.close()
        # Whoever takes over waits for the session to time out where the broker cannot hear that we leave.
        with suppress(RetriableError):
            patience_ms = CLOSE_TIMEOUT_MS if self._connected else PROBE_TIMEOUT_MS
            self._consumer.close(autocommit=False, timeout_ms=patience_ms)

    def _fetch(self, wait_s: float) -> None:
        room = self._kafka.max_buffered - len(self._buffer)
        fetched: dict[TopicPartition, list[Any]] = {}
        unreadable: Rejected | None = None
        keep_finished_join(self._consumer)
        try:
            try:
                fetched = self._consumer.poll(timeout_ms=int(wait_s * 1000), max_records=max(1, room))
            except CorruptRecordError as error:
                unreadable = skip_unreadable(self._consumer, error)
        except NoOffsetForPartitionError:
            pass  # assigned and never committed: settled below, by kafka.start
        except OffsetOutOfRangeError as error:
            raise not_held(self._consumer, error.args[0]) from error
        except LogTruncationError as error:
            diverged = {partition: position_of(self._consumer, partition) or 0 for partition in error.divergent_offsets}
            raise not_held(self._consumer, diverged) from error
        except RetriableError as error:
            log.warning("kafka does not answer", error=str(error), servers=self._kafka.bootstrap_servers)
        except KafkaError as error:
            raise unreachable(self._kafka, error) from error
        self._follow_the_group()
        for partition, records in fetched.items():
            self._buffer.extend(tuple(partition), map(self._decode, records))
        if unreadable:
            at = unreadable.origin
            self._buffer.extend((at.topic, at.partition), [(0, at.offset, unreadable)])
        full = len(self._buffer) >= self._kafka.max_buffered and not unreadable_is_next(self._consumer)
        if full and not self._backpressure:
            # All of them: kafka-python forgets the rest of a fetch for ever when one partition is paused and
            # resumed while others are polled.
            self._backpressure = True
            self._consumer.pause(*self._positions.partitions())

    def _relieve(self) -> None:
        if self._backpressure and len(self._buffer) <= self._kafka.max_buffered // 2:
            self._backpressure = False
            self._consumer.resume(*self._positions.partitions())

    def _follow_the_group(self) -> None:
        for change, partitions in self._notes.take():
            log.info(f"partitions {change.value}", partitions=sorted(p.partition for p in partitions))
            for partition in partitions:
                self._buffer.drop(tuple(partition))
                self._positions.forget(partition)
            if change is Change.ASSIGNED:
                self._positions.expect(partitions)
        settled = self._positions.settle()
        if settled and not self._backpressure:
            self._consumer.resume(*settled)

    def _decode(self, record: Any) -> Entry:
        origin = Origin(record.topic, record.partition, record.offset)
        return record.timestamp, record.offset, self._decoder.event(*decode_args(record, origin))

    def _probe(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._probe_at_s:
            self._probe_at_s = now_s + PROBE_EVERY_S
            self._connected = self._positions.look_at_ends(self._topic, PROBE_TIMEOUT_MS)
