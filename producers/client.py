"""What every producer and admin client of this package is made with, and what an error of theirs says."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream_rec.config import KafkaSettings
from stream_rec.errors import BrokerError, SettingsError

# Settings that carry a promise of this package; what the user may turn instead.
RESERVED = {
    "bootstrap_servers": "kafka.bootstrap_servers",
    "compression_type": "kafka.compression",
    "transaction_timeout_ms": "kafka.transaction_timeout_ms",
    "max_block_ms": "kafka.max_block_ms",
    "transactional_id": "worker.name",
    "enable_idempotence": "nothing: a retried record must not appear twice",
    "acks": "nothing: every replica in sync has a record before it counts as published",
    "allow_auto_create_topics": "topics.create_missing",
    "key_serializer": "nothing: records are encoded by producers/",
    "value_serializer": "nothing: records are encoded by producers/",
}
DEFAULT_MAX_REQUEST_BYTES = 1_048_576
DISCARD_TIMEOUT_S = 1.0


def client_options(kafka: KafkaSettings, client_id: str) -> dict[str, Any]:
    """``kafka.client`` as every kafka-python client takes it; SettingsError for what is not the user's to set."""
    return {
        "client_id": client_id,
        "bootstrap_servers": kafka.bootstrap_servers,
        **_given("kafka.client", kafka.client),
    }


def producer_options(kafka: KafkaSettings, client_id: str) -> dict[str, Any]:
    """``kafka.client`` and ``kafka.producer`` with the promises of this package on top."""
    return {
        "bootstrap_timeout_ms": min(10_000, kafka.max_block_ms),
        **client_options(kafka, client_id),
        **_given("kafka.producer", kafka.producer),
        "compression_type": None if kafka.compression == "none" else kafka.compression,
        "max_block_ms": kafka.max_block_ms,
        "allow_auto_create_topics": False,
        "enable_idempotence": True,
        "acks": "all",
    }


def _given(section: str, options: dict[str, Any]) -> dict[str, Any]:
    for key in options:
        if key in RESERVED:
            raise SettingsError(f"{section}.{key} cannot be set here; use {RESERVED[key]}")
    # TOML has no tuples, and kafka-python compares versions as tuples.
    return {k: tuple(v) if k == "api_version" and isinstance(v, list) else v for k, v in options.items()}


def unreachable(kafka: KafkaSettings, what: str, error: BaseException) -> BrokerError:
    """The error for a broker that does not answer or refuses, naming the servers and what was tried."""
    servers = ", ".join(kafka.bootstrap_servers)
    return BrokerError(f"Kafka at {servers}: {what} failed: {type(error).__name__}: {error}")


def close_producer(producer: KafkaProducer, timeout_s: float) -> None:
    """Send what waits and close, within ``timeout_s``; what no broker has taken by then is given up."""
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        discard(producer)


def discard(producer: KafkaProducer) -> None:
    """Give up at once, whatever is under way: no flush, no wait for a broker.

    ``KafkaProducer.close`` flushes first, and where the flush fails it closes nothing: thread and sockets stay.
    """
    producer._sender.force_close()
    producer._sender.join(DISCARD_TIMEOUT_S)
    # A sender that hangs in a connection attempt ends later; close() must not wait for its batches.
    producer._accumulator.abort_incomplete_batches()
    producer.close(timeout=0)
