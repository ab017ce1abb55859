"""The items source: the compacted topic ``items``, read whole at every start and then followed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog
from kafka import TopicPartition
from kafka.errors import CorruptRecordError, KafkaError, OffsetOutOfRangeError, RetriableError

from consumers.client import CLOSE_TIMEOUT_MS, new_consumer, position_of, unreachable
from consumers.decode import Decoder
from consumers.records import decode_args, skip_unreadable
from stream_rec.config import DecodeSettings, KafkaSettings, TopicsSettings
from stream_rec.errors import BrokerError
from stream_rec.records import Origin, Polled, Rejected

log = structlog.get_logger("consumers.catalogue")

ASK_TIMEOUT_MS = 10_000
MAX_RECORDS_A_POLL = 4_096


class KafkaCatalogue:
    """All partitions of ``items``, assigned without a group: every worker needs the whole catalogue.

    Nothing is committed: the newest record of every key stays in a compacted topic, so reading it whole is at once
    the way to start and the way to recover. A tombstone says that an item is gone.

    The constructor blocks until a broker has answered. Raises BrokerError where none does or the topic is missing.
    """

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, decode: DecodeSettings, worker_name: str) -> None:
        self._kafka = kafka
        self._decoder = Decoder(decode)
        self._closed = False
        self._consumer = new_consumer(
            kafka, client_id=f"{worker_name}-catalogue", group_id=None, group_instance_id=None
        )
        topic = topics.items.name
        try:
            self._begin(topic)
        except KafkaError as error:
            self.close()
            raise unreachable(kafka, error) from error
        except BrokerError:
            self.close()
            raise

    def _begin(self, topic: str) -> None:
        known = self._consumer.partitions_for_topic(topic)
        if not known:
            raise BrokerError(
                f"Topic {topic} (the catalogue) is missing at {', '.join(self._kafka.bootstrap_servers)}: create it, "
                "or set topics.create_missing."
            )
        partitions = [TopicPartition(topic, number) for number in sorted(known)]
        first = self._consumer.beginning_offsets(partitions, timeout_ms=ASK_TIMEOUT_MS)
        end = self._consumer.end_offsets(partitions, timeout_ms=ASK_TIMEOUT_MS)
        self._consumer.assign(partitions)
        for partition in partitions:
            self._consumer.seek(partition, first[partition])
        self._to_read = {p: end[p] for p in partitions if end[p] > first[p]}

    @property
    def caught_up(self) -> bool:
        """Whether everything that was in the topic at the start has been handed out."""
        return not self._to_read

    def poll(self, polled: Polled, timeout_s: float) -> None:
        """Append the next changes, a few thousand at most, and the unusable records to ``polled``.

        Waits at most ``timeout_s`` for the first. Raises BrokerError where the broker refuses.
        """
        fetched: dict[TopicPartition, list[Any]] = {}
        try:
            try:
                fetched = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=MAX_RECORDS_A_POLL)
            except CorruptRecordError as error:
                polled.rejected.append(skip_unreadable(self._consumer, error))
        except OffsetOutOfRangeError as error:
            self._begin_again(error.args[0])
        except RetriableError as error:
            log.warning("kafka does not answer", error=str(error), servers=self._kafka.bootstrap_servers)
        except KafkaError as error:
            raise unreachable(self._kafka, error) from error
        for records in fetched.values():
            for record in records:
                origin = Origin(record.topic, record.partition, record.offset)
                update = self._decoder.item(*decode_args(record, origin))
                if isinstance(update, Rejected):
                    polled.rejected.append(update)
                else:
                    polled.item_updates.append(update)
        for partition in list(self._to_read):
            at = position_of(self._consumer, partition)
            if at is not None and at >= self._to_read[partition]:
                del self._to_read[partition]

    def _begin_again(self, lost: dict[TopicPartition, int]) -> None:
        # Records were deleted under us. What is left is the catalogue, so reading it whole loses nothing.
        first = self._consumer.beginning_offsets(list(lost), timeout_ms=ASK_TIMEOUT_MS)
        for partition, at in lost.items():
            log.warning("items were deleted under the reader; reading on", partition=partition.partition, lost_at=at)
            self._consumer.seek(partition, first[partition])

    def close(self) -> None:
        """Release sockets and threads. Idempotent."""
        if not self._closed:
            self._closed = True
            with suppress(RetriableError):
                self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
