"""The main job on a real broker: a recorded log goes in, lists come out, no record is lost and none is taken twice,
while workers stop, start and join."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as parquet
import pytest
from kafka import KafkaAdminClient

from consumers.lists import read_lists
from producers.events import KafkaEventWriter
from producers.topics import ensure_topics
from stream_rec.config import TOPIC_ROLES, KafkaSettings, TopicsSettings
from stream_rec.records import Event, JournalRecord, Recommendation
from tests.end_to_end.worker_process import WorkerProcess, wait_until
from tests.kafka_records import records_of

pytestmark = [pytest.mark.kafka, pytest.mark.logs, pytest.mark.timeout(600)]

NUM_EVENTS = 20_000
MALFORMED = {
    "not_json": b"click!",
    "not_utf8": b"\xff\xfe{}",
    "wrong_shape": b'{"user_id": "u"}',
    "bad_timestamp": b'{"user_id":"u","item_id":"i","type":"click","timestamp":99999999999999}',
    "tombstone": None,
}
EACH_MALFORMED = 4
LEFT_FOR_BOTH = 4_000  # events that come when the second worker is there
MALFORMED_KEY = b"malformed-"

CONFIG = """
[worker]
threads = 1
max_batch = 512
max_wait_ms = 50
ready_max_lag = 50

[model]
dimension = 16
num_layers = 1

[state]
history_length = 20
max_users = 20_000
max_items = 20_000

[evaluation]
baselines = false

[snapshot]
every_s = 5
directory = "{directory}"

[kafka]
bootstrap_servers = {servers}
group_id = "{group}"
max_block_ms = 20_000
consumer = {{ heartbeat_interval_ms = 300 }}

