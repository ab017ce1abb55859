"""A broker's topics, a settings file for them, and workers that are gone when their test is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_rec.config import TOPIC_ROLES, KafkaSettings, TopicsSettings
from tests.end_to_end.worker_process import WorkerProcess

# One thread a worker: two of them, a broker and the test share what may be two cores.
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
consumer = {{ heartbeat_interval_ms = 300, session_timeout_ms = 6_000 }}

{topics}
"""


@pytest.fixture
def topics(kafka_topics: TopicsSettings) -> TopicsSettings:
    """Four partitions of events."""
    return kafka_topics.model_copy(update={"events": kafka_topics.events.model_copy(update={"partitions": 4})})


@pytest.fixture
def config(tmp_path: Path, kafka_settings: KafkaSettings, topics: TopicsSettings) -> Path:
    """The settings file of every worker."""
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
    """Start a worker: its name, which of its lives it is, and what it sets otherwise."""
    started: list[WorkerProcess] = []

    def start_one(name: str, life: int = 1, **overrides: str) -> WorkerProcess:
        started.append(WorkerProcess(config, tmp_path, name, life, **overrides))
        return started[-1]

    yield start_one
    for worker in started:
        worker.kill()
