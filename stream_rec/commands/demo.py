"""``stream-rec demo``: a simulated shop, learnt live, in this process alone or through a real broker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from consumers.memory import MemoryLog, MemorySource
from producers.memory import MemorySink
from producers.simulator import ShopSimulator, SimulatedRecord, SimulatorConfig
from stream_rec.commands.assembly import Assembly
from stream_rec.config import Settings
from stream_rec.console.summary import Ceiling
from stream_rec.console.terminal import DemoView
from stream_rec.errors import BrokerError, SettingsError
from stream_rec.ports import Sink, Source
from stream_rec.records import Polled, StepReport
from stream_rec.telemetry.logging import configure_logging
from stream_rec.worker import Worker

DEFAULT_RATE = 400.0  # events per second: what two cores learn with time to spare
WINDOW_EVENTS = 2_000  # a minute is short: the curves must move within it

Append = Callable[[SimulatedRecord], None]


def main(
    settings: Settings,
    *,
    seconds: float,
    num_events: int | None,
    rate: float | None,
    seed: int,
    kafka: bool,
    picture: Path | None = None,
) -> int:
    """Run for about ``seconds``, or for ``num_events``, and print a summary; 130 where Ctrl-C ended it.

    Half-way the shop's tastes shift and new items come in. Raises SettingsError for a ``picture`` that cannot be saved.
    """
    if picture and not picture.absolute().parent.is_dir():
        raise SettingsError(f"--picture {picture}: there is no folder {picture.absolute().parent}")
    rate = rate or DEFAULT_RATE
    num_events = num_events or max(2, round(seconds * rate))
    settings = _for_demo(settings)
    simulator = ShopSimulator(SimulatorConfig(seed=seed, drift_at=max(1, num_events // 2)))
    # The view owns the terminal: only what ends the demo may write over it.
    configure_logging(settings.telemetry.log_format, "error")
    if kafka:
        from stream_rec.commands.demo_kafka import run_on_kafka

        return run_on_kafka(settings, simulator, num_events, rate, picture)
    return _run_in_memory(settings, simulator, num_events, rate, picture)


def _for_demo(settings: Settings) -> Settings:
    evaluation = settings.evaluation.model_copy(update={"window_events": WINDOW_EVENTS})
    return settings.model_copy(update={"evaluation": evaluation})


def _run_in_memory(
    settings: Settings, simulator: ShopSimulator, num_events: int, rate: float, picture: Path | None
) -> int:
    # As much as two batches may wait: a shop faster than the learner is slowed down, not queued up.
    events = MemoryLog(capacity=2 * settings.worker.max_batch, max_items=settings.state.max_items)

    def append(record: SimulatedRecord) -> None:
        events.append(record.topic, record.key, record.value, record.timestamp_ms)

    shop = Shop(simulator, num_events, rate, append, on_end=events.close)
    demo = Demo(settings, simulator, num_events)
    with demo.on_screen():
        interrupted = demo.run(MemorySource(events, settings.decode), MemorySink(events.commit), shop)
    demo.finish(picture)
    return 130 if interrupted else 0


def ceiling_of(simulator: ShopSimulator) -> Ceiling:
    """What the best possible list would have scored so far."""
    best = simulator.ceiling()
    return Ceiling(best.hr_at_10, best.ndcg_at_10)


class Shop:
    """The simulator in a thread of its own, at a steady rate, stamping events with the time of now."""

    def __init__(
        self,
        simulator: ShopSimulator,
        num_events: int,
        rate: float,
        append: Append,
        on_end: Callable[[], None],
    ) -> None:
        self._simulator = simulator
        self._num_events = num_events
        self._rate = rate
        self._append = append
        self._on_end = on_end
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop", daemon=True)
        self.failure: BaseException | None = None

    def open(self) -> None:
        """Let people in."""
        self._thread.start()

    def close(self) -> None:
        """Close the doors and wait for the thread."""
        self._closing.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self._serve()
        except BrokerError as error:
            # A log that was closed under us is how an early end looks from here.
            if not self._closing.is_set():
                self.failure = error
        finally:
            self._on_end()

    def _serve(self) -> None:
        start_s = time.monotonic()
        for record in self._simulator.records(timestamp=lambda: time.time_ns() // 1_000_000):
            num_events = self._simulator.num_events
            if self._closing.is_set() or num_events > self._num_events:
                return
            self._append(record)
            ahead_s = num_events / self._rate - (time.monotonic() - start_s)
            if ahead_s > 0.005:
                self._closing.wait(ahead_s)


class WatchedSource:
    """A source whose polls are shown to somebody else, too."""

    def __init__(self, source: Any, on_polled: Callable[[Polled], None]) -> None:
        self._source = source
        self._on_polled = on_polled

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """As the source's."""
        polled: Polled = self._source.poll(max_records, timeout_s)
        self._on_polled(polled)
        return polled


class Demo:
    """A worker and its view."""

    def __init__(self, settings: Settings, simulator: ShopSimulator, num_events: int) -> None:
        self.view = DemoView()
        self.assembly = Assembly(settings)
        self._simulator = simulator
        self._num_events = num_events
        self._num_learnt = 0
        self._shifted = False
        self._worker: Worker | None = None
        self._interrupted = False

    def run(self, source: Source, sink: Sink, shop: Shop) -> bool:
        """Run until all events are learnt; True where Ctrl-C ended it early. Raises what the shop ran into."""
        watched: Any = WatchedSource(source, self.view.on_polled)
        self._worker = self.assembly.worker(watched, sink, on_step=self._on_step)
        if self._interrupted:
            self._worker.stop()
        shop.open()
        try:
            self._worker.run()
        finally:
            shop.close()
            source.close()
            sink.close()
        if shop.failure:
            raise shop.failure
        return self._interrupted

    def _on_step(self, report: StepReport) -> None:
        self._num_learnt += report.num_learnt
        self.view.on_step(report, titles=self._simulator.title, progress=self._num_learnt / self._num_events)
        drift_at = self._simulator.drift_at
        if not self._shifted and drift_at is not None and self._num_learnt >= drift_at:
            self._shifted = True
            self.view.mark(self._simulator.drift_description, new_items=self._simulator.new_item_ids)
        if self._num_learnt >= self._num_events and self._worker:
            self._worker.stop()

    def finish(self, picture: Path | None) -> None:
        """Say what the run came to."""
        self.view.summary(ceiling=ceiling_of(self._simulator))
        if picture:
            self.view.save_picture(picture)

    @contextmanager
    def on_screen(self) -> Iterator[None]:
        """Show the view. Ctrl-C and SIGTERM end the run in good order, from before the screen is taken until it is
        given back: an exception while it is being taken would leave somebody's terminal without a cursor."""

        def stop(signum: int, _: FrameType | None) -> None:
            self._interrupted = True
            if self._worker:
                self._worker.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self.view:
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
