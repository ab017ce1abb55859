"""A worker's whole world in memory, moved by the test: a scripted source, a sink that can refuse, a clock, and one
record of all effects in the order in which they happened.

The learner is the real one, small; it is only listened to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from stream_rec.config import Settings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.evaluation.prequential import PrequentialEvaluator
from stream_rec.learning.learner import Learner
from stream_rec.records import (
    Effects,
    Event,
    Item,
    ItemUpdate,
    Origin,
    Polled,
    Position,
    Received,
    Rejected,
    StepReport,
)
from stream_rec.telemetry.health import Health
from stream_rec.telemetry.metrics import Metrics
from stream_rec.worker import Worker

START_MS = 1_700_000_000_000
TOPIC = "events"


def small_settings(**sections: dict[str, Any]) -> Settings:
    """A model that learns a batch in milliseconds. ``sections`` override single settings."""
    small: dict[str, dict[str, Any]] = {
        "model": {"dimension": 8, "num_layers": 1, "num_heads": 1},
        "state": {"max_users": 64, "max_items": 64, "history_length": 4, "num_feature_buckets": 64},
        "ranking": {"list_length": 5},
        "worker": {"name": "w", "max_batch": 4, "max_wait_ms": 100, "ready_max_lag": 10},
    }
    for name, values in sections.items():
        small[name] = small.get(name, {}) | values
    return Settings.model_validate(small)


def came(user: str, item: str, offset: int, *, partition: int = 0, type: str = "click") -> Received:
    """An event of the log; its time grows with its offset."""
    event = Event(user, item, type, START_MS + 1_000 * offset)
    return Received(event, Origin(TOPIC, partition, offset))


def broken(offset: int, *, partition: int = 0, topic: str = TOPIC, reason: str = "not_json") -> Rejected:
    """A record that cannot be used."""
    return Rejected(reason, "as the test wants it", b"key", b"\xff", [], Origin(topic, partition, offset))


def item(item_id: str) -> ItemUpdate:
    """An entry of the catalogue."""
    return ItemUpdate(item_id, Item(item_id, title=item_id))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.slept_s: list[float] = []

    def move(self, seconds: float) -> None:
        self.elapsed_s += seconds

    def now_ms(self) -> int:
        return START_MS + round(self.elapsed_s * 1000)

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.move(seconds)


class Crashed(Exception):  # noqa: N818 - it is no error, it is the end
    """The process is gone, as after SIGKILL."""


@dataclass(frozen=True)
class Pause:
    """Nothing comes for so long."""

    seconds: float


@dataclass(frozen=True)
class Passed:
    """A position moves on without a record, as behind a transaction marker."""

    position: Position


class Abort:
    """The process dies at this point of the log."""


class End:
    """The log is finite, and this is its end."""


Entry = Received | Rejected | ItemUpdate | Pause | Passed | Abort | End | Callable[[], None]


class ScriptedSource:
    """Brings what the script says. After its last entry nothing comes any more, which is not the end of the log.

    A callable in the script is called when the poll gets there: how a test stops the worker, takes a partition away
    or looks at things between two records.
    """

    def __init__(self, script: Iterable[Entry], clock: Clock, happened: list[str]) -> None:
        self.script = deque(script)
        self._clock = clock
        self._happened = happened
        self.owned = {(TOPIC, 0), (TOPIC, 1)}
        self.committed_positions: list[Position] = []
        self.restarted_at: list[Position] | None = None
        self.is_connected = True
        self.lags = {(TOPIC, 0): 0, (TOPIC, 1): 0}
        self.num_rebalances = 0
        self.num_polls = 0
        self._num_idle = 0
        self.is_closed = False

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        self.num_polls += 1
        self._happened.append("poll")
        polled = Polled()
        positions: dict[tuple[str, int], Position] = {}
        while self.script and len(polled.received) + len(polled.rejected) < max_records:
            entry = self.script[0]
            if isinstance(entry, End):
                break
            if isinstance(entry, Pause):
                if len(polled):
                    break
                waited_s = min(entry.seconds, timeout_s)
                self._clock.move(waited_s)
                timeout_s -= waited_s
                self.script.popleft()
                if entry.seconds > waited_s:
                    self.script.appendleft(Pause(entry.seconds - waited_s))
                    return polled
                continue
            self.script.popleft()
            self._bring(entry, polled, positions)
        polled.next_positions = list(positions.values())
        if self.script and isinstance(self.script[0], End):
            polled.ended = True
        elif not self.script and not len(polled):
            self._clock.move(timeout_s)
            self._num_idle += 1
            assert self._num_idle < 1_000, "the script is over, and nobody stops the worker"
        return polled

    def _bring(self, entry: Entry, polled: Polled, positions: dict[tuple[str, int], Position]) -> None:
        if isinstance(entry, Abort):
            raise Crashed
        if isinstance(entry, ItemUpdate):
            polled.item_updates.append(entry)
        elif isinstance(entry, Passed):
            positions[entry.position.topic, entry.position.partition] = entry.position
        elif isinstance(entry, Received | Rejected):
            (polled.received if isinstance(entry, Received) else polled.rejected).append(entry)
            at = entry.origin
            if at.topic == TOPIC:
                positions[at.topic, at.partition] = Position(at.topic, at.partition, at.offset + 1)
        elif callable(entry):
            entry()

    def assignment(self) -> frozenset[tuple[str, int]]:
        return frozenset(self.owned)

    def restart_at(self, positions: Iterable[Position]) -> None:
        assert self.num_polls == 0
        self.restarted_at = list(positions)

    def committed(self) -> Sequence[Position]:
        return self.committed_positions

    def lag(self) -> dict[tuple[str, int], int]:
        return {partition: lag for partition, lag in self.lags.items() if partition in self.owned}

    def connected(self) -> bool:
        return self.is_connected

    def close(self) -> None:
        self.is_closed = True


class ScriptedSink:
    """Keeps what is published. ``outcomes`` are taken one at a publish: an error to raise, or something to do first."""

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened
        self.outcomes: deque[Exception | Callable[[], None]] = deque()
        self.published: list[Effects] = []
        self.num_attempts = 0

    def publish(self, effects: Effects) -> None:
        self.num_attempts += 1
        outcome = self.outcomes.popleft() if self.outcomes else None
        if isinstance(outcome, Exception):
            self._happened.append("refused")
            raise outcome
        if outcome:
            outcome()
        self._happened.append("publish")
        self.published.append(effects)

    def close(self) -> None:
        """Nothing to release."""

    @property
    def users(self) -> list[list[str]]:
        """Batch by batch, whose lists were published."""
        return [[one.user_id for one in effects.lists] for effects in self.published]

    @property
    def positions(self) -> list[Position]:
        """All that were committed, in their order."""
        return [position for effects in self.published for position in effects.next_positions]


class Listened:
    """Another object's methods, with a word for each call that has an effect."""

    def __init__(self, heard: Any, words: dict[str, str], happened: list[str]) -> None:
        self._heard = heard
        self._words = words
        self._happened = happened

    def __getattr__(self, name: str) -> Any:
        if name in self._words:
            self._happened.append(self._words[name])
        return getattr(self._heard, name)


