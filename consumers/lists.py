"""Published lists, read back: for the demo, for tests, for whoever shows them to people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError, RetriableError

from consumers.client import CLOSE_TIMEOUT_MS, new_consumer, position_of, unreachable
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError
from stream_rec.records import Origin, Position, Recommendation

ASK_TIMEOUT_MS = 10_000
SLICE_S = 0.1

Start = Literal["earliest", "latest"] | Sequence[Position]


class ListReader:
    """Reads ``recommendations`` without a group; what a transaction has not committed is never seen.

    ``start`` is settled in the constructor: with ``latest`` everything that is published after it is read.
    Raises BrokerError where no broker answers, the topic is missing, or a record in it is no list.
    """

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, start: Start = "earliest") -> None:
        self._kafka = kafka
        self._decode = msgspec.json.Decoder(Recommendation).decode
        self._closed = False
        self._consumer = new_consumer(kafka, client_id="stream-rec-lists", group_id=None, group_instance_id=None)
        topic = topics.recommendations.name
        try:
            known = self._consumer.partitions_for_topic(topic)
            if not known:
                raise BrokerError(f"Topic {topic} is missing at {', '.join(kafka.bootstrap_servers)}")
            self._partitions = [TopicPartition(topic, number) for number in sorted(known)]
            self._consumer.assign(self._partitions)
            self._seek(start)
        except KafkaError as error:
            self.close()
            raise unreachable(kafka, error) from error
        except BrokerError:
            self.close()
            raise

    def _seek(self, start: Start) -> None:
        ask = self._consumer.end_offsets if start == "latest" else self._consumer.beginning_offsets
        begin = ask(self._partitions, timeout_ms=ASK_TIMEOUT_MS)
        if not isinstance(start, str):
            begin |= {TopicPartition(p.topic, p.partition): p.offset for p in start}
        for partition in self._partitions:
            self._consumer.seek(partition, begin[partition])

    def poll(self, timeout_s: float, max_records: int = 1_000) -> list[tuple[Recommendation, Origin]]:
        """The next lists in log order, waiting at most ``timeout_s`` for the first; deleted lists are passed over."""
        try:
            fetched = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except RetriableError:
            return []  # a broker that is away for a moment; the next call tries again
        except KafkaError as error:
            raise unreachable(self._kafka, error) from error
        lists = []
        for records in fetched.values():
            for record in records:
                if record.value is None:
                    continue
                origin = Origin(record.topic, record.partition, record.offset)
                try:
                    lists.append((self._decode(record.value), origin))
                except msgspec.DecodeError as error:
                    where = f"Topic {origin.topic}, partition {origin.partition}, offset {origin.offset}"
                    raise BrokerError(f"{where} is no list: {error}") from error
        return lists

    def at_end(self) -> bool:
        """Whether everything that is published now has been read."""
        ends = self._consumer.end_offsets(self._partitions, timeout_ms=ASK_TIMEOUT_MS)
        return all((position_of(self._consumer, p) or 0) >= ends[p] for p in self._partitions)

    def close(self) -> None:
        """Release sockets and threads. Idempotent."""
        if not self._closed:
            self._closed = True
            with suppress(RetriableError):
                self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)


def read_lists(
    kafka: KafkaSettings,
    topics: TopicsSettings,
    start: Start = "earliest",
    *,
    stop_at_end: bool = False,
    idle_timeout_s: float | None = None,
) -> Iterator[tuple[Recommendation, Origin]]:
    """Lists and where they lie, in log order within a partition.

    Ends when everything published has been read (``stop_at_end``), or when nothing new came for ``idle_timeout_s``;
    with neither it goes on for ever. The reader is made at once, not at the first list; it is closed when the
    iterator ends or is closed.
    """
    return _iterate(ListReader(kafka, topics, start), stop_at_end, idle_timeout_s)


def _iterate(
    reader: ListReader, stop_at_end: bool, idle_timeout_s: float | None
) -> Iterator[tuple[Recommendation, Origin]]:
    try:
        newest_s = time.monotonic()
        while True:
            lists = reader.poll(SLICE_S)
            yield from lists
            if lists:
                newest_s = time.monotonic()
                continue
            idle = idle_timeout_s is not None and time.monotonic() - newest_s >= idle_timeout_s
            if idle or (stop_at_end and reader.at_end()):
                return
    finally:
        reader.close()
