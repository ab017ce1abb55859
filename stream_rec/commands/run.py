"""``stream-rec run``: the long-lived worker on Kafka."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from consumers.events import KafkaEventSource
from producers.recommendations import KafkaSink
from producers.topics import ensure_topics
from stream_rec.commands.assembly import Assembly
from stream_rec.config import Settings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.telemetry.logging import get_logger
from stream_rec.telemetry.server import TelemetryServer
from stream_rec.worker import Worker

log = get_logger(__name__)


def main(settings: Settings) -> int:
    """Run until SIGTERM or Ctrl-C: then the batch at hand is finished, published and committed, and a snapshot taken.

    Effects, in this order: 1. `/metrics` and the health pages open; 2. missing topics are created or named;
    3. the newest snapshot is taken up; 4. the worker joins the group. Everything is undone in reverse.
    """
    assembly = Assembly(settings)
    server = None
    if settings.telemetry.enabled:
        telemetry = settings.telemetry
        server = TelemetryServer(telemetry.host, telemetry.port, assembly.metrics.registry, assembly.health)
        server.start()
        log.info("watch it", url=f"http://{server.host}:{server.port}/metrics")
    try:
        created = ensure_topics(settings.kafka, settings.topics)
        if created:
            log.info("topics created", names=created)
        _run(settings, assembly)
    finally:
        if server:
            server.close()
    return 0


def _run(settings: Settings, assembly: Assembly) -> None:
    source = KafkaEventSource(settings.kafka, settings.topics, settings.decode, settings.worker.name)
    try:
        sink = KafkaSink(
            settings.kafka, settings.topics, settings.worker.name, source.group_metadata, source.assignment
        )
        try:
            snapshots = SnapshotStore(settings) if settings.snapshot.enabled else None
            worker = assembly.worker(source, sink, snapshots=snapshots)
            worker.resume()
            _until_stopped(worker)
        finally:
            sink.close()
    finally:
        source.close()


def _until_stopped(worker: Worker) -> None:
    """Run; SIGTERM and SIGINT ask for a clean end, a second one of them gets the usual abrupt one."""
    before: dict[int, Any] = {}

    def stop(signum: int, _: FrameType | None) -> None:
        log.info("stopping after this batch", signal=signal.Signals(signum).name)
        worker.stop()
        signal.signal(signum, before[signum])

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, stop)
    try:
        worker.run()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    log.info("stopped")
