"""The sink: lists, dead letters, the journal and the consumer's positions become visible together or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import msgspec
import structlog
from kafka import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    KafkaConfigurationError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from producers.client import DEFAULT_MAX_REQUEST_BYTES, close_producer, discard, producer_options, unreachable
from producers.dead_letters import dead_letter
from producers.transaction import Deadline, TransactionalProducer
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.errors import FencedError, RebalancedError, SettingsError
from stream_rec.records import Effects

log = structlog.get_logger("producers.recommendations")

Partition = tuple[str, int]

FENCED = (ProducerFencedError, InvalidProducerEpochError, FencedInstanceIdError)
REBALANCED = (CommitFailedError, IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError)

ABORT_TIMEOUT_S = 2.0
CLOSE_TIMEOUT_S = 5.0
# What every broker takes: the size of dead letters once one has been refused that the producer would have sent.
SAFE_LETTER_BYTES = 16_384


class KafkaSink:
    """``stream_rec.ports.Sink`` over one idempotent, transactional producer.

    ``transactional_id`` names the worker: the newest producer of that name fences all older ones, at construction.
    ``group_metadata`` and ``assignment`` are the source's, asked at every publish: a batch with positions of a
    partition that has gone is refused before anything is sent. The broker checks the membership (KIP-447) but not
    who owns a partition, and takes offsets from a former member that does not say that it ever was one.

    The constructor raises BrokerError where no broker answers within ``kafka.max_block_ms``.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicsSettings,
        transactional_id: str,
        group_metadata: Callable[[], ConsumerGroupMetadata],
        assignment: Callable[[], frozenset[Partition]],
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._transactional_id = transactional_id
        self._group_metadata = group_metadata
        self._assignment = assignment
        self._options = producer_options(kafka, transactional_id)
        self._max_letter_bytes = int(self._options.get("max_request_size", DEFAULT_MAX_REQUEST_BYTES))
        self._encode = msgspec.json.Encoder().encode
        self._fenced: FencedError | None = None
        self._closed = False
        self._producer: TransactionalProducer | None = self._new_producer()

    def publish(self, effects: Effects) -> None:
        """1. lists, dead letters and the journal are sent; 2. the positions are added; 3. all is acknowledged;
        4. the transaction is committed. It returns when the commit is acknowledged.

        Raises RebalancedError, FencedError or BrokerError as the port says; after the first two nothing has become
        visible. After a BrokerError in step 4 the outcome is not known: the group's committed offsets tell, and the
        next producer of this name finishes or aborts what was left.
        """
        assert not self._closed, "publish after close"
        if self._fenced:
            raise self._fenced
        while True:
            try:
                return self._transact(effects)
            except MessageSizeTooLargeError as error:
                if not effects.rejected or self._max_letter_bytes <= SAFE_LETTER_BYTES:
                    raise unreachable(self._kafka, "publishing a batch", error) from error
                # The topic takes less than the producer may send. A dead letter cut short beats a dead worker.
                log.warning("dead letters are cut short from now on", max_bytes=SAFE_LETTER_BYTES, error=str(error))
                self._max_letter_bytes = SAFE_LETTER_BYTES

    def close(self) -> None:
        """Release sockets and threads. Idempotent."""
        self._closed = True
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer, CLOSE_TIMEOUT_S)

    def _transact(self, effects: Effects) -> None:
        deadline = Deadline(self._kafka.max_block_ms / 1000)
        group = self._membership(effects)
        if self._producer is None:
            self._producer = self._new_producer()
        producer = self._producer
        offsets = {
            TopicPartition(p.topic, p.partition): OffsetAndMetadata(p.offset, "", -1)
            for p in effects.next_positions
            if p.topic == self._topics.events.name
        }
        try:
            producer.begin_transaction()
            sent = self._send(producer, effects)
            if offsets:
                producer.send_offsets_within(offsets, group, deadline.left_s())
            # A batch that timed out inside the producer fails its future and leaves the transaction healthy: without
            # this look at each, the commit would make the rest visible.
            for future in sent:
                future.get(timeout=deadline.left_s())
            producer.commit_within(deadline.left_s())
        except KafkaError as error:
            cause = producer.cause_of(error)
            self._give_up(abort=not isinstance(cause, FENCED))
            self._explain(cause, "publishing a batch")
        except BaseException:
            self._give_up(abort=True)
            raise

    def _membership(self, effects: Effects) -> ConsumerGroupMetadata:
        group = self._group_metadata()
        if effects.next_positions and group.generation_id < 0:
            raise RebalancedError(
                f"This worker is no member of group {group.group_id} at the moment: it was dropped, or has not joined "
                "yet. Nothing was published; the next poll joins again."
            )
        gone = {(p.topic, p.partition) for p in effects.next_positions} - self._assignment()
        if gone:
            raise RebalancedError(
                f"Partitions {sorted(gone)} went to another worker before their batch was published. "
                "Nothing was published."
            )
        return group

    def _send(self, producer: TransactionalProducer, effects: Effects) -> list[Any]:
        topics, encode = self._topics, self._encode
        sent = []
        for one in effects.lists:
            sent.append(producer.send(topics.recommendations.name, key=one.user_id.encode(), value=encode(one)))
        for rejected in effects.rejected:
            letter = dead_letter(rejected, self._max_letter_bytes)
            sent.append(producer.send(topics.dead_letters.name, letter.value, letter.key, letter.headers))
        journal = effects.journal
        sent.append(producer.send(topics.journal.name, key=journal.worker.encode(), value=encode(journal)))
        return sent

    def _new_producer(self) -> TransactionalProducer:
        try:
            producer = TransactionalProducer(
                **self._options,
                transactional_id=self._transactional_id,
                transaction_timeout_ms=self._kafka.transaction_timeout_ms,
            )
        except (KafkaConfigurationError, ValueError) as error:
            raise SettingsError(f"kafka.client or kafka.producer is not as kafka-python wants it: {error}") from error
        except KafkaError as error:
            raise unreachable(self._kafka, "connecting a producer", error) from error
        try:
            producer.init_transactions()
        except KafkaError as error:
            cause = producer.cause_of(error)
            discard(producer)
            self._explain(cause, f"beginning transactions as {self._transactional_id}")
        return producer

    def _give_up(self, abort: bool) -> None:
        producer, self._producer = self._producer, None
        assert producer is not None
        if abort:
            # Where this fails the broker aborts at transaction_timeout_ms, or the next producer does.
            with suppress(KafkaError):
                producer.abort_within(ABORT_TIMEOUT_S)
        discard(producer)

    def _explain(self, cause: BaseException, what: str) -> NoReturn:
        if isinstance(cause, FENCED):
            self._fenced = FencedError(
                f"Another worker named {self._transactional_id} has started and taken over; this one must stop. "
                "Give every worker its own worker.name."
            )
            raise self._fenced from cause
        if isinstance(cause, REBALANCED):
            raise RebalancedError(f"The group was rebalanced before the batch was committed: {cause}") from cause
        if isinstance(cause, MessageSizeTooLargeError):
            raise cause
        raise unreachable(self._kafka, what, cause) from cause
