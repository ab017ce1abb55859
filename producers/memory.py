"""A sink that keeps what is published in memory: for the demo, for replays and for tests."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

from stream_rec.errors import BrokerError
from stream_rec.records import Effects, JournalRecord, Position, Recommendation, Rejected


class MemorySink:
    """A sink (``stream_rec.ports.Sink``) that holds, each up to ``keep``, the newest list of the users published
    last, the newest dead letters and the newest lines of the journal. Threads may look while another publishes.

    ``on_effects`` sees all effects first and may refuse them by raising; ``log_commit`` commits their positions.
    """

    def __init__(
        self,
        log_commit: Callable[[list[Position]], None] | None = None,
        on_effects: Callable[[Effects], None] | None = None,
        keep: int = 10_000,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, must be at least 1")
        self._log_commit = log_commit
        self._on_effects = on_effects
        self._keep = keep
        self._lock = Lock()
        self._lists: OrderedDict[str, Recommendation] = OrderedDict()
        self._dead_letters: deque[Rejected] = deque(maxlen=keep)
        self._journal: deque[JournalRecord] = deque(maxlen=keep)
        self._is_closed = False
        self.num_batches = 0
        self.num_lists = 0
        self.num_rejected = 0

    def publish(self, effects: Effects) -> None:
        """Make all effects visible together, or raise and keep none of them.

        1. ``on_effects`` is called; 2. the positions are committed; 3. lists, dead letters, journal and counts
        change under one lock, which cannot fail. Where 2. raises, ``on_effects`` has seen what did not become
        visible and will see it again. Raises what these two raise, and BrokerError after ``close``.
        """
        if self._is_closed:
            raise BrokerError("the sink is closed: nothing can be published")
        if self._on_effects is not None:
            self._on_effects(effects)
        if self._log_commit is not None:
            self._log_commit(effects.next_positions)
        with self._lock:
            for recommendation in effects.lists:
                self._lists[recommendation.user_id] = recommendation
                self._lists.move_to_end(recommendation.user_id)
            while len(self._lists) > self._keep:
                self._lists.popitem(last=False)
            self._dead_letters.extend(effects.rejected)
            self._journal.append(effects.journal)
            self.num_batches += 1
            self.num_lists += len(effects.lists)
            self.num_rejected += len(effects.rejected)

    def close(self) -> None:
        """Nothing more is published; what was stays to be looked at. Idempotent."""
        self._is_closed = True

    def latest(self, user_id: str) -> Recommendation | None:
        """The newest list of a user, or None where there is none or it had to make room."""
        with self._lock:
            return self._lists.get(user_id)

    def lists(self) -> dict[str, Recommendation]:
        """A copy: user → newest list, the one published longest ago first."""
        with self._lock:
            return dict(self._lists)

    def dead_letters(self) -> list[Rejected]:
        """A copy of the newest dead letters, oldest first."""
        with self._lock:
            return list(self._dead_letters)

    def journal(self) -> list[JournalRecord]:
        """A copy of the newest lines of the journal, oldest first."""
        with self._lock:
            return list(self._journal)
