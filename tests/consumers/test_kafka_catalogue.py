"""The catalogue on a real broker: whole at every start, then followed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, TopicPartition

from consumers.catalogue import KafkaCatalogue
from consumers.events import KafkaEventSource
from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError
from stream_rec.records import Event, Item, ItemUpdate, Polled

pytestmark = pytest.mark.kafka

WAIT_S = 30.0


@pytest.fixture
def writer(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> Iterator[KafkaEventWriter]:
    ensure_topics(kafka_settings, kafka_topics)
    with KafkaEventWriter(kafka_settings, kafka_topics) as writer:
        yield writer


def catalogue(updates: list[ItemUpdate]) -> dict[str, Item | None]:
    """What a worker knows after ``updates``."""
    return {update.item_id: update.item for update in updates}


def follow(source: KafkaCatalogue, num_records: int) -> Polled:
    polled = Polled()
    deadline_s = time.monotonic() + WAIT_S
    while len(polled) < num_records:
        source.poll(polled, 0.5)
        assert time.monotonic() < deadline_s, len(polled)
    return polled


def test_items_tombstones_and_rejects_come_in_order(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    topic = kafka_topics.items.name
    shoe = Item("shoe", "Running shoe", ["sport", "shoes"], 79.5, ["new"], True, {"brand": "x", "weight": 0.3})
    writer.item(shoe)
    writer.item(Item("hat", "Hat"))
    writer.raw(topic, b"broken", b"{", headers=[("h", b"1")])
    writer.raw(topic, b"hat", None)
    writer.item(Item("shoe", "Running shoe", available=False))
    writer.flush()
    source = KafkaCatalogue(kafka_settings, kafka_topics, DecodeSettings(), "w")
    assert not source.caught_up

    polled = follow(source, 5)

    assert source.caught_up
    assert polled.item_updates[0] == ItemUpdate("shoe", shoe)
    assert catalogue(polled.item_updates) == {"shoe": Item("shoe", "Running shoe", available=False), "hat": None}
    (rejected,) = polled.rejected
    assert (rejected.reason, rejected.value, rejected.origin.topic) == ("not_json", b"{", topic)
    assert polled.next_positions == []
    writer.item(Item("scarf"))
    writer.flush()
    assert follow(source, 1).item_updates == [ItemUpdate("scarf", Item("scarf"))]
    source.close()
    source.close()


def test_the_whole_catalogue_comes_before_the_first_event_at_every_start(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    num_items = 6_000  # more than one poll of the catalogue brings
    for number in range(num_items):
        writer.item(Item(f"i{number}"))
    writer.event(Event("u", "i1", "click", 1_700_000_000_000))
    writer.flush()

    for _ in range(2):
        source = KafkaEventSource(kafka_settings, kafka_topics, DecodeSettings(), "w")
        updates: list[ItemUpdate] = []
        polled = Polled()
        deadline_s = time.monotonic() + WAIT_S
        while not polled.received:
            assert time.monotonic() < deadline_s
            polled = source.poll(100, 0.5)
            updates += polled.item_updates
        source.close()
        assert list(catalogue(updates)) == [f"i{number}" for number in range(num_items)]


def test_items_deleted_under_the_reader_cost_nothing_that_is_left(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    topic = f"{kafka_topics.items.name}-kept-for-a-while"  # of a topic that is only compacted no record is deleted
    items = kafka_topics.items.model_copy(update={"name": topic, "retention_ms": 600_000})
    topics = kafka_topics.model_copy(update={"items": items})
    ensure_topics(kafka_settings, topics)
    source = KafkaCatalogue(kafka_settings, topics, DecodeSettings(), "w")
    assert source.caught_up  # there was nothing to read
    for number in range(20):
        writer.raw(topic, b"i%d" % number, b'{"item_id": "i%d"}' % number)
    writer.flush()
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 0): 15})
    admin.close()

    updates = follow(source, 5).item_updates

    assert catalogue(updates).keys() == {f"i{number}" for number in range(15, 20)}
    source.close()


def test_a_missing_topic_is_an_error_that_names_it(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> None:
    with pytest.raises(BrokerError, match=rf"{kafka_topics.items.name} .*topics\.create_missing"):
        KafkaCatalogue(kafka_settings, kafka_topics, DecodeSettings(), "w")
