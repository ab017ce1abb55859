"""What the group gives us and takes from us, noted on kafka-python's IO thread and acted upon on ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition


class Change(Enum):
    """What happened to some partitions."""

    ASSIGNED = "assigned"
    TAKEN = "taken"  # revoked in order, or lost with the membership: either way no longer ours


class RebalanceNotes(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Listener of a cooperative group (KIP-429) that touches nothing but a list and the pause flags.

    kafka-python runs listeners on its IO thread, where every blocking call (``commit``, ``committed``,
    ``beginning_offsets``) raises, and where our buffers are not. So a new partition is paused at once, before the
    first fetch can be sent for it, and stays so until the polling thread has decided where to begin. Pausing is safe
    here and only here: a partition that has never been fetched has no parked records that kafka-python could forget.
    """

    def __init__(self, pause: Callable[..., None]) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._changes: list[tuple[Change, frozenset[TopicPartition]]] = []
        self.num_rebalances = 0

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = frozenset(assigned)
        self._pause(*partitions)
        self._note(Change.ASSIGNED, partitions)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._note(Change.TAKEN, frozenset(revoked))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._note(Change.TAKEN, frozenset(lost))

    def _note(self, change: Change, partitions: frozenset[TopicPartition]) -> None:
        with self._lock:
            self._changes.append((change, partitions))
            self.num_rebalances += 1

    def take(self) -> list[tuple[Change, frozenset[TopicPartition]]]:
        """The changes since the last call, oldest first."""
        with self._lock:
            changes, self._changes = self._changes, []
        return changes


class _FinishedJoin:
    """Stands for a join that has succeeded, for kafka-python to await once more."""

    is_done = False

    def __init__(self, assignment: bytes) -> None:
        self._assignment = assignment

    def add_callback(self, callback: Callable[[bytes], Any]) -> None:
        callback(self._assignment)

    def add_errback(self, _: Callable[[BaseException], Any]) -> None:
        """There is no error to hand on."""


def keep_finished_join(consumer: KafkaConsumer) -> None:
    """To be called before every ``poll`` of a group member: else two busy members may rebalance for ever.

    A join that outlasts one ``poll`` goes on in the background. Where it ends before the next, kafka-python (3.0.12)
    finds it done, throws the assignment away and joins anew, which makes every other member join anew. Members that
    spend more time in their work than in ``poll`` then never meet, and read nothing while they try.
    """
    coordinator = consumer._coordinator
    join = coordinator._join_task
    if join is not None and join.is_done and join.succeeded() and coordinator.rebalance_in_progress():
        coordinator._join_task = _FinishedJoin(join.value)
