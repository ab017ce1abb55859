"""What a broker says has become of every record: the group's offsets, the journal, the lists."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
from kafka import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError

from consumers.lists import read_lists
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.records import JournalRecord, Recommendation
from tests.kafka_records import records_of

MALFORMED_KEY = b"malformed-"  # by which the tests key what is no event


def committed(kafka: KafkaSettings) -> dict[int, int]:
    """Partition of ``events`` → the group's committed offset."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        offsets = admin.list_group_offsets([kafka.group_id])[kafka.group_id]
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        return {}  # a new broker makes the topic of offsets when the first group asks for it
    finally:
        admin.close()
    return {partition.partition: at.offset for partition, at in offsets.items() if at.offset >= 0}


def ends_of(kafka: KafkaSettings, topics: TopicsSettings) -> dict[int, int]:
    """Partition of ``events`` → the offset after its last record."""
    return {record.partition: record.offset + 1 for record in records_of(kafka, topics.events.name)}


def journal_of(kafka: KafkaSettings, topics: TopicsSettings) -> list[JournalRecord]:
    """Every batch that was published, oldest first."""
    return [msgspec.json.decode(record.value, type=JournalRecord) for record in records_of(kafka, topics.journal.name)]


def check_that_all_is_taken_once(journal: list[JournalRecord], ends: dict[int, int]) -> None:
    """Laid side by side, what the batches took covers every offset of every partition exactly once."""
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one in journal:
        for _, partition, first, after in one.taken:
            if first != after:
                taken[partition].append((first, after))
    assert taken.keys() == ends.keys()
    for partition, end in ends.items():
        ranges = sorted(taken[partition])
        assert [first for first, _ in ranges] == [0, *(after for _, after in ranges[:-1])], partition
        assert ranges[-1][1] == end
    num_taken = sum(one.num_learnt + one.num_rejected for one in journal)
    assert num_taken == sum(ends.values())


def check_the_lists(kafka: KafkaSettings, topics: TopicsSettings) -> list[Recommendation]:
    """Each user's newest list reflects his last event; it is full, names no item twice, and is sorted."""
    events: list[Any] = records_of(kafka, topics.events.name)
    last = {
        record.key.decode(): (record.partition, record.offset)
        for record in events
        if not record.key.startswith(MALFORMED_KEY)
    }
    newest = {one.user_id: one for one, _ in read_lists(kafka, topics, stop_at_end=True)}
    assert {user: (one.caused_by.partition, one.caused_by.offset) for user, one in newest.items()} == last
    for one in newest.values():
        items = [item.item_id for item in one.items]
        assert len(items) == len(set(items)) == 20
        assert [item.rank for item in one.items] == list(range(1, 21))
        assert [item.score for item in one.items] == sorted((item.score for item in one.items), reverse=True)
    return list(newest.values())
