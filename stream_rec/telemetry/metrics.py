"""Every Prometheus metric of the project: one catalogue, so that a name, its unit and its meaning exist once.

Names follow https://prometheus.io/docs/practices/naming: base units (seconds, bytes), ``_total`` for counters.
Every label has a closed or bounded set of values: an event type that the settings do not name is counted as
``other``, because a label value that comes from outside is a time series that anybody can create.
"""

from __future__ import annotations

import math
import platform
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from stream_rec import __version__
from stream_rec.records import EXPLORED, REASONS, Rejected, StepReport

# When a series began is a series more for each, documented nowhere and asked for by nobody.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped

PREFIX = "stream_rec_"
OTHER = "other"

# What shops, portals and players commonly send; the types that the settings weigh are added to these.
COMMON_EVENT_TYPES = (
    "impression",
    "view",
    "click",
    "like",
    "bookmark",
    "favourite",
    "comment",
    "follow",
    "share",
    "rating",
    "search",
    "cart",
    "remove_from_cart",
    "checkout",
    "purchase",
    "play",
    "listen",
    "skip",
    "checkin",
)
OUTCOMES = ("learnt", "replayed", "rejected", "not_admitted")
PHASES = ("poll", "score", "learn", "rank", "publish", "snapshot")
CATALOGUE_KINDS = ("upsert", "tombstone")
VOCABULARY_KINDS = ("user", "item")
DRAWN = ("yes", "no")
SNAPSHOT_OUTCOMES = ("succeeded", "failed")

