"""A broker that is killed under a worker, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from consumers.events import KafkaEventSource
from consumers.lists import read_lists
from producers.events import KafkaEventWriter
from producers.recommendations import KafkaSink
from producers.topics import ensure_topics
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError
from stream_rec.records import CausedBy, Effects, Event, JournalRecord, Polled, Recommendation

pytestmark = pytest.mark.kafka

WAIT_S = 60.0


def wait(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s


def effects(polled: Polled) -> Effects:
    lists = [
        Recommendation(r.event.user_id, [], "v", 1, CausedBy(r.origin.topic, r.origin.partition, r.origin.offset, 1), 1)
        for r in polled.received
    ]
    return Effects(lists, [], JournalRecord("w", 1, [], len(lists), 0), polled.next_positions)


def test_a_worker_outlives_its_broker_and_publishes_each_event_once(
    kafka_broker: Any, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    kafka = kafka_settings.model_copy(update={"max_block_ms": 1_500})
    ensure_topics(kafka, kafka_topics)
    writer = KafkaEventWriter(kafka, kafka_topics)
    for number in range(50):
        writer.event(Event(f"u{number}", "i", "click", 1_700_000_000_000))
    writer.flush()
    source = KafkaEventSource(kafka, kafka_topics, DecodeSettings(), "w")
    sink = KafkaSink(kafka, kafka_topics, "w", source.group_metadata, source.assignment)
    other = KafkaEventSource(kafka.model_copy(update={"group_id": "other"}), kafka_topics, DecodeSettings(), "other")
    wait(lambda: (other.poll(0, 0.1), bool(other.assignment()))[1])
    first, second, third = Polled(), Polled(), Polled()
    wait(lambda: gather(source, first, 20) >= 20)
    sink.publish(effects(first))
    gather(source, second, 20)
    try:
        kafka_broker.kill()
        wait(lambda: (source.poll(0, 0.1), not source.connected())[1])
        assert source.poll(0, 0.0).received == []
        with pytest.raises(BrokerError, match=kafka.bootstrap_servers[0]):
            sink.publish(effects(second))
        writer.event(Event("never", "i", "click", 1_700_000_000_000))
        with pytest.raises(BrokerError, match="sending failed"):
            writer.flush()
        # Nothing that is closed without a broker hangs or raises, and closing twice is closing once.
        for client in (writer, other, other):
            client.close()
    finally:
        kafka_broker.start()
    wait(lambda: (source.poll(0, 0.1), source.connected())[1])

    sink.publish(effects(second))
    wait(lambda: len(first.received) + len(second.received) + gather(source, third, 100) == 50)
    sink.publish(effects(third))

    lists = [one for one, _ in read_lists(kafka_settings, kafka_topics, stop_at_end=True)]
    assert sorted(one.user_id for one in lists) == sorted(f"u{number}" for number in range(50))
    assert sum(source.lag().values()) == 0
    sink.close()
    sink.close()
    source.close()


def gather(source: KafkaEventSource, into: Polled, max_records: int) -> int:
    """Poll once more into the same batch; how many events are in it."""
    polled = source.poll(max_records, 0.2)
    into.received += polled.received
    positions = {p.partition: p for p in into.next_positions} | {p.partition: p for p in polled.next_positions}
    into.next_positions = list(positions.values())
    return len(into.received)
