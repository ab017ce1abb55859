"""Decoded records that wait to be asked for: bounded, in log order, merged over partitions by log time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from stream_rec.records import Event, Origin, Received, Rejected

Entry = tuple[int, int, Event | Rejected]  # log time (ms), offset, what it decoded to
Partition = tuple[str, int]


class Buffer:
    """One queue a partition.

    ``take`` gives the records of a partition in the order of its log, and merges partitions by the time that the
    log gives their records: after an outage a worker that owns eight partitions then learns from all eight hour by
    hour, instead of from the whole of the first before it has seen anything of the last.
    """

    def __init__(self) -> None:
        self._queues: dict[Partition, deque[Entry]] = {}
        self._num_held = 0

    def __len__(self) -> int:
        return self._num_held

    def extend(self, partition: Partition, entries: Iterable[Entry]) -> None:
        """Append ``entries`` of one partition, in log order."""
        queue = self._queues.setdefault(partition, deque())
        before = len(queue)
        queue.extend(entries)
        self._num_held += len(queue) - before

    def drop(self, partition: Partition) -> None:
        """Forget what is held of a partition that is no longer ours: its next owner reads it again."""
        self._num_held -= len(self._queues.pop(partition, ()))

    def first_offset(self, partition: Partition) -> int | None:
        """Offset of the oldest record held of a partition, None where none is held."""
        queue = self._queues.get(partition)
        return queue[0][1] if queue else None

    def take(self, max_records: int) -> list[tuple[Partition, Entry]]:
        """At most ``max_records`` entries, oldest log time first among the heads of the queues."""
        heads = [(queue[0][0], partition) for partition, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        taken: list[tuple[Partition, Entry]] = []
        while heads and len(taken) < max_records:
            _, partition = heads[0]
            queue = self._queues[partition]
            taken.append((partition, queue.popleft()))
            if queue:
                heapq.heapreplace(heads, (queue[0][0], partition))
            else:
                heapq.heappop(heads)
        self._num_held -= len(taken)
        return taken


def sort_out(taken: Iterable[tuple[Partition, Entry]], received: list[Received], rejected: list[Rejected]) -> None:
    """Split what was taken into usable events and rejected records, keeping the order in each."""
    for (topic, partition), (_, offset, decoded) in taken:
        if isinstance(decoded, Rejected):
            rejected.append(decoded)
        else:
            received.append(Received(decoded, Origin(topic, partition, offset)))
