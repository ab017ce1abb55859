"""Fixtures of the tests that publish through a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient

from consumers.lists import read_lists
from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.records import (
    Event,
    Origin,
    Recommendation,
)
from tests.producers.kafka_worker import Worker


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
