"""The sink on a real broker: what is published with the offsets, and what is not when something goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from kafka import ConsumerGroupMetadata, KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove

from consumers.events import KafkaEventSource
from consumers.lists import read_lists
from producers.events import KafkaEventWriter
from producers.recommendations import KafkaSink
from producers.topics import ensure_topics
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError, FencedError, RebalancedError
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

pytestmark = pytest.mark.kafka

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


@pytest.fixture
def write(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> Iterator[Callable[[list[Event]], None]]:
    ensure_topics(kafka_settings, kafka_topics)
    with KafkaEventWriter(kafka_settings, kafka_topics) as writer:

        def write_all(these: list[Event]) -> None:
            for event in these:
                writer.event(event)
            writer.flush()

        yield write_all


@pytest.fixture
def start(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings, write: object
) -> Iterator[Callable[..., Worker]]:
    workers = []

    def start_one(name: str = "worker-1", **changes: object) -> Worker:
        workers.append(Worker(kafka_settings.model_copy(update=changes), kafka_topics, name))
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.close()


@pytest.fixture
def visible(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> Callable[[], list[tuple[Recommendation, Origin]]]:
    return lambda: list(read_lists(kafka_settings, kafka_topics, stop_at_end=True))


@pytest.fixture
def committed(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> Callable[[], dict[int, int]]:
    def ask() -> dict[int, int]:
        admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
        try:
            offsets = admin.list_group_offsets([kafka_settings.group_id])[kafka_settings.group_id]
        finally:
            admin.close()
        return {partition.partition: at.offset for partition, at in offsets.items() if at.offset >= 0}

    return ask


def raw_records(kafka: KafkaSettings, topic: str, num_records: int) -> list[Any]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    records: list[Any] = []
    wait(lambda: (records.extend(r for rs in consumer.poll(200).values() for r in rs), len(records) >= num_records)[1])
    consumer.close()
    return records


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


def test_a_second_worker_takes_its_share_and_every_event_is_published_once(
    start: Callable[..., Worker],
    write: Callable[[list[Event]], None],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    kafka_topics: TopicsSettings,
) -> None:
    write(events(range(400)))
    first = start("first")
    while first.num_published < 100:
        first.step()
    second = start("second")

    def step_both() -> int:
        first.step()
        second.step()
        return first.num_published + second.num_published

    wait(lambda: (step_both(), len(first.source.assignment()) == len(second.source.assignment()) == 1)[1])
    assert (first.source.num_rebalances, second.source.num_rebalances) == (2, 1)
    write(events(range(400, 800)))
    wait(lambda: step_both() >= 800)
    assert second.num_published > 0
    second.close()
    first.until_assigned(2)

    lists = [one for one, _ in visible()]

    causes = [(one.caused_by.partition, one.caused_by.offset) for one in lists]
    assert len(causes) == len(set(causes)) == 800
    assert {one.user_id for one in lists} == {f"u{number}" for number in range(800)}
    assert first.source.assignment() == {(kafka_topics.events.name, n) for n in (0, 1)}


def test_members_that_work_longer_than_they_poll_agree_at_once(start: Callable[..., Worker]) -> None:
    """A join that ends while its member works must not be thrown away: each of them would make the other join again."""
    first = start("first")
    first.until_assigned()
    second = start("second")

    def poll_a_little_and_work() -> bool:
        for worker in (first, second):
            worker.source.poll(10, 0.02)
            time.sleep(0.2)
        return len(first.source.assignment()) == len(second.source.assignment()) == 1

    wait(poll_a_little_and_work)
    for _ in range(5):
        assert poll_a_little_and_work()

    # 1: the first alone; 2: it gives one up (KIP-429); 3: the second takes it. One more for a slow machine's heartbeat.
    assert first.source.group_metadata().generation_id <= 4


def test_a_batch_of_a_partition_that_has_gone_is_refused_and_leaves_nothing(
    start: Callable[..., Worker],
    write: Callable[[list[Event]], None],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    committed: Callable[[], dict[int, int]],
) -> None:
    write(events(range(60)))
    first = start("first")
    first.until_assigned()
    polled = Polled()
    while {p.partition for p in polled.next_positions} != {0, 1}:
        polled = first.source.poll(100, 1.0)
    second = start("second")
    wait(lambda: (first.source.poll(0, 0.1), second.source.poll(0, 0.1), len(second.source.assignment()) == 1)[2])

    with pytest.raises(RebalancedError, match="went to another worker"):
        first.sink.publish(first.effects(polled))

    assert visible() == []
    assert committed() == {}
    mine = first.source.assignment()
    polled.received = [r for r in polled.received if (r.origin.topic, r.origin.partition) in mine]
    polled.next_positions = [p for p in polled.next_positions if (p.topic, p.partition) in mine]
    first.sink.publish(first.effects(polled))
    assert len(visible()) == len(polled.received) > 0
    assert set(committed()) == {partition for _, partition in mine}


def test_the_broker_refuses_a_generation_that_has_passed_and_its_offsets_do_not_come_back(
    start: Callable[..., Worker],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    committed: Callable[[], dict[int, int]],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
) -> None:
    member = start("member")
    member.until_assigned()
    current = member.source.group_metadata()
    claimed = [current._replace(generation_id=current.generation_id + 5)]
    sink = KafkaSink(kafka_settings, kafka_topics, "stale", lambda: claimed[0])

    with pytest.raises(RebalancedError, match="rebalanced"):
        sink.publish(effects(kafka_topics, "stale", offset=77))
    assert visible() == []
    claimed[0] = current
    other = effects(kafka_topics, "fresh")
    other.next_positions = [Position(kafka_topics.events.name, 1, 5)]
    sink.publish(other)
    sink.close()

    assert [one.user_id for one, _ in visible()] == ["fresh"]
    assert committed() == {1: 5}  # kafka-python would have sent 77 along with it


def test_a_worker_that_the_group_has_dropped_publishes_nothing(
    start: Callable[..., Worker],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    committed: Callable[[], dict[int, int]],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
) -> None:
    worker = start()
    worker.until_assigned()
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    member = worker.source.group_metadata().member_id
    admin.remove_group_members(kafka_settings.group_id, [MemberToRemove(member_id=member)])
    admin.close()
    wait(lambda: (time.sleep(0.05), worker.source.group_metadata().generation_id < 0)[1])  # a heartbeat tells it

    assert worker.source.assignment() == frozenset()
    with pytest.raises(RebalancedError, match="no member of group"):
        worker.sink.publish(effects(kafka_topics))
    assert visible() == []
    assert committed() == {}
    worker.until_assigned()
    worker.sink.publish(effects(kafka_topics))
    assert committed() == {0: 1}


def test_a_worker_of_the_same_name_fences_the_older_one(
    start: Callable[..., Worker],
    visible: Callable[[], list[tuple[Recommendation, Origin]]],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
) -> None:
    old = start("twin")
    old.until_assigned()
    new = KafkaSink(kafka_settings, kafka_topics, "twin", old.source.group_metadata)

    with pytest.raises(FencedError, match="Another worker named twin"):
        old.sink.publish(effects(kafka_topics, "old"))
    with pytest.raises(FencedError):
        old.sink.publish(effects(kafka_topics, "old again"))

    new.publish(effects(kafka_topics, "new"))
    new.close()
    assert [one.user_id for one, _ in visible()] == ["new"]


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
        KafkaSink(kafka, kafka_topics, "w", lambda: ConsumerGroupMetadata("g"))
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        KafkaEventWriter(kafka, kafka_topics)
