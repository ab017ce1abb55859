"""``stream-rec demo --kafka``: the same demo through a real Apache Kafka broker, lists read back from their topic."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from rich.console import Console

from consumers.events import KafkaEventSource
from consumers.lists import ListReader
from producers.events import KafkaEventWriter
from producers.recommendations import KafkaSink
from producers.simulator import ShopSimulator, SimulatedRecord
from producers.topics import ensure_topics
from stream_rec.commands.demo import Demo, Shop
from stream_rec.config import KafkaSettings, Settings, TopicsSettings
from stream_rec.errors import BrokerError, SettingsError

BROKER_FILE = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "broker.py"
DRAIN_S = 5.0  # how long the last lists may take to arrive at the reader


def run_on_kafka(
    settings: Settings, simulator: ShopSimulator, num_events: int, rate: float, picture: Path | None
) -> int:
    """Start a broker in a temporary folder, run the demo through it, stop it. 130 where Ctrl-C ended it."""
    module = _broker_module()
    console = Console(stderr=True)
    with TemporaryDirectory(prefix="stream-rec-kafka-") as folder:
        console.print("starting Apache Kafka (the first time Maven fetches it) …")
        broker = module.Broker(folder)
        try:
            broker.start()
        except module.BrokerNotStarted as error:
            raise BrokerError(str(error)) from error
        try:
            servers = broker.bootstrap_servers
            kafka = settings.kafka.model_copy(update={"bootstrap_servers": servers})
            console.print(f"Apache Kafka answers at {servers[0]}")
            return _run(settings.model_copy(update={"kafka": kafka}), simulator, num_events, rate, picture)
        finally:
            broker.stop()


def _broker_module() -> ModuleType:
    if not BROKER_FILE.exists():
        raise SettingsError(
            f"demo --kafka starts its broker with {BROKER_FILE}, which a wheel does not bring: run it in a checkout, "
            "or point stream-rec run at a broker of yours"
        )
    spec = importlib.util.spec_from_file_location("stream_rec_demo_broker", BROKER_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _run(settings: Settings, simulator: ShopSimulator, num_events: int, rate: float, picture: Path | None) -> int:
    ensure_topics(settings.kafka, settings.topics)
    reader = ReadBack(settings.kafka, settings.topics)
    demo = Demo(settings, simulator, num_events)
    source = KafkaEventSource(settings.kafka, settings.topics, settings.decode, settings.worker.name)
    sink = KafkaSink(settings.kafka, settings.topics, settings.worker.name, source.group_metadata, source.assignment)
    with KafkaEventWriter(settings.kafka, settings.topics) as writer:
        topics = {"events": settings.topics.events.name, "items": settings.topics.items.name}

        def append(record: SimulatedRecord) -> None:
            writer.raw(topics[record.topic], record.key, record.value, record.timestamp_ms)

        shop = Shop(simulator, num_events, rate, append, on_end=writer.flush)
        with demo.on_screen():
            interrupted = demo.run(source, sink, shop)
    published = demo.view.tally.num_lists
    reader.finish(published)
    demo.finish(picture)
    Console(highlight=False).print(reader.summary(published))
    return 130 if interrupted else 0


class ReadBack:
    """An outsider: reads the published lists from their topic, committed ones only, and notes how fresh they are."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings) -> None:
        self._reader = ListReader(kafka, topics, "latest")
        self._closing = threading.Event()
        self._ages_s: list[float] = []
        self._users: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="read-back", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            for recommendation, _ in self._reader.poll(0.1):
                self._users.add(recommendation.user_id)
                self._ages_s.append(time.time() - recommendation.caused_by.timestamp_ms / 1000)

    def finish(self, num_published: int) -> None:
        """Wait for the last lists, then stop reading."""
        deadline_s = time.monotonic() + DRAIN_S
        while len(self._ages_s) < num_published and time.monotonic() < deadline_s:
            time.sleep(0.05)
        self._closing.set()
        self._thread.join()
        self._reader.close()

    def summary(self, num_published: int) -> str:
        """What arrived, in one sentence."""
        ages_s = sorted(self._ages_s)
        if not ages_s:
            return "No list was read back from the topic."
        p50, p99 = (ages_s[min(len(ages_s) - 1, int(q * len(ages_s)))] for q in (0.5, 0.99))
        return (
            f"Read back from the topic by another consumer: {len(ages_s):,} of {num_published:,} lists for "
            f"{len(self._users):,} users; event to list as seen there p50 {p50:.2f} s, p99 {p99:.2f} s."
        )
