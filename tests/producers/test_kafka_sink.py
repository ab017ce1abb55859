"""The sink on a real broker: what is published with the offsets, and what is not when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from kafka import ConsumerGroupMetadata, KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from producers.events import KafkaEventWriter
from producers.recommendations import KafkaSink
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError
from stream_rec.records import (
    Event,
    JournalRecord,
    Origin,
    Received,
    Recommendation,
    Rejected,
)
from tests.producers.kafka_worker import Worker, a_list, effects, events, raw_records, wait

pytestmark = pytest.mark.kafka


def test_lists_journal_and_offsets_are_published_together(
    start: Callable[..., Worker],
    write: Callable[[list[Event]], None],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    committed: Callable[[], dict[int, int]],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
) -> None:
    write(events(range(100)))
    worker = start()
    received: list[Received] = []
    wait(lambda: (received.extend(worker.step().received), len(received) >= 100)[1])

    lists = visible()

    by_user = {one.user_id: one for one, _ in lists}
    assert len(lists) == len(by_user) == 100
    for one in received:
        published = by_user[one.event.user_id]
        assert published == a_list(one, published.batch)
    assert sum(committed().values()) == 100
    assert committed() == {p: sum(r.origin.partition == p for r in received) for p in (0, 1)}
    journal = [
        msgspec.json.decode(r.value, type=JournalRecord)
        for r in raw_records(kafka_settings, kafka_topics.journal.name, 1)
    ]
    assert {j.worker for j in journal} == {"worker-1"}
    assert sum(j.num_learnt for j in journal) == 100
    records = raw_records(kafka_settings, kafka_topics.recommendations.name, 100)
    on_wire = next(record for record in records if record.key == b"u7")
    assert msgspec.json.decode(on_wire.value)["caused_by"]["timestamp"] == 1_700_000_000_007
    assert set(msgspec.json.decode(on_wire.value)) == {
        "user_id", "items", "model_version", "batch", "caused_by", "generated_at",
    }  # fmt: skip


def test_nothing_of_an_aborted_transaction_is_ever_visible(
    start: Callable[..., Worker],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    committed: Callable[[], dict[int, int]],
    kafka_topics: TopicsSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = start()
    worker.until_assigned()
    producer = worker.sink._producer
    assert producer is not None

    def fail_after_everything_is_acknowledged(timeout_s: float) -> None:
        producer.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(producer, "commit_within", fail_after_everything_is_acknowledged)
    with pytest.raises(KeyboardInterrupt):
        worker.sink.publish(effects(kafka_topics, "aborted"))
    assert visible() == []
    assert committed() == {}

    worker.sink.publish(effects(kafka_topics, "committed"))

    assert [one.user_id for one, _ in visible()] == ["committed"]
    assert committed() == {0: 1}


def test_dead_letters_carry_the_original_bytes_and_headers_and_why(
    start: Callable[..., Worker], kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    worker = start()
    worker.until_assigned()
    origin = Origin(kafka_topics.events.name, 1, 42)
    rejected = [
        Rejected("not_json", "line 1 – “x”", b"\x00k", b"\xff\x00value", [("trace", b"\x01"), ("trace", b"")], origin),
        Rejected("tombstone", "null value", b"k", None, [], origin),
        Rejected("tombstone", "null value, null key", None, None, [], origin),
    ]

    worker.sink.publish(effects(kafka_topics, rejected=rejected))

    whole, no_value, nothing = raw_records(kafka_settings, kafka_topics.dead_letters.name, 3)
    assert (whole.key, whole.value) == (b"\x00k", b"\xff\x00value")
    assert whole.headers == [
        ("trace", b"\x01"),
        ("trace", b""),
        ("stream_rec_reason", b"not_json"),
        ("stream_rec_detail", "line 1 – “x”".encode()),
        ("stream_rec_topic", origin.topic.encode()),
        ("stream_rec_partition", b"1"),
        ("stream_rec_offset", b"42"),
    ]
    assert (no_value.key, no_value.value) == (b"k", None)
    assert (nothing.key, nothing.value) == (None, b"")
    assert ("stream_rec_null_value", b"true") in nothing.headers


@pytest.mark.parametrize("refused_by", ["producer", "broker"])
def test_a_dead_letter_that_is_too_large_is_cut_and_nothing_else_is_lost(
    start: Callable[..., Worker],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    committed: Callable[[], dict[int, int]],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
    refused_by: str,
) -> None:
    if refused_by == "producer":
        worker = start(producer={"max_request_size": 20_000}, compression="none")
    else:
        worker = start(compression="none")
        admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
        name = kafka_topics.dead_letters.name
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": "20000"})])
        admin.close()
    worker.until_assigned()
    origin = Origin(kafka_topics.events.name, 0, 3)
    large = Rejected("too_large", "much", b"k", b"v" * 50_000, [("h", b"1")], origin)
    small = Rejected("not_json", "little", b"k", b"small", [], origin)

    worker.sink.publish(effects(kafka_topics, rejected=[large, small]))

    cut, whole = raw_records(kafka_settings, kafka_topics.dead_letters.name, 2)
    headers = dict(cut.headers)
    assert 10_000 < len(cut.value) < 20_000
    assert large.value is not None
    assert large.value.startswith(cut.value)
    assert (headers["stream_rec_truncated"], headers["stream_rec_value_bytes"]) == (b"value", b"50000")
    assert (headers["h"], headers["stream_rec_reason"]) == (b"1", b"too_large")
    assert whole.value == b"small"
    assert "stream_rec_truncated" not in dict(whole.headers)
    assert len(visible()) == 1
    assert committed() == {0: 1}


def test_no_broker_is_an_error_that_names_the_servers(kafka_topics: TopicsSettings) -> None:
    kafka = KafkaSettings(bootstrap_servers=["127.0.0.1:1"], max_block_ms=500)

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1: connecting a producer failed"):
        KafkaSink(kafka, kafka_topics, "w", lambda: ConsumerGroupMetadata("g"), frozenset)
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        KafkaEventWriter(kafka, kafka_topics)
