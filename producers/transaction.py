"""kafka-python's transactional producer (KIP-98), with an end to every wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kafka import ConsumerGroupMetadata, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaTimeoutError


class TransactionalProducer(KafkaProducer):  # type: ignore[misc]  # kafka-python has no types
    """One producer, good until its first error.

    kafka-python's ``send_offsets_to_transaction``, ``commit_transaction`` and ``abort_transaction`` wait without
    limit for a broker that may never come back; what they enqueue is enqueued here and waited for within a time.

    After an error it must be discarded, also where the abort succeeds: kafka-python (3.0.12) keeps the offsets of a
    refused TxnOffsetCommit and sends them again with those of the next transaction, which would move the offsets of
    partitions that have gone to somebody else.
    """

    def send_offsets_within(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: ConsumerGroupMetadata, timeout_s: float
    ) -> None:
        """Add ``offsets`` of ``group`` to the transaction; the broker checks the membership (KIP-447)."""
        self._wait(self._transaction_manager.send_offsets_to_transaction(dict(offsets), group), timeout_s)

    def commit_within(self, timeout_s: float) -> None:
        """Make the transaction visible."""
        self._wait(self._transaction_manager.begin_commit(), timeout_s)

    def abort_within(self, timeout_s: float) -> None:
        """Make sure that nothing of the transaction ever becomes visible."""
        self._wait(self._transaction_manager.begin_abort(), timeout_s)

    def _wait(self, result: Any, timeout_s: float) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=max(0.0, timeout_s) * 1000):
            raise KafkaTimeoutError(f"the broker has not answered in {timeout_s:.1f} s")

    def cause_of(self, error: BaseException) -> BaseException:
        """What put the producer into its error state; ``error`` itself where nothing else did."""
        return self._transaction_manager.last_error or error


class Deadline:
    """Seconds that are left of one budget for several waits."""

    def __init__(self, budget_s: float) -> None:
        self._at_s = time.monotonic() + budget_s

    def left_s(self) -> float:
        """Never negative."""
        return max(0.0, self._at_s - time.monotonic())
