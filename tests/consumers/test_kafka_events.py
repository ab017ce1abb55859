"""The events source on a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition

from consumers.events import KafkaEventSource
from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError, SettingsError
from stream_rec.records import Event, Origin, Polled, Position, Rejected

pytestmark = pytest.mark.kafka

WAIT_S = 30.0


@pytest.fixture
def writer(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> Iterator[KafkaEventWriter]:
    ensure_topics(kafka_settings, kafka_topics)
    with KafkaEventWriter(kafka_settings, kafka_topics) as writer:
        yield writer


@pytest.fixture
def open_source(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> Iterator[Callable[..., KafkaEventSource]]:
    sources = []

    def open_one(name: str = "worker-1", **changes: object) -> KafkaEventSource:
        kafka = kafka_settings.model_copy(update=changes)
        sources.append(KafkaEventSource(kafka, kafka_topics, DecodeSettings(), name))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def event(number: int) -> Event:
    return Event(f"u{number % 7}", f"i{number}", "click", 1_700_000_000_000 + number)


def write(writer: KafkaEventWriter, numbers: range) -> None:
    for number in numbers:
        writer.event(event(number))
    writer.flush()


def read(source: KafkaEventSource, num_events: int, max_records: int = 256) -> list[Polled]:
    """Poll until ``num_events`` usable events have come."""
    polled: list[Polled] = []
    deadline_s = time.monotonic() + WAIT_S
    while sum(len(p.received) for p in polled) < num_events:
        assert time.monotonic() < deadline_s, f"only {sum(len(p.received) for p in polled)} of {num_events} came"
        polled.append(source.poll(max_records, 1.0))
    return polled


def origins(polled: list[Polled]) -> list[Origin]:
    return [received.origin for p in polled for received in p.received]


def last_positions(polled: list[Polled]) -> dict[int, int]:
    return {position.partition: position.offset for p in polled for position in p.next_positions}


def test_events_come_back_whole_and_in_the_order_of_their_log(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource], kafka_topics: TopicsSettings
) -> None:
    sent = [
        Event("ü 1", "i", "rating", 1_700_000_000_000, "e", "s", 4.5, {"device": "phone", "lat": 1.5}),
        *map(event, range(500)),
    ]
    for one in sent:
        writer.event(one)
    writer.flush()
    source = open_source()

    polled = read(source, len(sent), max_records=64)

    received = [r for p in polled for r in p.received]
    assert sorted((r.event for r in received), key=lambda e: (e.timestamp_ms, e.user_id)) == sorted(
        sent, key=lambda e: (e.timestamp_ms, e.user_id)
    )
    for partition in (0, 1):
        offsets = [o.offset for o in origins(polled) if o.partition == partition]
        assert offsets == list(range(len(offsets)))
        assert last_positions(polled)[partition] == len(offsets)
    assert max(len(p.received) for p in polled) <= 64
    assert source.assignment() == {(kafka_topics.events.name, 0), (kafka_topics.events.name, 1)}
    assert source.num_rebalances == 1
    assert source.connected()


def test_bad_records_are_rejected_with_their_bytes_and_stop_nothing(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource], kafka_topics: TopicsSettings
) -> None:
    topic = kafka_topics.events.name
    writer.raw(topic, b"k", b"\xff\xfe", headers=[("trace", b"1")], partition=0)
    writer.raw(topic, b"k", None, partition=0)
    writer.raw(topic, None, b"{}", partition=0)
    writer.raw(topic, b"k", b'{"user_id": "\x00"', partition=0)
    write(writer, range(20))
    source = open_source()

    polled = read(source, 20)

    rejected = [r for p in polled for r in p.rejected]
    assert [r.reason for r in rejected] == ["not_utf8", "tombstone", "wrong_shape", "not_json"]
    assert (rejected[0].key, rejected[0].value, rejected[0].headers) == (b"k", b"\xff\xfe", [("trace", b"1")])
    assert [r.origin.offset for r in rejected] == [0, 1, 2, 3]


def test_a_header_name_that_is_no_utf8_is_one_dead_letter_and_not_the_end(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource], kafka_topics: TopicsSettings
) -> None:
    class Latin1(str):
        __slots__ = ()

        def encode(self, *_: str) -> bytes:
            return b"caf\xe9"

    write(writer, range(10))
    value = b'{"user_id":"u","item_id":"i","type":"click","timestamp":1700000000000}'
    writer.raw(kafka_topics.events.name, b"k", value, headers=[(Latin1("x"), b"1")], partition=1)
    writer.flush()
    write(writer, range(10, 40))
    # A buffer this small is full when the record is met, so the backpressure is on as well.
    source = open_source(max_buffered=4)

    polled = read(source, 40, max_records=3)

    (rejected,) = [r for p in polled for r in p.rejected]
    assert (rejected.reason, rejected.origin.partition) == ("not_utf8", 1)
    assert rejected.origin not in origins(polled)
    assert len(set(origins(polled))) == 40


def test_backpressure_pauses_every_partition_and_loses_nothing(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource]
) -> None:
    write(writer, range(3_000))
    source = open_source(max_buffered=64)
    held = []
    for _ in range(10):  # a worker that takes nothing but keeps its membership
        assert len(source.poll(0, 0.2)) == 0
        held.append(len(source._buffer))
    assert max(held) == 64
    assert source._consumer.paused() == source._consumer.assignment() != set()
    write(writer, range(3_000, 3_500))

    polled = read(source, 3_500, max_records=50)

    assert len(set(origins(polled))) == len(origins(polled)) == 3_500
    for partition in (0, 1):
        offsets = [o.offset for o in origins(polled) if o.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert source._consumer.paused() == set()


def test_partitions_are_merged_by_the_time_of_their_log(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource], kafka_topics: TopicsSettings
) -> None:
    value = b'{"user_id":"u","item_id":"i","type":"click","timestamp":1700000000000}'
    now_ms = int(time.time() * 1000)
    for number in range(200):
        writer.raw(kafka_topics.events.name, b"k", value, timestamp_ms=now_ms + number, partition=number // 7 % 2)
    writer.flush()
    source = open_source()
    source.poll(0, 0.0)
    deadline_s = time.monotonic() + WAIT_S
    while len(source._buffer) < 200:
        source.poll(0, 0.1)
        assert time.monotonic() < deadline_s

    taken = origins([source.poll(200, 1.0)])

    assert [o.partition for o in taken] == [number // 7 % 2 for number in range(200)]


def test_a_snapshots_position_goes_before_the_committed_one_which_goes_before_the_setting(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource], kafka_topics: TopicsSettings
) -> None:
    topic = kafka_topics.events.name
    for number in range(40):
        writer.raw(topic, b"k", b"%d" % number, partition=number % 2)
    writer.flush()
    first = open_source()
    while first.assignment() == frozenset():
        first.poll(0, 0.1)
    offsets = {TopicPartition(topic, 0): 8, TopicPartition(topic, 1): 12}
    first._consumer.commit({p: OffsetAndMetadata(o, "", -1) for p, o in offsets.items()})
    assert list(first.committed()) == []  # as it was when they were assigned
    first.close()
    source = open_source()
    source.restart_at([Position(topic, 0, 5)])

    rejected = []
    while len(rejected) < 15 + 8:
        rejected += source.poll(100, 1.0).rejected

    assert sorted(source.committed()) == [Position(topic, 0, 8), Position(topic, 1, 12)]
    assert min(r.origin.offset for r in rejected if r.origin.partition == 0) == 5
    assert min(r.origin.offset for r in rejected if r.origin.partition == 1) == 12
    assert source.lag() == {(topic, 0): 0, (topic, 1): 0}


def test_a_start_at_latest_reports_where_it_began_so_that_it_can_be_committed(
    writer: KafkaEventWriter, open_source: Callable[..., KafkaEventSource], kafka_topics: TopicsSettings
) -> None:
    write(writer, range(50))
    source = open_source(start="latest")
    positions: list[Position] = []
    while len(positions) < 2:
        positions += source.poll(10, 0.2).next_positions
    assert sum(p.offset for p in positions) == 50

    write(writer, range(50, 60))

    assert len(origins(read(source, 10))) == 10


def test_a_position_that_retention_has_passed_is_an_error_that_names_the_ways_out(
    writer: KafkaEventWriter,
    open_source: Callable[..., KafkaEventSource],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
) -> None:
    topic = kafka_topics.events.name
    for _ in range(30):
        writer.raw(topic, b"k", b"x", partition=1)
    writer.flush()
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 1): 20})
    admin.close()
    behind, beyond, inside = (
        open_source("behind"),
        open_source("beyond", group_id="g2"),
        open_source("i", group_id="g3"),
    )
    behind.restart_at([Position(topic, 1, 7)])
    beyond.restart_at([Position(topic, 1, 31)])
    inside.restart_at([Position(topic, 1, 20)])

    expected = rf"{topic}, partition 1: the position 7 .* offsets 20 to 30.*snapshots.*latest.*earliest"
    with pytest.raises(BrokerError, match=expected):
        read(behind, 1)
    with pytest.raises(BrokerError, match="the position 31 is not in the log"):
        read(beyond, 1)
    rejected = []
    while len(rejected) < 10:
        rejected += inside.poll(100, 1.0).rejected
    assert [r.origin.offset for r in rejected] == list(range(20, 30))


def test_records_deleted_under_a_reader_that_lags_are_an_error_and_not_a_silent_jump(
    writer: KafkaEventWriter,
    open_source: Callable[..., KafkaEventSource],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
) -> None:
    topic = kafka_topics.events.name
    for _ in range(300):
        writer.raw(topic, b"k", b"x" * 100, partition=0)
        writer.flush()  # a batch each, so that a fetch of two thousand bytes brings a few
    source = open_source(max_buffered=4, consumer={"fetch_max_bytes": 2_000, "max_partition_fetch_bytes": 2_000})
    rejected: list[Rejected] = []
    while not rejected:
        rejected += source.poll(1, 1.0).rejected
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 0): 290})
    admin.close()

    def read_on() -> None:
        while len(rejected) < 300:
            rejected.extend(source.poll(10, 1.0).rejected)

    with pytest.raises(BrokerError, match="is not in the log, which holds offsets 290 to 300"):
        read_on()
    assert [r.origin.offset for r in rejected] == list(range(len(rejected)))


def test_an_option_that_kafka_python_does_not_know_is_a_settings_error(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    ensure_topics(kafka_settings, kafka_topics)
    kafka = kafka_settings.model_copy(update={"consumer": {"fetch_max_byte": 1}})

    with pytest.raises(SettingsError, match="fetch_max_byte"):
        KafkaEventSource(kafka, kafka_topics, DecodeSettings(), "w")


def test_options_of_the_user_are_passed_through_and_ours_stay_ours(
    open_source: Callable[..., KafkaEventSource], writer: KafkaEventWriter
) -> None:
    client = {"reconnect_backoff_ms": 77, "api_version": [4, 0]}
    config = open_source(client=client, consumer={"fetch_max_bytes": 5_000_000, "isolation_level": "read_uncommitted"})

    used = config._consumer.config
    assert (used["reconnect_backoff_ms"], used["fetch_max_bytes"]) == (77, 5_000_000)
    assert (used["isolation_level"], used["enable_auto_commit"]) == ("read_committed", False)


def test_no_broker_is_an_error_that_names_the_servers(kafka_topics: TopicsSettings) -> None:
    kafka = KafkaSettings(bootstrap_servers=["127.0.0.1:1", "127.0.0.1:2"], client={"bootstrap_timeout_ms": 300})

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1, 127\.0\.0\.1:2"):
        KafkaEventSource(kafka, kafka_topics, DecodeSettings(), "w")
