"""SIGKILL in the midst of things: what was published stays, what was not comes, and the model catches up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.records import Event
from tests.end_to_end.accounts import check_that_all_is_taken_once, check_the_lists, committed, ends_of, journal_of
from tests.end_to_end.worker_process import WorkerProcess, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

NUM_EVENTS = 6_000
SMALL_BATCHES = {"worker.max_batch": "64", "snapshot.every_s": "1.5"}


def settled(kafka: KafkaSettings) -> dict[int, int]:
    """The committed offsets, once a transaction that was being committed is through."""
    seen = [committed(kafka)]

    def twice_the_same() -> bool:
        time.sleep(0.5)
        seen.append(committed(kafka))
        return seen[-1] == seen[-2]

    wait_until(twice_the_same, "the committed offsets stand still")
    return seen[-1]


def test_law_4_a_killed_worker_publishes_the_rest_once_and_learns_again_what_its_snapshot_lacks(
    start: Callable[..., WorkerProcess], kafka_settings: KafkaSettings, topics: TopicsSettings, tmp_path: Path
) -> None:
    ensure_topics(kafka_settings, topics)
    with KafkaEventWriter(kafka_settings, topics) as writer:
        for n in range(NUM_EVENTS):
            writer.event(Event(f"u{n % 97}", f"i{n * n % 211}", "click", 1_700_000_000_000 + 10 * n))
        writer.flush()
    ends = ends_of(kafka_settings, topics)

    killed = start("worker-1", **SMALL_BATCHES)
    wait_until(lambda: killed.logged("snapshot"), "there is a snapshot", every_s=0.02)
    num_then = killed.metric("events_total", outcome="learnt")
    wait_until(lambda: killed.metric("events_total", outcome="learnt") > num_then + 200, "it is ahead of it")
    killed.kill()
    newest = max((tmp_path / "snapshots" / "worker-1").glob("snapshot-*"))
    positions = json.loads((newest / "manifest.json").read_text())["positions"]
    published_to = settled(kafka_settings)
    assert sum(published_to.values()) < NUM_EVENTS; print("AT KILL", sum(published_to.values()))

    again = start("worker-1", 2, **SMALL_BATCHES)
    wait_until(lambda: committed(kafka_settings) == ends, "everything is committed")
    (resumed,) = again.logged("resumed")
    assert resumed["snapshot"] == str(newest)
    wait_until(lambda: again.ready()[0] == 200, "it is caught up")
    num_replayed, num_learnt = (again.metric("events_total", outcome=how) for how in ("replayed", "learnt"))
    assert again.terminate() == 0

    assert num_replayed == sum(published_to.values()) - sum(position["offset"] for position in positions) > 0
    assert num_learnt == NUM_EVENTS - sum(published_to.values())
    check_that_all_is_taken_once(journal_of(kafka_settings, topics), ends)
    check_the_lists(kafka_settings, topics)
