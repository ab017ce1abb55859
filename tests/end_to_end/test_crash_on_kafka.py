"""SIGKILL in the midst of things: what was published stays, what was not comes, and the model catches up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.records import Event
from tests.end_to_end.accounts import check_that_all_is_taken_once, check_the_lists, committed, ends_of, journal_of
from tests.end_to_end.worker_process import WorkerProcess, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

NUM_EVENTS = 6_000
NUM_IN_SNAPSHOT = 1_000
# Small batches, so that it is killed between two of many.
ONLY_AT_THE_END = {"worker.max_batch": "64", "snapshot.every_s": "10_000"}


def write(writer: KafkaEventWriter, numbers: range) -> None:
    for n in numbers:
        writer.event(Event(f"u{n % 97}", f"i{n * n % 211}", "click", 1_700_000_000_000 + 10 * n))
    writer.flush()


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
    start: Callable[..., WorkerProcess], kafka_settings: KafkaSettings, topics: TopicsSettings
) -> None:
    ensure_topics(kafka_settings, topics)
    with KafkaEventWriter(kafka_settings, topics) as writer:
        write(writer, range(NUM_IN_SNAPSHOT))
        stopped = start("worker-1", 1, **ONLY_AT_THE_END)
        wait_until(lambda: sum(committed(kafka_settings).values()) == NUM_IN_SNAPSHOT, "the first events are through")
        assert stopped.terminate() == 0
        write(writer, range(NUM_IN_SNAPSHOT, NUM_EVENTS))
    ends = ends_of(kafka_settings, topics)

    killed = start("worker-1", 2, **ONLY_AT_THE_END)
    wait_until(lambda: killed.metric("events_total", outcome="learnt") >= 500, "it is ahead of its snapshot")
    killed.kill()
    published_to = settled(kafka_settings)
    assert NUM_IN_SNAPSHOT < sum(published_to.values()) < NUM_EVENTS

    again = start("worker-1", 3, **ONLY_AT_THE_END)
    wait_until(lambda: committed(kafka_settings) == ends, "everything is committed")
    assert again.logged("resumed")[0]["snapshot"] == killed.logged("resumed")[0]["snapshot"]
    wait_until(lambda: again.ready()[0] == 200, "it is caught up")
    num_replayed, num_learnt = (again.metric("events_total", outcome=how) for how in ("replayed", "learnt"))
    assert again.terminate() == 0

    assert num_replayed == sum(published_to.values()) - NUM_IN_SNAPSHOT
    assert num_learnt == NUM_EVENTS - sum(published_to.values())
    check_that_all_is_taken_once(journal_of(kafka_settings, topics), ends)
    check_the_lists(kafka_settings, topics)