{topics}
"""


@pytest.fixture
def topics(kafka_topics: TopicsSettings) -> TopicsSettings:
    return kafka_topics.model_copy(update={"events": kafka_topics.events.model_copy(update={"partitions": 4})})


@pytest.fixture
def config(tmp_path: Path, kafka_settings: KafkaSettings, topics: TopicsSettings) -> Path:
    path = tmp_path / "worker.toml"
    named = [f'[topics.{role}]\nname = "{getattr(topics, role).name}"\n' for role in TOPIC_ROLES]
    path.write_text(
        CONFIG.format(
            directory=tmp_path / "snapshots",
            servers=json.dumps(kafka_settings.bootstrap_servers),
            group=kafka_settings.group_id,
            topics="\n".join(named),
        )
    )
    return path


@pytest.fixture
def start(config: Path, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start_one(name: str, life: int = 1) -> WorkerProcess:
        started.append(WorkerProcess(config, tmp_path, name, life))
        return started[-1]

    yield start_one
    for worker in started:
        worker.kill()


@pytest.fixture
def recorded(event_logs: Path) -> list[Event]:
    columns = ["ts_ms", "user_id", "item_id", "event"]
    rows = parquet.read_table(event_logs / "globo_u10.parquet", columns=columns).slice(0, NUM_EVENTS).to_pylist()
    return [Event(row["user_id"], row["item_id"], row["event"], row["ts_ms"]) for row in rows]


class Shop:
    """Writes the log into the topic, with the malformed records evenly among the events."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, recorded: list[Event]) -> None:
        self._recorded = recorded
        self._topics = topics
        self._malformed = list(MALFORMED.values()) * EACH_MALFORMED
        self._every = len(recorded) // len(self._malformed)
        ensure_topics(kafka, topics)
        self._writer = KafkaEventWriter(kafka, topics)

    def write(self, first: int, after: int) -> None:
        for number in range(first, after):
            self._writer.event(self._recorded[number])
            if number % self._every == self._every - 1:
                value = self._malformed[number // self._every]
                self._writer.raw(self._topics.events.name, MALFORMED_KEY + b"%d" % number, value)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def shop(kafka_settings: KafkaSettings, topics: TopicsSettings, recorded: list[Event]) -> Iterator[Shop]:
    shop = Shop(kafka_settings, topics, recorded)
    yield shop
    shop.close()


def test_every_event_is_accounted_for_while_workers_stop_start_and_join(
    start: Callable[..., WorkerProcess],
    shop: Shop,
    kafka_settings: KafkaSettings,
    topics: TopicsSettings,
) -> None:
    # The first half; a worker that is stopped before it is through.
    shop.write(0, NUM_EVENTS // 2)
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
    num_written = NUM_EVENTS // 2

    def shared() -> bool:
        nonlocal num_written
        after = min(num_written + 200, NUM_EVENTS - LEFT_FOR_BOTH)
        shop.write(num_written, after)
        num_written = after
        return again.partitions() | second.partitions() == {0, 1, 2, 3} and len(second.partitions()) == 2

    wait_until(shared, "both have partitions")
    shop.write(num_written, NUM_EVENTS)
    wait_until(lambda: again.ready()[0] == second.ready()[0] == 200, "both are caught up")
    ends = ends_of(kafka_settings, topics)
    wait_until(lambda: committed(kafka_settings) == ends, "everything is committed")
    assert not again.partitions() & second.partitions()
    assert again.metric("rebalances_total") >= 2
    learnt = second.metric("events_total", outcome="learnt")
    num_rejected = second.metric("dead_letters_total")
    assert again.terminate() == second.terminate() == 0

    journal = [
        msgspec.json.decode(r.value, type=JournalRecord) for r in records_of(kafka_settings, topics.journal.name)
    ]
    check_the_journal(journal, ends)
    check_the_dead_letters(records_of(kafka_settings, topics.dead_letters.name))
    lists = [one for one, _ in read_lists(kafka_settings, topics, stop_at_end=True)]
    check_the_lists(lists, records_of(kafka_settings, topics.events.name))

    # What the second worker says of itself; it may also have learnt from what it then left to the first.
    its_own = [one for one in journal if one.worker == "worker-2"]
    assert 0 < sum(one.num_learnt for one in its_own) <= learnt
    assert sum(one.num_rejected for one in its_own) == num_rejected


def committed(kafka: KafkaSettings) -> dict[int, int]:
    """Partition of ``events`` → the group's committed offset."""
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    offsets = admin.list_group_offsets([kafka.group_id])[kafka.group_id]
    admin.close()
    return {partition.partition: at.offset for partition, at in offsets.items() if at.offset >= 0}


def ends_of(kafka: KafkaSettings, topics: TopicsSettings) -> dict[int, int]:
    """Partition of ``events`` → the offset after its last record."""
    after: dict[int, int] = {}
    for record in records_of(kafka, topics.events.name):
        after[record.partition] = record.offset + 1
    return after


def check_the_journal(journal: list[JournalRecord], ends: dict[int, int]) -> None:
    """Laid side by side, what the batches took covers every offset of every partition exactly once."""
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one in journal:
        for _, partition, first, after in one.taken:
            if first != after:
                taken[partition].append((first, after))
    for partition, end in ends.items():
        ranges = sorted(taken[partition])
        assert [first for first, _ in ranges] == [0, *(after for _, after in ranges[:-1])], partition
        assert ranges[-1][1] == end
    assert sum(one.num_learnt for one in journal) == NUM_EVENTS
    assert sum(one.num_rejected for one in journal) == len(MALFORMED) * EACH_MALFORMED


def check_the_dead_letters(letters: list[Any]) -> None:
    """Each malformed record once, with its own bytes and its own reason."""
    headers = [dict(letter.headers) for letter in letters]
    assert Counter(one["stream_rec_reason"].decode() for one in headers) == dict.fromkeys(MALFORMED, EACH_MALFORMED)
    for letter, one in zip(letters, headers, strict=True):
        assert letter.value == MALFORMED[one["stream_rec_reason"].decode()]
    places = {(one["stream_rec_partition"], one["stream_rec_offset"]) for one in headers}
    assert len(places) == len(letters)


def check_the_lists(lists: list[Recommendation], events: list[Any]) -> None:
    """Each user's newest list reflects his last event; it is as long as it can be, no item twice, best first."""
    last = {
        record.key.decode(): (record.partition, record.offset)
        for record in events
        if not record.key.startswith(MALFORMED_KEY)
    }
    newest = {one.user_id: one for one in lists}
    assert {user: (one.caused_by.partition, one.caused_by.offset) for user, one in newest.items()} == last
    for one in newest.values():
        items = [item.item_id for item in one.items]
        assert len(items) == len(set(items)) == 20
        assert [item.rank for item in one.items] == list(range(1, 21))
        assert [item.score for item in one.items] == sorted((item.score for item in one.items), reverse=True)
