"""Workers that share a group, lose partitions, lose their membership, or meet their own name: a real broker judges."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from producers.recommendations import KafkaSink
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.errors import FencedError, RebalancedError
from stream_rec.records import (
    Event,
    Origin,
    Polled,
    Position,
    Recommendation,
)
from tests.producers.kafka_worker import Worker, effects, events, wait

pytestmark = pytest.mark.kafka


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
    sink = KafkaSink(kafka_settings, kafka_topics, "stale", lambda: claimed[0], member.source.assignment)

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
    new = KafkaSink(kafka_settings, kafka_topics, "twin", old.source.group_metadata, old.source.assignment)

    with pytest.raises(FencedError, match="Another worker named twin"):
        old.sink.publish(effects(kafka_topics, "old"))
    with pytest.raises(FencedError):
        old.sink.publish(effects(kafka_topics, "old again"))

    new.publish(effects(kafka_topics, "new"))
    new.close()
    assert [one.user_id for one, _ in visible()] == ["new"]
