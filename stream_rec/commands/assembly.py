"""The parts of a worker put together, for every command that runs one."""

from __future__ import annotations

import time
from collections.abc import Callable

from stream_rec.config import Settings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.evaluation.prequential import PrequentialEvaluator
from stream_rec.learning.device import configure_torch
from stream_rec.learning.learner import Learner
from stream_rec.ports import Sink, Source
from stream_rec.records import StepReport
from stream_rec.telemetry.health import Health
from stream_rec.telemetry.metrics import Metrics
from stream_rec.worker import OnLists, Worker


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Assembly:
    """Everything that a worker is made of and that outlives one batch."""

    def __init__(self, settings: Settings, *, burn_in_events: int = 0) -> None:
        configure_torch(settings.worker)
        self.settings = settings
        self.clock = SystemClock()
        self.metrics = Metrics(event_types=settings.learning.event_weights)
        self.health = Health(settings.telemetry.alive_timeout_s, settings.worker.ready_max_lag, self.clock.monotonic_s)
        self.metrics.watch(self.health)
        self.learner = Learner(settings)
        self.evaluator = PrequentialEvaluator(
            settings.evaluation,
            settings.ranking,
            settings.state,
            settings.learning.event_weights,
            burn_in_events=burn_in_events,
        )

    def worker(
        self,
        source: Source,
        sink: Sink,
        *,
        snapshots: SnapshotStore | None = None,
        fresh: bool = False,
        on_lists: OnLists | None = None,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> Worker:
        """A worker on this source and this sink."""
        return Worker(
            self.settings,
            source=source,
            sink=sink,
            clock=self.clock,
            learner=self.learner,
            evaluator=self.evaluator,
            metrics=self.metrics,
            health=self.health,
            snapshots=snapshots,
            fresh=fresh,
            on_lists=on_lists,
            on_step=on_step,
        )
