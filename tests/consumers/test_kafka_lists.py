"""Lists read back from a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from consumers.lists import ListReader, read_lists
from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError
from stream_rec.records import CausedBy, Position, RankedItem, Recommendation

pytestmark = pytest.mark.kafka


@pytest.fixture
def writer(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> Iterator[KafkaEventWriter]:
    ensure_topics(kafka_settings, kafka_topics)
    with KafkaEventWriter(kafka_settings, kafka_topics) as writer:
        yield writer


def publish(writer: KafkaEventWriter, topics: TopicsSettings, numbers: range) -> list[Recommendation]:
    """List number n in partition n modulo 2."""
    lists = [
        Recommendation(f"u{n}", [RankedItem("i", 1.5, 1)], "v", 1, CausedBy("events", 0, n, 5), 6) for n in numbers
    ]
    for number, one in zip(numbers, lists, strict=True):
        topic = topics.recommendations.name
        writer.raw(topic, one.user_id.encode(), msgspec.json.encode(one), partition=number % 2)
    writer.flush()
    return lists


def test_from_the_start_to_the_end(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    assert list(read_lists(kafka_settings, kafka_topics, stop_at_end=True)) == []
    lists = publish(writer, kafka_topics, range(3_000))
    writer.raw(kafka_topics.recommendations.name, b"u1", None)  # somebody asked to be forgotten

    read = list(read_lists(kafka_settings, kafka_topics, stop_at_end=True))

    assert sorted(r.caused_by.offset for r, _ in read) == list(range(3_000))
    by_origin = {(o.partition, o.offset): r for r, o in read}
    assert by_origin[1, 3] == lists[7]


def test_from_given_positions_and_until_nothing_comes(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    publish(writer, kafka_topics, range(20))
    start = [Position(kafka_topics.recommendations.name, 1, 7)]

    read = list(read_lists(kafka_settings, kafka_topics, start, idle_timeout_s=0.5))

    assert sorted(r.caused_by.offset for r, _ in read) == [0, 2, 4, 6, 8, 10, 12, 14, 15, 16, 17, 18, 19]


def test_latest_is_settled_when_the_reader_is_made(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    publish(writer, kafka_topics, range(20))
    lists = read_lists(kafka_settings, kafka_topics, "latest", stop_at_end=True)
    publish(writer, kafka_topics, range(20, 30))

    assert sorted(r.caused_by.offset for r, _ in lists) == list(range(20, 30))


def test_what_is_no_list_is_an_error_that_says_where_it_lies(
    writer: KafkaEventWriter, kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    publish(writer, kafka_topics, range(2))
    topic = kafka_topics.recommendations.name
    writer.raw(topic, b"u", b'{"user_id": 1}', partition=1)
    writer.flush()

    with pytest.raises(BrokerError, match=rf"{topic}, partition 1, offset 1 is no list: .*user_id"):
        list(read_lists(kafka_settings, kafka_topics, stop_at_end=True))


def test_a_missing_topic_is_an_error_that_names_it(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> None:
    with pytest.raises(BrokerError, match=kafka_topics.recommendations.name):
        ListReader(kafka_settings, kafka_topics)