# 5 ms … 60 s: the promise is one second, so the buckets are dense around it and reach a stalled broker.
FRESHNESS_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
PHASE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SNAPSHOT_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class MetricInfo(NamedTuple):
    """One line of the catalogue: full name as scraped, Prometheus type, label names, help text with the unit."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str

    @property
    def unit(self) -> str:
        """The unit, which every help text states last, in brackets."""
        return self.help[self.help.rindex("(") + 1 : self.help.rindex(")")]


class ReadyState(Protocol):
    """The part of ``Health`` that the gauge reads."""

    def ready(self) -> tuple[bool, str]: ...


class Metrics:
    """All metrics of one process, on one registry.

    ``registry`` None makes a fresh one that also holds the process's own figures (CPU, memory, descriptors,
    garbage collection), so that two workers in one test never share a counter. ``event_types`` are the values
    that the label ``type`` may take besides ``other``.

    Single counters and gauges are public attributes (``metrics.rebalances.inc()``). Where a promise hangs on
    how a metric is set (bounded labels, stale series taken away) there is a method instead.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, event_types: Iterable[str] = COMMON_EVENT_TYPES
    ) -> None:
        self._infos: list[MetricInfo] = []
        self._event_types = frozenset(event_types) | frozenset(COMMON_EVENT_TYPES)
        self._lag_partitions: set[tuple[str, str]] = set()
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)
        self.registry = registry
        self._define_flow()
        self._define_broker()
        self._define_quality()
        self._define_learning()
        self._define_state()
        self._define_durability()
        self._define_process()

    def _define_flow(self) -> None:
        self._events = self._counter(
            "events_total", "Events taken from the log, by type and by what became of them (events).", "type", "outcome"
        )
        self._dead_letters = self._counter(
            "dead_letters_total", "Records that could not be used, by reason (records).", "reason"
        )
        _start_at_zero(self._dead_letters, REASONS)
        self._catalogue_updates = self._counter(
            "catalogue_updates_total", "Changes of the catalogue that were applied (records).", "kind"
        )
        _start_at_zero(self._catalogue_updates, CATALOGUE_KINDS)
        self.batches = self._counter("batches_total", "Steps of the loop that held at least one record (batches).")
        self._batch_size = self._histogram(
            "batch_size_events", "Events learnt, or learnt again after a restart, in one batch (events).", BATCH_BUCKETS
        )
        self._phase = self._histogram(
            "step_phase_seconds", "Time one phase of a step took (seconds).", PHASE_BUCKETS_S, "phase"
        )
        for phase in PHASES:
            self._phase.labels(phase)
        self._freshness = self._histogram(
            "freshness_seconds",
            "From an event's timestamp to the acknowledgement of the list that reflects it (seconds).",
            FRESHNESS_BUCKETS_S,
        )
        self.lists_published = self._counter("lists_published_total", "Lists acknowledged by the sink (lists).")
        self._places = self._counter(
            "list_places_total", "Places of these lists, by whether a new item was drawn for them (places).", "drawn"
        )
        _start_at_zero(self._places, DRAWN)

    def _define_broker(self) -> None:
        self._lag = self._gauge(
            "consumer_lag_records",
            "Records in an owned partition that have not been polled yet (records).",
            "topic",
            "partition",
        )
        self.rebalances = self._counter(
            "rebalances_total", "Changes of the partitions that this worker owns (rebalances)."
        )
        self.publish_retries = self._counter(
            "publish_retries_total", "Transactions begun again after they were aborted (retries)."
        )

    def _define_quality(self) -> None:
        by = ("method", "k")
        window = "over the sliding window, lists as they stood before the event"
        self._window = {
            "hr": self._gauge(
                "progressive_hit_ratio", f"Share of events whose item was in the top k, {window} (0 to 1).", *by
            ),
            "ndcg": self._gauge("progressive_ndcg", f"Mean NDCG at k, {window} (0 to 1).", *by),
            "mrr": self._gauge("progressive_mrr", f"Mean reciprocal rank within the top k, {window} (0 to 1).", *by),
            "coverage": self._gauge(
                "catalogue_coverage_ratio",
                "Share of known items that stood in a top k, over the sliding window (0 to 1).",
                *by,
            ),
            "personalisation": self._gauge(
                "personalisation_ratio", "1 − mean overlap of two users' top k, over the sliding window (0 to 1).", *by
            ),
        }

    def _define_learning(self) -> None:
        self._learning_rate = self._gauge(
            "learning_rate", "Learning rate of the last step, by part of the model (per step).", "part"
        )
        self.loss = self._gauge("loss", "Mean loss of the last batch that was learnt (nats).")
        self._task_loss = self._gauge(
            "task_loss",
            "Loss of a task in the newest batch with events of it; 1 is what always saying the average costs (ratio).",
            "task",
        )
        self.gradient_norm = self._gauge("gradient_norm", "Size of the encoder's gradient before clipping (L2 norm).")
        self.skipped_steps = self._counter(
            "skipped_steps_total", "Steps left out because loss or gradient was not finite (steps)."
        )

    def _define_state(self) -> None:
        self._rows = self._gauge("vocabulary_rows", "Users or items that have a row (rows).", "kind")
        self._capacity = self._gauge("vocabulary_capacity_rows", "Rows there are at most (rows).", "kind")
        self._evictions = self._counter(
            "vocabulary_evictions_total", "Rows retired to make room, least recently used first (evictions).", "kind"
        )
        _start_at_zero(self._evictions, VOCABULARY_KINDS)
        self._entries = self._gauge("state_entries", "Entries held by a store of the state (entries).", "store")
        self._entries_capacity = self._gauge("state_capacity_entries", "Entries it holds at most (entries).", "store")

    def _define_durability(self) -> None:
        self._snapshot_success = self._gauge(
            "snapshot_last_success_timestamp_seconds",
            "When the newest snapshot was complete, 0 before the first (seconds since the epoch).",
        )
        self._snapshot_duration = self._histogram(
            "snapshot_duration_seconds",
            "From the copy of the state to the renamed directory (seconds).",
            SNAPSHOT_BUCKETS_S,
        )
        self._snapshot_size = self._gauge("snapshot_size_bytes", "Size of the newest snapshot (bytes).")
        self._snapshots = self._counter("snapshots_total", "Snapshots, by outcome (snapshots).", "outcome")
        _start_at_zero(self._snapshots, SNAPSHOT_OUTCOMES)

    def _define_process(self) -> None:
        self._ready = self._gauge("ready", "1 while /readyz says yes, else 0 (0 or 1).")
        build = Info(PREFIX + "build", "Version that is running (always 1).", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        # Spelt out because an Info learns its labels from its value, not from its definition.
        self._note("build_info", "gauge", "Version that is running (always 1).", ("version", "python"))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._note(name, "counter", text, labels)
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self._note(name, "gauge", text, labels)
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self._note(name, "histogram", text, labels)
        return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=buckets)

    def _note(self, name: str, kind: str, text: str, labels: tuple[str, ...]) -> None:
        self._infos.append(MetricInfo(PREFIX + name, kind, labels, text))

    def observe_step(self, report: StepReport) -> None:
        """Take over what one step's report tells.

        Batches, batch size, phases, freshness, lists, window metrics, learning rates, loss, skipped steps and
        vocabulary rows. Events and dead letters are left to ``count_events`` and ``count_rejected``: the report
        knows neither types nor reasons.
        """
        self.batches.inc()
        if num_events := report.num_learnt + report.num_replayed:
            self._batch_size.observe(num_events)
        for phase, seconds in report.phase_s.items():
            self._phase.labels(phase).observe(seconds)
        for seconds in report.freshness_s:
            # A client's clock may run ahead; a negative observation would make the histogram's sum go back.
            self._freshness.observe(max(0.0, seconds))
        self.lists_published.inc(len(report.lists))
        places = [item for each in report.lists for item in each.items]
        num_drawn = sum(EXPLORED in item.reasons for item in places)
        self._places.labels("yes").inc(num_drawn)
        self._places.labels("no").inc(len(places) - num_drawn)
        self._observe_window(report.window)
        for part, rate in report.learning_rates.items():
            self._learning_rate.labels(part).set(rate)
        if math.isfinite(report.loss):
            self.loss.set(report.loss)
        if report.step_skipped:
            self.skipped_steps.inc()
        self._rows.labels("user").set(report.num_users)
        self._rows.labels("item").set(report.num_items)

    def _observe_window(self, window: Mapping[str, Mapping[str, float]]) -> None:
        for method, values in window.items():
            for key, value in values.items():
                metric, _, k = key.partition("@")
                if (gauge := self._window.get(metric)) is not None and k and math.isfinite(value):
                    gauge.labels(method, k).set(value)

    def set_task_losses(self, losses: Mapping[str, float]) -> None:
        """Set the loss of each task; NaN, where no event said anything of it, leaves the last one."""
        for task, loss in losses.items():
            if math.isfinite(loss):
                self._task_loss.labels(task).set(loss)

    def count_events(self, types: Iterable[str], outcome: str) -> None:
        """Count events by their type; ``outcome`` is one of ``OUTCOMES``, an unknown type counts as ``other``."""
        assert outcome in OUTCOMES, outcome
        known = self._event_types
        for kind, num in Tally(kind if kind in known else OTHER for kind in types).items():
            self._events.labels(kind, outcome).inc(num)

    def count_rejected(self, rejected: Sequence[Rejected]) -> None:
        """Count dead letters by reason, and as rejected events: their type is not known, so it is ``other``."""
        for reason, num in Tally(record.reason for record in rejected).items():
            assert reason in REASONS, reason
            self._dead_letters.labels(reason).inc(num)
        self.count_events((OTHER for _ in rejected), "rejected")

    def count_catalogue(self, num_upserts: int, num_tombstones: int) -> None:
        """Count changes of the catalogue."""
        self._catalogue_updates.labels("upsert").inc(num_upserts)
        self._catalogue_updates.labels("tombstone").inc(num_tombstones)

    def set_lag(self, lag_records: Mapping[tuple[str, int], int]) -> None:
        """Set the lag of every owned (topic, partition).

        A partition that is not named any more loses its series: after a rebalance its last value would
        otherwise be summed by dashboards for ever, on top of the new owner's.
        """
        now = {(topic, str(partition)): num for (topic, partition), num in lag_records.items()}
        for gone in self._lag_partitions - now.keys():
            self._lag.remove(*gone)
        for labels, num in now.items():
            self._lag.labels(*labels).set(num)
        self._lag_partitions = set(now)

    def set_vocabulary(self, kind: str, num_rows: int, capacity_rows: int) -> None:
        """Set rows in use and rows there are at most; ``kind`` is ``user`` or ``item``."""
        assert kind in VOCABULARY_KINDS, kind
        self._rows.labels(kind).set(num_rows)
        self._capacity.labels(kind).set(capacity_rows)

    def count_evictions(self, kind: str, num_rows: int) -> None:
        """Count rows retired since the last call; ``kind`` is ``user`` or ``item``."""
        assert kind in VOCABULARY_KINDS, kind
        self._evictions.labels(kind).inc(num_rows)

    def set_store(self, store: str, num_entries: int, capacity_entries: int) -> None:
        """Set the size of one store of the state (seen items, transitions, replay buffer, …) and its bound."""
        self._entries.labels(store).set(num_entries)
        self._entries_capacity.labels(store).set(capacity_entries)

    def snapshot_succeeded(self, finished_at_s: float, duration_s: float, size_bytes: int) -> None:
        """Record a complete snapshot; ``finished_at_s`` is seconds since the epoch, UTC."""
        self._snapshot_success.set(finished_at_s)
        self._snapshot_duration.observe(duration_s)
        self._snapshot_size.set(size_bytes)
        self._snapshots.labels("succeeded").inc()

    def snapshot_failed(self) -> None:
        """Record a snapshot that could not be written."""
        self._snapshots.labels("failed").inc()

    def watch(self, health: ReadyState) -> None:
        """Let the gauge ``ready`` ask ``health`` when it is scraped, so that a loop that hangs shows as not ready."""
        self._ready.set_function(lambda: float(health.ready()[0]))

    def infos(self) -> list[MetricInfo]:
        """The catalogue, in the order of the definitions."""
        return list(self._infos)


def catalogue() -> list[MetricInfo]:
    """Every metric of the project: (name, type, labels, help) and ``.unit``; read by the README's table."""
    return Metrics(CollectorRegistry()).infos()


def _start_at_zero(counter: Any, values: Iterable[str]) -> None:
    # A series that appears only with its first increment makes rate() and alerts miss that increment.
    for value in values:
        counter.labels(value)
