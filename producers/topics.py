"""The topics: created where they are missing, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaConfigurationError, KafkaError, TopicAlreadyExistsError, for_code

from producers.client import client_options, unreachable
from stream_rec.config import KafkaSettings, TopicSettings, TopicsSettings
from stream_rec.errors import BrokerError, SettingsError

BOOTSTRAP_TIMEOUT_MS = 5_000
REQUEST_TIMEOUT_MS = 15_000
UNKNOWN_TOPIC = 3


def ensure_topics(kafka: KafkaSettings, topics: TopicsSettings) -> list[str]:
    """Create the missing ones of the five topics; the names of those created, in the order of the settings.

    Existing topics are left as they are. Raises BrokerError where no broker answers within five seconds
    (``kafka.client.bootstrap_timeout_ms``), where a topic cannot be created, or where some are missing and
    ``topics.create_missing`` is false.
    """
    wanted = [topics.events, topics.items, topics.recommendations, topics.dead_letters, topics.journal]
    names = [topic.name for topic in wanted]
    with _admin(kafka) as admin:
        missing = _missing(kafka, admin.describe_topics(names))
        if missing and not topics.create_missing:
            raise BrokerError(
                f"Topics missing at {', '.join(kafka.bootstrap_servers)}: {', '.join(missing)}. Create them, or set "
                "topics.create_missing = true."
            )
        created = [topic.name for topic in wanted if topic.name in missing and _create(kafka, admin, topic)]
        admin.wait_for_topics(names, timeout_ms=REQUEST_TIMEOUT_MS)
    return created


@contextmanager
def _admin(kafka: KafkaSettings) -> Iterator[KafkaAdminClient]:
    defaults = {"bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS, "request_timeout_ms": REQUEST_TIMEOUT_MS}
    try:
        admin = KafkaAdminClient(**(defaults | client_options(kafka, "stream-rec-topics")))
    except KafkaConfigurationError as error:
        raise SettingsError(f"kafka.client is not as kafka-python wants it: {error}") from error
    except KafkaError as error:
        raise unreachable(kafka, "connecting", error) from error
    try:
        yield admin
    except KafkaError as error:
        raise unreachable(kafka, "looking after topics", error) from error
    finally:
        admin.close()


def _missing(kafka: KafkaSettings, described: list[dict[str, Any]]) -> list[str]:
    missing = []
    for topic in described:
        if topic["error_code"] == UNKNOWN_TOPIC:
            missing.append(topic["name"])
        elif topic["error_code"]:
            raise unreachable(kafka, f"looking for topic {topic['name']}", for_code(topic["error_code"])())
    return missing


def _create(kafka: KafkaSettings, admin: KafkaAdminClient, topic: TopicSettings) -> bool:
    configs = {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms)}
    if topic.compacted:
        configs["cleanup.policy"] = "compact" if topic.retention_ms == -1 else "compact,delete"
    wanted = {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replication,
        "configs": configs,
    }
    try:
        admin.create_topics({topic.name: wanted})
    except TopicAlreadyExistsError:
        return False  # another worker that starts beside us was faster
    except KafkaError as error:
        what = f"creating topic {topic.name} ({topic.partitions} partitions, replication {topic.replication})"
        raise unreachable(kafka, what, error) from error
    return True
