"""The least worker there is, over a real broker, and what its tests publish and read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from kafka import KafkaConsumer

from consumers.events import KafkaEventSource
from producers.recommendations import KafkaSink
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import RebalancedError
from stream_rec.records import (
    CausedBy,
    Effects,
    Event,
    JournalRecord,
    Origin,
    Polled,
    Position,
    RankedItem,
    Received,
    Recommendation,
    Rejected,
)

WAIT_S = 40.0


class Worker:
    """The least loop that a worker is: one list an event, published with the positions."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, name: str) -> None:
        self.source = KafkaEventSource(kafka, topics, DecodeSettings(), name)
        self.sink = KafkaSink(kafka, topics, name, self.source.group_metadata, self.source.assignment)
        self.name = name
        self.batch = 0
        self.num_published = 0

    def effects(self, polled: Polled) -> Effects:
        self.batch += 1
        return Effects(
            lists=[a_list(received, self.batch) for received in polled.received],
            rejected=polled.rejected,
            journal=JournalRecord(self.name, self.batch, [], len(polled.received), len(polled.rejected)),
            next_positions=polled.next_positions,
        )

    def step(self, max_records: int = 40, timeout_s: float = 0.05) -> Polled:
        """Poll and publish; where the group was rebalanced meanwhile, again without what has gone."""
        polled = self.source.poll(max_records, timeout_s)
        while polled.next_positions:
            try:
                self.sink.publish(self.effects(polled))
                self.num_published += len(polled.received)
                break
            except RebalancedError:
                self.source.poll(0, 0.1)
                mine = self.source.assignment()
                polled.received = [r for r in polled.received if (r.origin.topic, r.origin.partition) in mine]
                polled.next_positions = [p for p in polled.next_positions if (p.topic, p.partition) in mine]
        return polled

    def until_assigned(self, num_partitions: int = 2) -> None:
        wait(lambda: (self.source.poll(0, 0.1), len(self.source.assignment()) == num_partitions)[1])

    def close(self) -> None:
        self.sink.close()
        self.source.close()


def a_list(received: Received, batch: int = 1) -> Recommendation:
    caused_by = CausedBy(*msgspec.structs.astuple(received.origin), received.event.timestamp_ms)
    items = [RankedItem("i1", 0.5, 1, ["popular"]), RankedItem("ü", 0.25, 2)]
    return Recommendation(received.event.user_id, items, "attention-1", batch, caused_by, 1_700_000_000_001)


def wait(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s


def events(numbers: range) -> list[Event]:
    return [Event(f"u{number}", f"i{number % 9}", "click", 1_700_000_000_000 + number) for number in numbers]


def effects(
    topics: TopicsSettings, user_id: str = "u", offset: int = 1, rejected: list[Rejected] | None = None
) -> Effects:
    origin = Origin(topics.events.name, 0, offset - 1)
    received = Received(Event(user_id, "i", "click", 1_700_000_000_000), origin)
    return Effects(
        lists=[a_list(received)],
        rejected=rejected or [],
        journal=JournalRecord("w", 1, [(origin.topic, 0, origin.offset, offset)], 1, 0),
        next_positions=[Position(origin.topic, 0, offset)],
    )


def raw_records(kafka: KafkaSettings, topic: str, num_records: int) -> list[Any]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    records: list[Any] = []
    wait(lambda: (records.extend(r for rs in consumer.poll(200).values() for r in rs), len(records) >= num_records)[1])
    consumer.close()
    return records
