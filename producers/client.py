"""What every producer and admin client of this package is made with, and what an error of theirs says."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream_rec.config import KafkaSettings
from stream_rec.errors import BrokerError

DEFAULT_MAX_REQUEST_BYTES = 1_048_576
DISCARD_TIMEOUT_S = 1.0


def client_options(kafka: KafkaSettings, client_id: str) -> dict[str, Any]:
    """``kafka.client`` as every kafka-python client takes it."""
    options = {
        "client_id": client_id,
        # kafka-python's half a minute would make every short outage a long one.
        "reconnect_backoff_max_ms": 2_000,
        **kafka.client,
        "bootstrap_servers": kafka.bootstrap_servers,
    }
    if isinstance(options.get("api_version"), list):
        options["api_version"] = tuple(options["api_version"])  # TOML has no tuples
    return options


def producer_options(kafka: KafkaSettings, client_id: str) -> dict[str, Any]:
    """``kafka.client`` and ``kafka.producer`` with the promises of this package on top."""
    return {
        "bootstrap_timeout_ms": min(10_000, kafka.max_block_ms),
        **client_options(kafka, client_id),
        **kafka.producer,
        "compression_type": None if kafka.compression == "none" else kafka.compression,
        "max_block_ms": kafka.max_block_ms,
        "allow_auto_create_topics": False,
        "enable_idempotence": True,
        "acks": "all",
    }


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
