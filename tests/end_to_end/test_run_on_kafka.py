"""The main job on a real broker: a recorded log goes in, lists come out, no record is lost and none is taken twice,
while workers stop, start and join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import KafkaSettings, TopicsSettings
from stream_rec.records import Event
from tests.end_to_end.accounts import (
    MALFORMED_KEY,
    check_that_all_is_taken_once,
    check_the_lists,
    committed,
    ends_of,
    journal_of,
)
from tests.end_to_end.worker_process import WorkerProcess, wait_until
from tests.kafka_records import records_of

pytestmark = [pytest.mark.kafka, pytest.mark.logs, pytest.mark.timeout(900)]

NUM_EVENTS = 20_000
LEFT_FOR_BOTH = 4_000  # events that come when the second worker is there
MALFORMED = {
    "not_json": b"click!",
    "not_utf8": b"\xff\xfe{}",
    "wrong_shape": b'{"user_id": "u"}',
    "bad_timestamp": b'{"user_id":"u","item_id":"i","type":"click","timestamp":99999999999999}',
    "tombstone": None,
}
EACH_MALFORMED = 4


class Shop:
    """Writes the log into the topic, with the malformed records evenly among the events."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, recorded: list[Event]) -> None:
        self._recorded = recorded
        self._topic = topics.events.name
        self._malformed = list(MALFORMED.values()) * EACH_MALFORMED
        self._every = len(recorded) // len(self._malformed)
        ensure_topics(kafka, topics)
        self._writer = KafkaEventWriter(kafka, topics)
        self.num_written = 0

    def write(self, up_to: int) -> None:
        """Go on with the log as far as ``up_to`` events."""
        for number in range(self.num_written, up_to):
            self._writer.event(self._recorded[number])
            if number % self._every == self._every - 1:
                value = self._malformed[number // self._every]
                self._writer.raw(self._topic, MALFORMED_KEY + b"%d" % number, value)
        self._writer.flush()
        self.num_written = max(up_to, self.num_written)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def shop(event_logs: Path, kafka_settings: KafkaSettings, topics: TopicsSettings) -> Iterator[Shop]:
    columns = ["ts_ms", "user_id", "item_id", "event"]
    rows = parquet.read_table(event_logs / "globo_u10.parquet", columns=columns).slice(0, NUM_EVENTS).to_pylist()
    events = [Event(row["user_id"], row["item_id"], row["event"], row["ts_ms"]) for row in rows]
    shop = Shop(kafka_settings, topics, events)
    yield shop
    shop.close()


def test_every_event_is_accounted_for_while_workers_stop_start_and_join(
    start: Callable[..., WorkerProcess], shop: Shop, kafka_settings: KafkaSettings, topics: TopicsSettings
) -> None:
    # The first half; a worker that is stopped before it is through.
    shop.write(NUM_EVENTS // 2)
    first = start("worker-1")
    reasons = []

    def has_learnt_a_part() -> bool:
        reasons.append(first.ready())
        assert first.get("/healthz")[0] == 200
        return first.metric("events_total", outcome="learnt") >= 2_000

    wait_until(has_learnt_a_part, "a part of the first half is learnt")
    assert {status for status, _ in reasons} == {503}
    assert first.partitions() == {0, 1, 2, 3}
    assert first.terminate() == 0
    assert first.logged("stopped")
    kept = first.logged("snapshot")[-1]["path"]
    assert sum(committed(kafka_settings).values()) < NUM_EVENTS // 2

    # It goes on from its snapshot. Another joins while events keep coming.
    again = start("worker-1", 2)
    wait_until(lambda: again.partitions() == {0, 1, 2, 3}, "the worker is back in its group")
    (resumed,) = again.logged("resumed")
    assert resumed["snapshot"] == kept
    second = start("worker-2")

    def shared() -> bool:
        shop.write(min(shop.num_written + 200, NUM_EVENTS - LEFT_FOR_BOTH))
        return again.partitions() | second.partitions() == {0, 1, 2, 3} and len(second.partitions()) == 2

    wait_until(shared, "both have partitions")
    shop.write(NUM_EVENTS)
    wait_until(lambda: again.ready()[0] == second.ready()[0] == 200, "both are caught up")
    ends = ends_of(kafka_settings, topics)
    wait_until(lambda: committed(kafka_settings) == ends, "everything is committed")
    assert not again.partitions() & second.partitions()
    assert again.metric("rebalances_total") >= 2
    learnt = second.metric("events_total", outcome="learnt")
    num_rejected = second.metric("dead_letters_total")
    assert again.terminate() == second.terminate() == 0

    journal = journal_of(kafka_settings, topics)
    check_that_all_is_taken_once(journal, ends)
    assert sum(one.num_learnt for one in journal) == NUM_EVENTS
    check_the_dead_letters(records_of(kafka_settings, topics.dead_letters.name))
    check_the_lists(kafka_settings, topics)
    # What the second worker says of itself; it may also have learnt from what it then left to the first.
    its_own = [one for one in journal if one.worker == "worker-2"]
    assert 0 < sum(one.num_learnt for one in its_own) <= learnt
    assert sum(one.num_rejected for one in its_own) == num_rejected


def check_the_dead_letters(letters: list[Any]) -> None:
    """Each malformed record once, with its own bytes and its own reason."""
    headers = [dict(letter.headers) for letter in letters]
    assert Counter(one["stream_rec_reason"].decode() for one in headers) == dict.fromkeys(MALFORMED, EACH_MALFORMED)
    for letter, one in zip(letters, headers, strict=True):
        assert letter.value == MALFORMED[one["stream_rec_reason"].decode()]
    places = {(one["stream_rec_partition"], one["stream_rec_offset"]) for one in headers}
    assert len(places) == len(letters)
