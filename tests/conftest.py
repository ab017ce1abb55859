"""What the whole suite shares: one real Apache Kafka broker a session, topics of its own for every test, and where the
recorded event logs are: STREAM_REC_DATA, else ../shared/data beside the checkout."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog

# As the command line does, before anything loads torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from stream_rec.config import KafkaSettings, TopicSettings, TopicsSettings

BROKER = Path(__file__).parents[1] / "deploy" / "kafka" / "broker.py"


def load_broker_module() -> ModuleType:
    """``deploy/kafka/broker.py``, which is no package: people run it as it lies there."""
    if "kafka_broker" not in sys.modules:
        spec = importlib.util.spec_from_file_location("kafka_broker", BROKER)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["kafka_broker"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["kafka_broker"]


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """A test that sets up logging sends it to a stream that ends with the test; the next one must not write there."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    for handler in [one for one in root.handlers if one.get_name() == "stream_rec"]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running ``Broker`` on free ports. Without Java, Maven or the jars it fails: it never skips."""
    broker = load_broker_module().Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def kafka_topics() -> TopicsSettings:
    """Names that no other test uses, two partitions of events; nothing is created yet."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    return TopicsSettings(
        events=TopicSettings(name=f"{prefix}-events", partitions=2),
        items=TopicSettings(name=f"{prefix}-items", partitions=1, retention_ms=-1, compacted=True),
        recommendations=TopicSettings(name=f"{prefix}-recommendations", partitions=2, retention_ms=-1, compacted=True),
        dead_letters=TopicSettings(name=f"{prefix}-dead-letters", partitions=1),
        journal=TopicSettings(name=f"{prefix}-journal", partitions=1),
    )


@pytest.fixture
def kafka_settings(kafka_broker: Any, kafka_topics: TopicsSettings) -> KafkaSettings:
    """The session's broker, and a consumer group that no other test uses."""
    return KafkaSettings(
        bootstrap_servers=kafka_broker.bootstrap_servers,
        group_id=kafka_topics.events.name.replace("events", "group"),
        max_block_ms=20_000,
        consumer={"heartbeat_interval_ms": 300},  # by which a member learns that the group wants to rebalance
    )


@pytest.fixture(scope="session")
def event_logs() -> Path:
    """The folder of the recorded logs. Without it the test is left out with a line, and fails in CI."""
    folder = Path(os.environ.get("STREAM_REC_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        line = f"recorded event logs: no folder {folder} (set STREAM_REC_DATA)"
        if os.environ.get("CI"):
            pytest.fail(line)
        pytest.skip(line)
    return folder
