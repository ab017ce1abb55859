"""Events and catalogue entries into their topics: for replays, for the demo, for tests."""

from __future__ import annotations

import threading

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaConfigurationError, KafkaError, MessageSizeTooLargeError

from producers.client import close_producer, producer_options, unreachable
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError, SettingsError
from stream_rec.records import Event, Item

MAX_OUTSTANDING = 10_000
CLOSE_TIMEOUT_S = 10.0


class KafkaEventWriter:
    """An idempotent producer outside any transaction: what it sends is readable at once.

    Sending returns before the broker has answered; ``flush`` waits for all answers and raises BrokerError for the
    first that was no. At most ten thousand records are outstanding, so a log of any length passes through.
    """

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, client_id: str = "stream-rec-writer") -> None:
        self._kafka = kafka
        self._topics = topics
        self._encode = msgspec.json.Encoder().encode
        self._num_outstanding = 0
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        # Latency is nobody's concern here, and batches are what makes a replay fast.
        options = {"linger_ms": 5, "batch_size": 131_072} | producer_options(kafka, client_id)
        try:
            self._producer = KafkaProducer(**options)
        except (KafkaConfigurationError, ValueError) as error:
            raise SettingsError(f"kafka.client or kafka.producer is not as kafka-python wants it: {error}") from error
        except KafkaError as error:
            raise unreachable(kafka, "connecting a producer", error) from error

    def __enter__(self) -> KafkaEventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def event(self, event: Event, log_timestamp_ms: int | None = None) -> None:
        """Send to ``events``, key = user_id.

        The record carries the time of now unless ``log_timestamp_ms`` is given: with the time of an event of last
        year the broker's retention would delete it as soon as it is written.
        """
        self.raw(self._topics.events.name, event.user_id.encode(), self._encode(event), log_timestamp_ms)

    def item(self, item: Item) -> None:
        """Send to ``items``, key = item_id. A tombstone is ``raw(topic, key, None)``."""
        self.raw(self._topics.items.name, item.item_id.encode(), self._encode(item))

    def raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Send bytes as they are. Raises BrokerError where the topic is missing or the record is too large."""
        if self._num_outstanding >= MAX_OUTSTANDING:
            self.flush()
        try:
            sent = self._producer.send(
                topic, value, key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
            )
        except MessageSizeTooLargeError as error:
            raise BrokerError(
                f"A record for topic {topic} is too large for kafka.producer.max_request_size: {error}"
            ) from error
        except KafkaError as error:
            raise unreachable(self._kafka, f"sending to topic {topic}", error) from error
        self._num_outstanding += 1
        sent.add_errback(self._note)

    def flush(self) -> None:
        """Wait until every record sent so far is acknowledged, for at most ``kafka.max_block_ms``.

        Raises BrokerError where one was not.
        """
        try:
            self._producer.flush(timeout=self._kafka.max_block_ms / 1000)
        except KafkaError as error:
            raise unreachable(self._kafka, "sending", error) from error
        self._num_outstanding = 0
        with self._lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise unreachable(self._kafka, "sending", failure) from failure

    def close(self) -> None:
        """Flush what can be flushed in ten seconds, release sockets and threads. Idempotent."""
        close_producer(self._producer, min(CLOSE_TIMEOUT_S, self._kafka.max_block_ms / 1000))

    def _note(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
