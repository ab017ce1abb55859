"""Metrics: the catalogue is what is scraped, labels are bounded, a step's report arrives where it should."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream_rec.records import REASONS, CausedBy, Origin, Recommendation, Rejected, StepReport
from stream_rec.telemetry.health import Health
from stream_rec.telemetry.metrics import PHASES, Metrics, catalogue


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"stream_rec_{name}", labels)


def rejected(reason: str) -> Rejected:
    return Rejected(reason, "why", b"key", b"value", [], Origin("events", 0, 1))


def report(**changes) -> StepReport:
    ranked = Recommendation("u", [], "v1", 1, CausedBy("events", 0, 1, 1_000), 1_100)
    values = {
        "batch": 1,
        "num_learnt": 3,
        "num_replayed": 1,
        "num_rejected": 1,
        "lists": [ranked, ranked],
        "lag_records": 10,
        "freshness_s": [0.2, 0.3],
        "window": {"model": {"hr@10": 0.5, "ndcg@10": 0.25, "mrr@20": 0.125, "coverage@10": 0.75}},
        "learning_rates": {"rows": 0.05, "encoder": 0.001},
        "loss": 2.5,
        "step_skipped": False,
        "num_users": 7,
        "num_items": 9,
        "phase_s": {"poll": 0.01, "learn": 0.02},
    }
    return StepReport(**(values | changes))


@pytest.mark.parametrize("info", catalogue(), ids=lambda info: info.name)
def test_names_follow_the_conventions(info):
    assert re.fullmatch(r"stream_rec_[a-z]+(_[a-z]+)*", info.name)
    assert info.name.endswith("_total") == (info.type == "counter")
    assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)(_|$)", info.name), "base units only"
    for unit in ("seconds", "bytes"):
        if re.search(rf"_{unit}(_total)?$", info.name):
            assert info.unit.startswith(unit)
    assert re.search(r"[^ ] \([^()]+\)\.$", info.help), "the help text ends with its unit"


def test_names_are_unique_and_what_is_scraped(metrics: Metrics):
    scraped = {
        family.name: family for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
    }
    infos = catalogue()
    assert len({info.name for info in infos}) == len(infos)
    for info in infos:
        family = scraped[info.name.removesuffix("_total") if info.type == "counter" else info.name]
        assert (family.type, family.documentation) == (info.type, info.help)
    assert len(scraped) == len(infos)


def test_two_processes_in_one_share_nothing():
    one, other = Metrics(), Metrics()
    one.batches.inc()
    assert value(one, "batches_total") == 1
    assert value(other, "batches_total") == 0


def test_its_own_registry_holds_the_process_too():
    assert "process_resident_memory_bytes" in generate_latest(Metrics().registry).decode()


def test_closed_label_sets_start_at_zero(metrics: Metrics):
    for reason in REASONS:
        assert value(metrics, "dead_letters_total", reason=reason) == 0
    for phase in PHASES:
        assert value(metrics, "step_phase_seconds_count", phase=phase) == 0
    assert value(metrics, "catalogue_updates_total", kind="tombstone") == 0
    assert value(metrics, "vocabulary_evictions_total", kind="item") == 0
    assert value(metrics, "snapshots_total", outcome="failed") == 0


def test_event_types_from_outside_make_no_series():
    metrics = Metrics(CollectorRegistry(), event_types=["taste"])
    metrics.count_events(["click", "taste", *(f"made-up-{n}" for n in range(1_000))], "learnt")
    metrics.count_events(["click"], "not_admitted")
    series = [
        sample.labels | {"value": sample.value}
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "stream_rec_events_total"
    ]
    assert sorted(series, key=str) == sorted(
        [
            {"type": "click", "outcome": "learnt", "value": 1},
            {"type": "click", "outcome": "not_admitted", "value": 1},
            {"type": "taste", "outcome": "learnt", "value": 1},
            {"type": "other", "outcome": "learnt", "value": 1_000},
        ],
        key=str,
    )


def test_an_outcome_or_reason_that_is_none_is_our_bug(metrics: Metrics):
    with pytest.raises(AssertionError):
        metrics.count_events(["click"], "learned")
    with pytest.raises(AssertionError):
        metrics.count_rejected([rejected("bad_mood")])
    with pytest.raises(AssertionError):
        metrics.set_vocabulary("session", 1, 2)
    with pytest.raises(AssertionError):
        metrics.count_evictions("session", 1)


def test_dead_letters_are_counted_by_reason_and_as_events(metrics: Metrics):
    metrics.count_rejected([rejected("not_json"), rejected("not_json"), rejected("tombstone")])
    assert value(metrics, "dead_letters_total", reason="not_json") == 2
    assert value(metrics, "dead_letters_total", reason="tombstone") == 1
    assert value(metrics, "events_total", type="other", outcome="rejected") == 3


def test_a_report_arrives(metrics: Metrics):
    metrics.observe_step(report())
    metrics.observe_step(report(step_skipped=True, loss=math.nan, num_users=8))
    assert value(metrics, "batches_total") == 2
    assert value(metrics, "batch_size_events_sum") == 8
    assert value(metrics, "step_phase_seconds_sum", phase="learn") == pytest.approx(0.04)
    assert value(metrics, "freshness_seconds_count") == 4
    assert value(metrics, "freshness_seconds_bucket", le="0.25") == 2
    assert value(metrics, "lists_published_total") == 4
    assert value(metrics, "progressive_hit_ratio", method="model", k="10") == 0.5
    assert value(metrics, "progressive_ndcg", method="model", k="10") == 0.25
    assert value(metrics, "progressive_mrr", method="model", k="20") == 0.125
    assert value(metrics, "catalogue_coverage_ratio", method="model", k="10") == 0.75
    assert value(metrics, "learning_rate", part="encoder") == 0.001
    assert value(metrics, "loss") == 2.5, "a step that learnt nothing leaves the last loss"
    assert value(metrics, "skipped_steps_total") == 1
    assert value(metrics, "vocabulary_rows", kind="user") == 8
    assert value(metrics, "vocabulary_rows", kind="item") == 9


def test_a_step_without_events_is_no_batch_of_size_zero(metrics: Metrics):
    metrics.observe_step(report(num_learnt=0, num_replayed=0, lists=[], freshness_s=[], window={}))
    assert value(metrics, "batches_total") == 1
    assert value(metrics, "batch_size_events_count") == 0


def test_window_values_that_say_nothing_are_left_out(metrics: Metrics):
    metrics.observe_step(report(window={"model": {"hr@10": math.nan, "num_events": 3.0, "auc@10": 0.5}}))
    assert value(metrics, "progressive_hit_ratio", method="model", k="10") is None
    assert "auc" not in generate_latest(metrics.registry).decode()


def test_a_clock_that_runs_ahead_does_not_turn_the_histogram_back(metrics: Metrics):
    metrics.observe_step(report(freshness_s=[-5.0, 0.5]))
    assert value(metrics, "freshness_seconds_sum") == 0.5
    assert value(metrics, "freshness_seconds_count") == 2


def test_a_lost_partition_takes_its_lag_with_it(metrics: Metrics):
    metrics.set_lag({("events", 0): 5, ("events", 1): 7})
    assert value(metrics, "consumer_lag_records", topic="events", partition="1") == 7
    metrics.set_lag({("events", 0): 4})
    assert value(metrics, "consumer_lag_records", topic="events", partition="0") == 4
    assert value(metrics, "consumer_lag_records", topic="events", partition="1") is None
    metrics.set_lag({("events", 1): 3})
    assert value(metrics, "consumer_lag_records", topic="events", partition="0") is None
    assert value(metrics, "consumer_lag_records", topic="events", partition="1") == 3


def test_state_and_its_bounds(metrics: Metrics):
    metrics.set_vocabulary("item", 10, 20)
    metrics.count_evictions("item", 3)
    metrics.set_store("seen", 30, 40)
    metrics.count_catalogue(5, 2)
    assert value(metrics, "vocabulary_rows", kind="item") == 10
    assert value(metrics, "vocabulary_capacity_rows", kind="item") == 20
    assert value(metrics, "vocabulary_evictions_total", kind="item") == 3
    assert value(metrics, "state_entries", store="seen") == 30
    assert value(metrics, "state_capacity_entries", store="seen") == 40
    assert value(metrics, "catalogue_updates_total", kind="upsert") == 5
    assert value(metrics, "catalogue_updates_total", kind="tombstone") == 2


def test_snapshots(metrics: Metrics):
    metrics.snapshot_failed()
    assert value(metrics, "snapshot_last_success_timestamp_seconds") == 0
    metrics.snapshot_succeeded(finished_at_s=1_000.5, duration_s=0.2, size_bytes=4_096)
    assert value(metrics, "snapshots_total", outcome="failed") == 1
    assert value(metrics, "snapshots_total", outcome="succeeded") == 1
    assert value(metrics, "snapshot_last_success_timestamp_seconds") == 1_000.5
    assert value(metrics, "snapshot_duration_seconds_sum") == 0.2
    assert value(metrics, "snapshot_size_bytes") == 4_096


def test_ready_is_asked_at_every_scrape(metrics: Metrics):
    now_s = 0.0
    health = Health(alive_timeout_s=10.0, ready_max_lag=5, monotonic_s=lambda: now_s)
    metrics.watch(health)
    assert value(metrics, "ready") == 0
    health.update(assigned=True, lag_records=0, connected=True, last_step_sound=True)
    assert value(metrics, "ready") == 1
    now_s = 11.0
    assert value(metrics, "ready") == 0, "nobody has to report that a loop hangs"
