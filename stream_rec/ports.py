"""What the worker needs of the world, by Protocol: the same loop runs on Kafka, on a file and in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from stream_rec.records import Effects, Polled, Position

Partition = tuple[str, int]  # topic, partition


class Clock(Protocol):
    """Time, injected: the loop reads no clock of its own."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Source(Protocol):
    """Where events and catalogue changes come from."""

    @property
    def num_rebalances(self) -> int:
        """How often the owned partitions have changed."""
        ...

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """At most ``max_records`` events and rejected records, waiting at most ``timeout_s`` for the first."""
        ...

    def assignment(self) -> frozenset[Partition]:
        """The event partitions owned right now."""
        ...

    def restart_at(self, positions: Iterable[Position]) -> None:
        """Said once, before the first poll: the positions that a snapshot reflects.

        A partition among these is read from there when it is first assigned, others from the group's
        committed offset. Raises BrokerError where a log no longer holds the position.
        """
        ...

    def committed(self) -> Sequence[Position]:
        """The group's committed positions of the owned partitions as they were when these were assigned.

        Events before them have been published already: they are learnt again after a restart, not published.
        """
        ...

    def lag(self) -> dict[Partition, int]:
        """Records between the position and the end of the log, by owned partition."""
        ...

    def connected(self) -> bool:
        """Whether the log can be reached right now. Cheap: asked at every step."""
        ...

    def close(self) -> None:
        """Leave the group, release sockets and threads. Idempotent."""
        ...


class Sink(Protocol):
    """Where lists, dead letters, the journal and the positions go, in one transaction."""

    def publish(self, effects: Effects) -> None:
        """Make all effects visible together and acknowledged, or raise and leave none visible.

        Raises RebalancedError (publish again without the lost partitions), FencedError (stop),
        BrokerError (the broker cannot be reached within the configured time).
        """
        ...

    def close(self) -> None:
        """Release sockets and threads. Idempotent."""
        ...
