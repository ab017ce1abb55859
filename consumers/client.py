"""How every consumer of this package is made: what we set, what the user may set, what an error says."""

from __future__ import annotations

import importlib.util
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaConfigurationError, KafkaError

from stream_rec.config import KafkaSettings
from stream_rec.errors import BrokerError, SettingsError

CLOSE_TIMEOUT_MS = 5_000


def new_consumer(kafka: KafkaSettings, client_id: str, **ours: Any) -> KafkaConsumer:
    """A KafkaConsumer with ``kafka.client`` and ``kafka.consumer`` passed through, and ``ours`` on top.

    Blocks until a broker has answered, for at most ``bootstrap_timeout_ms`` (10 s unless set). Raises SettingsError
    for an option that kafka-python does not know, BrokerError where no broker answers.
    """
    require_crc32c()
    options: dict[str, Any] = {
        "client_id": client_id,
        "bootstrap_timeout_ms": 10_000,
        # kafka-python's half a minute would make every short outage a long one.
        "reconnect_backoff_max_ms": 2_000,
        **kafka.client,
        **kafka.consumer,
    }
    if isinstance(options.get("api_version"), list):
        options["api_version"] = tuple(options["api_version"])  # TOML has no tuples
    options |= {
        "bootstrap_servers": kafka.bootstrap_servers,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        # Never reset silently: a position that the log does not hold is decided on here, and said aloud.
        "auto_offset_reset": "none",
    }
    try:
        return KafkaConsumer(**(options | ours))
    except KafkaConfigurationError as error:
        raise SettingsError(f"kafka.client or kafka.consumer is not as kafka-python wants it: {error}") from error
    except KafkaError as error:
        raise unreachable(kafka, error) from error


def require_crc32c() -> None:
    """Raises BrokerError where the ``crc32c`` package is missing.

    kafka-python then checks every record in pure Python, 4.4 times slower to consume, and says nothing.
    """
    if importlib.util.find_spec("crc32c") is None:
        raise BrokerError(
            "The Python package crc32c is missing, without which Kafka is read at a quarter of the speed: "
            "`pip install crc32c`."
        )


def unreachable(kafka: KafkaSettings, error: BaseException) -> BrokerError:
    """The error for a broker that does not answer or refuses, naming the servers that were tried."""
    servers = ", ".join(kafka.bootstrap_servers)
    return BrokerError(f"Kafka at {servers} cannot be read: {type(error).__name__}: {error}")


def position_of(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """The offset that would be fetched next, transaction markers and aborted records passed over.

    ``KafkaConsumer.position`` asks the broker as well, for every partition that has none yet, and raises for those.
    """
    at = consumer._subscription.position(partition)
    return None if at is None else at.offset
