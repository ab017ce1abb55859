"""The loop. One step, in this order and no other:

poll → score what happened (before learning) → learn → rank for every user touched → publish lists, dead letters,
journal and positions in one transaction → every so often a snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from stream_rec.config import Settings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.errors import BrokerError, FencedError, RebalancedError, SnapshotError
from stream_rec.evaluation.prequential import PrequentialEvaluator
from stream_rec.learning.learner import Learner
from stream_rec.ports import Clock, Partition, Sink, Source
from stream_rec.records import (
    CausedBy,
    Effects,
    Event,
    JournalRecord,
    Origin,
    Polled,
    Position,
    Received,
    Recommendation,
    Rejected,
    StepReport,
)
from stream_rec.telemetry.health import Health
from stream_rec.telemetry.logging import get_logger
from stream_rec.telemetry.metrics import Metrics

IDLE_POLL_S = 0.5  # how long one poll waits for a first record: bounds how late a stop is noticed
RETRY_S = 1.0  # between attempts to publish while the broker is away

log = get_logger(__name__)

T = TypeVar("T")
OnLists = Callable[[Sequence[Event], Sequence[Sequence[str]]], None]


class Worker:
    """Drives a learner with events from a source and shows its lists through a sink.

    ``fresh`` ranks just before every event (the prequential protocol) instead of publishing after every batch.
    ``on_lists`` is given every event with the list it was scored by; ``on_step`` every step's report.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        source: Source,
        sink: Sink,
        clock: Clock,
        learner: Learner,
        evaluator: PrequentialEvaluator,
        metrics: Metrics,
        health: Health,
        snapshots: SnapshotStore | None = None,
        fresh: bool = False,
        on_lists: OnLists | None = None,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._sink = sink
        self._clock = clock
        self._learner = learner
        self._evaluator = evaluator
        self._metrics = metrics
        self._health = health
        self._snapshots = snapshots
        self._fresh = fresh
        self._on_lists = on_lists
        self._on_step = on_step
        self._stopping = False
        self._ended = False
        # Law 4: the next record to read of each partition, as far as this model has learnt.
        self._learnt_to: dict[Partition, int] = {}
        self._published_to: dict[Partition, int] = {}
        self._snapshot_batch = -1
        self._snapshot_due_s = clock.monotonic_s() + settings.snapshot.every_s
        self._num_rebalances = 0
        self._phase_s: dict[str, float] = {}

    def stop(self) -> None:
        """Finish the batch at hand, publish, commit, snapshot, leave. May be called from a signal handler."""
        self._stopping = True

    def resume(self) -> int | None:
        """Take up the newest snapshot, if there is one; its batch. Called once, before ``run``."""
        snapshot = self._snapshots.newest() if self._snapshots else None
        if snapshot is None:
            return None
        self._learner.load_state(snapshot.state["learner"])
        self._evaluator.load_state(snapshot.state["evaluator"])
        self._learnt_to = {(p.topic, p.partition): p.offset for p in snapshot.positions}
        self._source.restart_at(snapshot.positions)
        self._snapshot_batch = snapshot.batch
        log.info("resumed", snapshot=str(snapshot.path), batch=snapshot.batch)
        return snapshot.batch

    def run(self) -> None:
        """Step until the log ends or ``stop`` is called; then a last snapshot.

        Raises FencedError when another worker has taken over; nothing is written after that.
        """
        while not self._stopping and not self._ended:
            self.step()
        self._snapshot()

    def step(self) -> StepReport | None:
        """One round of the loop; None where nothing came."""
        self._health.beat()
        self._phase_s = {}
        polled = self._timed("poll", self._collect)
        self._ended = polled.ended
        if not polled and not polled.next_positions:
            self._look_around(sound=True)
            return None
        self._take_catalogue(polled)
        new = [r for r in polled.received if not _is_before(r.origin, self._learnt_to)]
        _move_on(self._published_to, self._source.committed())
        published_to = dict(self._published_to)
        loss, rates = self._score_and_learn([r.event for r in new])
        _move_on(self._learnt_to, polled.next_positions)
        lists = [] if self._fresh else self._timed("rank", lambda: self._rank(polled.received))
        prepared = self._effects(polled, lists, published_to)
        effects = self._timed("publish", lambda: self._publish(prepared, polled))
        acknowledged_ms = self._clock.now_ms()
        _move_on(self._published_to, effects.next_positions)
        self._remember(lists, {one.user_id for one in prepared.lists} - {one.user_id for one in effects.lists})
        if self._clock.monotonic_s() >= self._snapshot_due_s:
            self._timed("snapshot", self._snapshot)
        replayed = [r for r in new if _is_before(r.origin, published_to)]
        learnt = [r for r in new if not _is_before(r.origin, published_to)]
        return self._report(effects, learnt, replayed, loss, rates, acknowledged_ms)

    # -- poll --------------------------------------------------------------------------------------------------

    def _collect(self) -> Polled:
        """A micro-batch: up to ``max_batch`` records, or what came within ``max_wait_ms`` of the first.

        A rebalance ends it: a partition that is taken and given back brings what it has brought already.
        """
        max_batch, wait_s = self._settings.worker.max_batch, self._settings.worker.max_wait_ms / 1000
        batch = self._source.poll(max_batch, IDLE_POLL_S)
        num_rebalances = self._source.num_rebalances
        deadline_s = self._clock.monotonic_s() + wait_s
        while len(batch.received) + len(batch.rejected) < max_batch and not batch.ended and len(batch):
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0 or self._stopping or self._source.num_rebalances != num_rebalances:
                break
            more = self._source.poll(max_batch - len(batch.received) - len(batch.rejected), left_s)
            batch.extend(more, may_repeat=self._source.num_rebalances != num_rebalances)
        return batch

    def _take_catalogue(self, polled: Polled) -> None:
        if polled.item_updates:
            self._learner.update_catalogue(polled.item_updates)
            num_gone = sum(update.item is None for update in polled.item_updates)
            self._metrics.count_catalogue(len(polled.item_updates) - num_gone, num_gone)

    # -- score, learn, rank ------------------------------------------------------------------------------------

    def _score_and_learn(self, events: list[Event]) -> tuple[float, dict[str, float]]:
        """Law 1: what is scored here has not been learnt from yet. Returns loss and learning rates of the step."""
        if not events:
            return float("nan"), {}
        learner = self._learner
        moments = self._timed("learn", lambda: learner.enter(events))
        if self._fresh:
            lists = self._timed("rank", lambda: learner.rank_entered(moments))
            if self._on_lists:
                self._on_lists(events, lists)
            self._timed("score", lambda: self._evaluator.observe_fresh(events, lists))
        else:
            if self._on_lists:
                self._on_lists(events, [self._evaluator.remembered(event.user_id) for event in events])
            self._timed("score", lambda: self._evaluator.observe_published(events))
        rates = learner.rates()
        return self._timed("learn", lambda: learner.learn(moments)), rates

    def _effects(self, polled: Polled, lists: list[Recommendation], published_to: dict[Partition, int]) -> Effects:
        """What this batch shows to the world: all of it that was not shown before a restart."""
        origins = [r.origin for r in polled.received] + [r.origin for r in polled.rejected]
        taken: dict[Partition, list[int]] = defaultdict(list)
        for origin in origins:
            if not _is_before(origin, published_to):
                taken[origin.topic, origin.partition].append(origin.offset)
        positions = [p for p in polled.next_positions if p.offset > published_to.get((p.topic, p.partition), -1)]
        rejected = [r for r in polled.rejected if not _is_before(r.origin, published_to)]
        journal = JournalRecord(
            worker=self._settings.worker.name,
            batch=self._learner.batch,
            taken=[
                (p.topic, p.partition, min(taken[p.topic, p.partition], default=p.offset), p.offset) for p in positions
            ],
            num_learnt=sum(not _is_before(r.origin, published_to) for r in polled.received),
            num_rejected=len(rejected),
        )
        return Effects(
            [one for one in lists if not _is_before(one.caused_by, published_to)], rejected, journal, positions
        )

    def _rank(self, received: list[Received]) -> list[Recommendation]:
        """One fresh list for every user among these events, seen from just after his newest."""
        newest = {r.event.user_id: r for r in received}
        if not newest:
            return []
        ranked = self._learner.rank([r.event for r in newest.values()])
        version, batch, now_ms = self._learner.version, self._learner.batch, self._clock.now_ms()
        return [
            Recommendation(user_id, items, version, batch, _cause(r), now_ms)
            for (user_id, r), items in zip(newest.items(), ranked, strict=True)
        ]

    # -- publish -----------------------------------------------------------------------------------------------

    def _publish(self, effects: Effects, polled: Polled) -> Effects:
        """Publish until it is acknowledged; returns what was.

        While the broker is away the effects wait here and nothing is polled: nothing is lost, nothing piles up.
        After a rebalance, what belongs to partitions that were lost is left to their new owner.
        """
        while effects.next_positions or effects.lists or effects.rejected:
            try:
                self._sink.publish(effects)
                break
            except FencedError:
                self._stopping = True
                self._snapshots = None  # the folder belongs to whoever took over
                raise
            except RebalancedError as error:
                log.warning("rebalanced before the commit, publishing again", error=str(error))
                effects = self._still_owned(effects, polled)
            except BrokerError as error:
                if self._stopping:
                    raise
                log.error("cannot publish, trying again", error=str(error))
                self._health.update(assigned=True, lag_records=0, connected=False, last_step_sound=True)
                self._clock.sleep(RETRY_S)
            self._metrics.publish_retries.inc()
        return effects

    def _still_owned(self, effects: Effects, polled: Polled) -> Effects:
        """Without the partitions that have gone; dead letters of the catalogue belong to no partition of the group."""
        lost = {(p.topic, p.partition) for p in effects.next_positions} - self._source.assignment()
        first = {(topic, partition): at for topic, partition, at, _ in effects.journal.taken}
        kept = {partition: at for partition, at in first.items() if partition not in lost}
        rejected = [r for r in effects.rejected if _partition(r) not in lost]
        journal = JournalRecord(
            effects.journal.worker,
            effects.journal.batch,
            taken=[taken for taken in effects.journal.taken if (taken[0], taken[1]) in kept],
            num_learnt=sum(r.origin.offset >= kept[_partition(r)] for r in polled.received if _partition(r) in kept),
            num_rejected=len(rejected),
        )
        return Effects(
            lists=[one for one in effects.lists if (one.caused_by.topic, one.caused_by.partition) not in lost],
            rejected=rejected,
            journal=journal,
            next_positions=[p for p in effects.next_positions if (p.topic, p.partition) not in lost],
        )

    def _remember(self, lists: list[Recommendation], lost: set[str]) -> None:
        """Tell the evaluator what users see: not what was lost, but also what they were shown before a restart."""
        shown = [one for one in lists if one.user_id not in lost]
        if shown:
            # The log's own time, so that a replay judges the baselines as of then.
            self._evaluator.remember(shown, max(one.caused_by.timestamp_ms for one in shown))

    # -- snapshot and report -----------------------------------------------------------------------------------

    def _snapshot(self) -> None:
        """Write a snapshot of state and positions together; a failure is reported and the loop goes on."""
        self._snapshot_due_s = self._clock.monotonic_s() + self._settings.snapshot.every_s
        if self._snapshots is None or self._learner.batch == self._snapshot_batch:
            return
        start_s = self._clock.monotonic_s()
        # Not of partitions that went to another worker: their log may be gone by the time this one is restarted.
        owned = self._source.assignment() or self._learnt_to.keys()
        positions = [Position(*key, offset) for key, offset in self._learnt_to.items() if key in owned]
        state = {"learner": self._learner.state(), "evaluator": self._evaluator.state()}
        try:
            path, size_bytes = self._snapshots.write(self._learner.batch, positions, state)
        except SnapshotError as error:
            log.error("snapshot failed", error=str(error))
            self._metrics.snapshot_failed()
            return
        self._snapshot_batch = self._learner.batch
        duration_s = self._clock.monotonic_s() - start_s
        self._metrics.snapshot_succeeded(self._clock.now_ms() / 1000, duration_s, size_bytes)
        log.info("snapshot", path=str(path), size_bytes=size_bytes, duration_s=round(duration_s, 3))

    def _report(
        self,
        effects: Effects,
        learnt: list[Received],
        replayed: list[Received],
        loss: float,
        rates: dict[str, float],
        acknowledged_ms: int,
    ) -> StepReport:
        learner, memory = self._learner, self._learner.memory
        skipped = bool(learnt or replayed) and loss != loss
        if skipped:
            log.warning("step left out: loss or gradient was not finite", batch=learner.batch)
        report = StepReport(
            batch=learner.batch,
            num_learnt=len(learnt),
            num_replayed=len(replayed),
            num_rejected=len(effects.rejected),
            lists=effects.lists,
            lag_records=self._look_around(sound=not skipped),
            freshness_s=[(acknowledged_ms - r.caused_by.timestamp_ms) / 1000 for r in effects.lists],
            window=self._evaluator.window(),
            learning_rates=rates,
            loss=loss,
            step_skipped=skipped,
            num_users=len(memory.users),
            num_items=len(memory.items),
            phase_s=self._phase_s,
        )
        self._measure(report, learnt, replayed, effects)
        if self._on_step:
            self._on_step(report)
        return report

    def _measure(self, report: StepReport, learnt: list[Received], replayed: list[Received], effects: Effects) -> None:
        metrics, memory = self._metrics, self._learner.memory
        metrics.observe_step(report)
        metrics.count_events([r.event.type for r in replayed], "replayed")
        is_admitted = [memory.is_admitted(r.event) for r in learnt]
        for outcome, wanted in (("learnt", True), ("not_admitted", False)):
            types = [r.event.type for r, admitted in zip(learnt, is_admitted, strict=True) if admitted is wanted]
            metrics.count_events(types, outcome)
        metrics.count_rejected(effects.rejected)
        if learnt or replayed:
            metrics.gradient_norm.set(self._learner.gradient_norm)
            metrics.set_task_losses(self._learner.task_losses)
        for vocabulary in (memory.users, memory.items):
            metrics.set_vocabulary(vocabulary.kind, len(vocabulary), vocabulary.capacity)
            metrics.count_evictions(vocabulary.kind, vocabulary.take_evicted())
        for store, (num_entries, capacity) in (memory.sizes() | self._evaluator.sizes()).items():
            metrics.set_store(store, num_entries, capacity)

    def _look_around(self, *, sound: bool) -> int:
        """Tell health how things stand; the records that wait."""
        lag = self._source.lag()
        self._metrics.set_lag(lag)
        lag_records = sum(lag.values())
        num_rebalances = self._source.num_rebalances
        self._metrics.rebalances.inc(num_rebalances - self._num_rebalances)
        self._num_rebalances = num_rebalances
        self._health.update(
            assigned=bool(self._source.assignment()),
            lag_records=lag_records,
            connected=self._source.connected(),
            last_step_sound=sound,
        )
        return lag_records

    def _timed(self, phase: str, action: Callable[[], T]) -> T:
        start_s = self._clock.monotonic_s()
        result = action()
        self._phase_s[phase] = self._phase_s.get(phase, 0.0) + self._clock.monotonic_s() - start_s
        return result


def _partition(record: Received | Rejected) -> Partition:
    return record.origin.topic, record.origin.partition


def _is_before(at: Origin | CausedBy, positions: dict[Partition, int]) -> bool:
    return at.offset < positions.get((at.topic, at.partition), 0)


def _move_on(positions: dict[Partition, int], to: Iterable[Position]) -> None:
    """Never back: what comes again after a rebalance has been learnt, or published, all the same."""
    for position in to:
        key = (position.topic, position.partition)
        positions[key] = max(position.offset, positions.get(key, 0))


def _cause(received: Received) -> CausedBy:
    origin = received.origin
    return CausedBy(origin.topic, origin.partition, origin.offset, received.event.timestamp_ms)