@dataclass
class World:
    """A worker on a script. ``happened`` tells what was done, in order."""

    script: Iterable[Entry]
    settings: Settings = field(default_factory=small_settings)
    fresh: bool = False
    folder: Path | None = None  # of snapshots; None: there are none

    def __post_init__(self) -> None:
        self.happened: list[str] = []
        self.clock = Clock()
        self.source = ScriptedSource(self.script, self.clock, self.happened)
        self.sink = ScriptedSink(self.happened)
        self.reports: list[StepReport] = []
        self.shown: list[tuple[Event, tuple[str, ...]]] = []
        self.metrics = Metrics(CollectorRegistry(), self.settings.learning.event_weights)
        self.health = Health(
            self.settings.telemetry.alive_timeout_s, self.settings.worker.ready_max_lag, self.clock.monotonic_s
        )
        self.learner = Learner(self.settings)
        self.evaluator = PrequentialEvaluator(
            self.settings.evaluation,
            self.settings.ranking,
            self.settings.state,
            self.settings.learning.event_weights,
        )
        learner: Any = Listened(
            self.learner,
            {"learn": "learn", "rank": "rank", "rank_entered": "rank before", "update_catalogue": "catalogue"},
            self.happened,
        )
        evaluator: Any = Listened(
            self.evaluator,
            {"observe_published": "score", "observe_fresh": "score", "remember": "remember"},
            self.happened,
        )
        snapshots: Any = None
        if self.folder is not None:
            snapshot = self.settings.snapshot.model_copy(update={"directory": self.folder})
            self.store = SnapshotStore(self.settings.model_copy(update={"snapshot": snapshot}))
            snapshots = Listened(self.store, {"write": "snapshot"}, self.happened)
        self.worker = Worker(
            self.settings,
            source=self.source,
            sink=self.sink,
            clock=self.clock,
            learner=learner,
            evaluator=evaluator,
            metrics=self.metrics,
            health=self.health,
            snapshots=snapshots,
            fresh=self.fresh,
            on_lists=lambda events, lists: self.shown.extend(zip(events, map(tuple, lists), strict=True)),
            on_step=self.reports.append,
        )

    def run(self) -> World:
        """To the end of the log, or until the script stops the worker."""
        self.worker.run()
        return self

    def value(self, name: str, **labels: str) -> float:
        """A metric as it is scraped; 0 where there is no such series yet."""
        return self.metrics.registry.get_sample_value(f"stream_rec_{name}", labels) or 0.0
