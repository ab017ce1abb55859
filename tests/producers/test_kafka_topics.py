"""Topics made and refused on a real broker."""

from __future__ import annotations

import threading

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from producers.topics import ensure_topics
from stream_rec.config import KafkaSettings, TopicSettings, TopicsSettings
from stream_rec.errors import BrokerError, SettingsError

pytestmark = pytest.mark.kafka


def described(kafka: KafkaSettings, names: list[str]) -> dict[str, tuple[int, str | None, str | None]]:
    """Partitions, cleanup.policy and retention.ms of each topic."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    partitions = {t["name"]: len(t["partitions"]) for t in admin.describe_topics(names)}
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, n) for n in names], config_filter="all")
    admin.close()
    values = {n: {k: v["value"] for k, v in configs["topic"][n].items()} for n in names}
    return {n: (partitions[n], values[n]["cleanup.policy"], values[n]["retention.ms"]) for n in names}


def names_of(topics: TopicsSettings) -> list[str]:
    return [t.name for t in (topics.events, topics.items, topics.recommendations, topics.dead_letters, topics.journal)]


def test_missing_topics_are_created_as_the_settings_say_and_only_they(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    names = names_of(kafka_topics)
    both = kafka_topics.journal.model_copy(update={"compacted": True, "retention_ms": 60_000})
    topics = kafka_topics.model_copy(update={"journal": both})

    assert ensure_topics(kafka_settings, topics) == names
    assert ensure_topics(kafka_settings, topics) == []

    assert described(kafka_settings, names) == {
        topics.events.name: (2, "delete", "604800000"),
        topics.items.name: (1, "compact", "-1"),
        topics.recommendations.name: (2, "compact", "-1"),
        topics.dead_letters.name: (1, "delete", "604800000"),
        topics.journal.name: (1, "compact,delete", "60000"),
    }


def test_missing_topics_are_refused_by_name_where_they_must_not_be_created(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    ensure_topics(kafka_settings, kafka_topics)
    elsewhere = TopicSettings(name=f"{kafka_topics.journal.name}-elsewhere")
    topics = kafka_topics.model_copy(update={"create_missing": False, "journal": elsewhere})

    with pytest.raises(BrokerError, match=rf"Topics missing at .*: {elsewhere.name}\. .*topics\.create_missing"):
        ensure_topics(kafka_settings, topics)


def test_workers_that_start_together_create_each_topic_once(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    created: list[str] = []
    threads = [
        threading.Thread(target=lambda: created.extend(ensure_topics(kafka_settings, kafka_topics))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(created) == sorted(names_of(kafka_topics))


def test_what_the_broker_refuses_is_said_with_the_topic(
    kafka_settings: KafkaSettings, kafka_topics: TopicsSettings
) -> None:
    greedy = kafka_topics.events.model_copy(update={"replication": 3})

    with pytest.raises(BrokerError, match=rf"creating topic {greedy.name} \(2 partitions, replication 3\) failed"):
        ensure_topics(kafka_settings, kafka_topics.model_copy(update={"events": greedy}))


def test_no_broker_is_an_error_that_names_the_servers(kafka_topics: TopicsSettings) -> None:
    servers = ["127.0.0.1:1", "127.0.0.1:2"]
    kafka = KafkaSettings(bootstrap_servers=servers, client={"bootstrap_timeout_ms": 400})

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1, 127\.0\.0\.1:2: connecting failed"):
        ensure_topics(kafka, kafka_topics)


def test_an_option_that_the_client_does_not_know_is_a_settings_error(kafka_topics: TopicsSettings) -> None:
    with pytest.raises(SettingsError, match="securty_protocol"):
        ensure_topics(KafkaSettings(client={"securty_protocol": "SSL"}), kafka_topics)
