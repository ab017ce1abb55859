"""One run of a study: a method through a stream under the protocol, from the first row to the last."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from consumers.files import FileLog, FileSource, open_log, read_items
from producers.memory import MemorySink
from stream_rec.commands.assembly import Assembly
from stream_rec.config import Settings
from stream_rec.evaluation.baselines.registry import Bounds, player_of
from stream_rec.evaluation.protocol import BURN_IN_FRACTION, under_protocol
from stream_rec.evaluation.ranking_metrics import MAX_RANK
from stream_rec.evaluation.study.answers import AnswerTable, RunFacts
from stream_rec.evaluation.study.choices import UNIFORM, choices_of, choosing_player
from stream_rec.evaluation.study.choosing import ChoosingLearner
from stream_rec.evaluation.study.exams import Exam, Examiner
from stream_rec.evaluation.study.plan import Run, StreamSpec
from stream_rec.learning.device import configure_torch
from stream_rec.records import Effects, Event, Item, StepReport

POLL_S = 0.5
OnRows = Callable[[int, Examiner], None]


class OpenStream:
    """The files of a stream, opened and checked. Raises InputFileError and SettingsError as ``open_log``."""

    def __init__(self, spec: StreamSpec, settings: Settings) -> None:
        self.spec = spec
        self.log: FileLog = open_log(spec.log, spec.columns, settings.decode)
        self.catalogue: list[Item] = (
            list(read_items(spec.items, spec.item_columns, settings.decode)) if spec.items else []
        )
        self.num_rows = min(self.log.num_rows, spec.limit or self.log.num_rows)
        self.num_burn_in = int(self.num_rows * BURN_IN_FRACTION)

    def source(self) -> FileSource:
        """From the first row on."""
        return FileSource([self.log], self.catalogue, limit=self.spec.limit)


class Interrupt:
    """Whether Ctrl-C was pressed, and what to tell then."""

    def __init__(self) -> None:
        self.pressed = False
        self.on_press: Callable[[], None] = lambda: None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Ctrl-C ends the run at hand after its batch."""

        def press(signum: int, _: FrameType | None) -> None:
            self.pressed = True
            self.on_press()

        before = signal.signal(signal.SIGINT, press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _Play(Protocol):
    def __call__(self, examiner: Examiner, on_rows: Callable[[int], None]) -> int:
        """Go through the stream; how many records could not be used."""


def play(
    run: Run, settings: Settings, stream: OpenStream, interrupt: Interrupt, on_rows: OnRows
) -> tuple[RunFacts, AnswerTable] | None:
    """One run from its beginning; ``settings`` are those of its method. None where it was interrupted.

    ``on_rows`` is told, after each batch, how many rows that was.
    """
    settings = _examined(settings, run)
    examiner = Examiner(
        settings.state,
        settings.learning.event_weights,
        novel=settings.ranking.exclude_seen,
        burn_in_events=stream.num_burn_in,
        choices=choices_of(run.stream, settings.state.max_items),
        is_uniform=run.method.baseline == UNIFORM,
    )
    going = _baseline(run, settings, stream, interrupt) if run.method.baseline else _model(settings, stream, interrupt)
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    num_rejected = going(examiner, lambda num_rows: on_rows(num_rows, examiner))
    cpu_s, wall_s = time.process_time() - start_cpu_s, time.monotonic() - start_s
    if interrupt.pressed:
        return None
    facts = RunFacts(
        num_events=examiner.num_observed,
        num_burn_in=stream.num_burn_in,
        num_rejected=num_rejected,
        cpu_s=cpu_s,
        wall_s=wall_s,
        spread=examiner.spread(),
    )
    return facts, examiner.answers.table()


def _examined(settings: Settings, run: Run) -> Settings:
    """The method's settings with the seed and the terms of the run."""
    settings = under_protocol(settings, allow_repeats=run.stream.allows_repeats)
    update = {
        "worker": settings.worker.model_copy(update={"seed": run.seed}),
        "evaluation": settings.evaluation.model_copy(update={"baselines": False}),
    }
    if run.stream.is_choice:
        # All of the choices are to be put in order, not only as many as a list is long.
        length = max(settings.ranking.list_length, min(settings.ranking.num_candidates, settings.state.max_items))
        update["ranking"] = settings.ranking.model_copy(update={"list_length": length})
        update["learning"] = settings.learning.model_copy(update={"order_shown": True})
    return settings.model_copy(update=update)


def _model(settings: Settings, stream: OpenStream, interrupt: Interrupt) -> _Play:
    assembly = Assembly(settings, burn_in_events=stream.num_burn_in)
    choices = choices_of(stream.spec, settings.state.max_items)
    if choices:
        assembly.learner = ChoosingLearner(settings, choices)

    def going(examiner: Examiner, on_rows: Callable[[int], None]) -> int:
        num_rejected = 0

        def grade(events: Sequence[Event], lists: Sequence[Sequence[str]]) -> None:
            # Questions are put together here and not by the worker, which knows nothing of being compared.
            exams: list[Exam | None] = examiner.ask(events)
            examiner.grade(exams, lists if choices else [items[:MAX_RANK] for items in lists])

        def count(effects: Effects) -> None:
            nonlocal num_rejected
            num_rejected += len(effects.rejected)

        def on_step(report: StepReport) -> None:
            on_rows(report.num_learnt + report.num_rejected)

        sink = MemorySink(on_effects=count, keep=1)
        worker = assembly.worker(stream.source(), sink, fresh=True, on_lists=grade, on_step=on_step)
        interrupt.on_press = worker.stop
        worker.run()
        return num_rejected

    return going


def _baseline(run: Run, settings: Settings, stream: OpenStream, interrupt: Interrupt) -> _Play:
    assert run.method.baseline is not None
    configure_torch(settings.worker)
    bounds = Bounds(settings.state.max_users, settings.state.max_items)
    make = choosing_player if run.stream.is_choice else player_of
    player = make(run.method.baseline, bounds, run.seed)
    k = min(MAX_RANK, settings.ranking.list_length)

    def going(examiner: Examiner, on_rows: Callable[[int], None]) -> int:
        source = stream.source()
        num_rejected, ended = 0, False
        while not ended and not interrupt.pressed:
            polled = source.poll(settings.worker.max_batch, POLL_S)
            examiner.examine(player, [received.event for received in polled.received], k)
            num_rejected += len(polled.rejected)
            ended = polled.ended
            on_rows(len(polled.received) + len(polled.rejected))
        return num_rejected

    return going
