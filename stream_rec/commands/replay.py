"""``stream-rec replay``: the worker's own loop over a recorded log."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumers.files import FileLog, FileSource, open_logs, read_items
from producers.lists_file import ListsFile
from producers.memory import MemorySink
from stream_rec import __version__
from stream_rec.config import Settings
from stream_rec.errors import SettingsError
from stream_rec.evaluation.protocol import BURN_IN_FRACTION, under_protocol
from stream_rec.evaluation.report import ReplayReport
from stream_rec.records import Effects, Item, StepReport
from stream_rec.worker import Worker

POLL_S = 0.5


def main(
    settings: Settings,
    files: list[Path],
    *,
    mapping: dict[str, str],
    items: Path | None,
    items_mapping: dict[str, str],
    speed: float | None,
    allow_repeats: bool,
    explore: bool,
    out: Path | None,
    lists: str,
    to_kafka: bool,
    limit: int | None,
    report_json: Path | None,
    quiet: bool,
) -> int:
    """Replay ``files`` one after the other and print the report; 130 where the user broke it off.

    Broken off, it prints the figures so far and leaves neither lists nor JSON: both are whole or not there.
    Raises InputFileError for files that cannot be read, SettingsError for an ``out`` that cannot be written.
    """
    logs = open_logs(files, mapping, settings.decode)
    catalogue = list(read_items(items, items_mapping, settings.decode)) if items else []
    num_rows = min(sum(log.num_rows for log in logs), limit or 2**62)
    if to_kafka:
        return _play_to_kafka(settings, logs, catalogue, speed, limit, num_rows, quiet)
    if report_json and not report_json.absolute().parent.is_dir():
        raise SettingsError(f"--report-json {report_json}: there is no folder {report_json.absolute().parent}")
    settings = under_protocol(settings, allow_repeats=allow_repeats, explore=explore)
    # Imported late: --to-kafka needs no torch.
    from stream_rec.commands.assembly import Assembly

    num_burn_in = int(num_rows * BURN_IN_FRACTION)
    assembly = Assembly(settings, burn_in_events=num_burn_in)
    rejected: Counter[str] = Counter()

    def count(effects: Effects) -> None:
        rejected.update(r.reason for r in effects.rejected)

    source = FileSource(logs, catalogue, speed=speed, limit=limit)
    lists_file: AbstractContextManager[ListsFile | None] = ListsFile(out) if out else nullcontext()
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    with _progress(quiet) as progress, lists_file as file:
        bar = progress.add_task("replay", total=num_rows, note="")

        def on_step(report: StepReport) -> None:
            model = report.window.get("model", {})
            note = f"HR@10 {model.get('hr@10', 0):.3f}  NDCG@10 {model.get('ndcg@10', 0):.3f}"
            progress.update(bar, advance=report.num_learnt + report.num_rejected, note=note)

        worker = assembly.worker(
            source,
            MemorySink(on_effects=count, keep=1),
            fresh=lists == "fresh",
            on_lists=file.write if file else None,
            on_step=on_step,
        )
        interrupted = _run(worker)
        if not interrupted:
            progress.update(bar, completed=num_rows)
        elif file:
            file.discard()  # the name is for a whole file only
    report = ReplayReport(
        streams=[log.name for log in logs],
        num_events=assembly.evaluator.num_observed,
        num_scored=assembly.evaluator.num_scored,
        methods=assembly.evaluator.whole(),
        wall_s=time.monotonic() - start_s,
        cpu_s=time.process_time() - start_cpu_s,
        seed=settings.worker.seed,
        version=__version__,
        lists=lists,
        allow_repeats=not settings.ranking.exclude_seen,
        num_burn_in=num_burn_in,
        rejected=dict(rejected),
        settings=settings.model_dump(mode="json", include={"worker", "state", "model", "learning", "ranking"}),
    )
    if report_json and not interrupted:
        report_json.write_text(report.to_json())
    report.render(Console())
    return 130 if interrupted else 0


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


def _run(worker: Worker) -> bool:
    """Run to the end of the log; True where Ctrl-C ended it early (after the batch at hand)."""
    interrupted: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        interrupted.append(signum)
        worker.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        worker.run()
    finally:
        signal.signal(signal.SIGINT, before)
    return bool(interrupted)


def _play_to_kafka(
    settings: Settings,
    logs: list[FileLog],
    catalogue: list[Item],
    speed: float | None,
    limit: int | None,
    num_rows: int,
    quiet: bool,
) -> int:
    """Send the catalogue and the log's events to their topics, at the log's own pace where ``speed`` is given."""
    from producers.events import KafkaEventWriter
    from producers.topics import ensure_topics

    console = Console(stderr=True)
    ensure_topics(settings.kafka, settings.topics)
    num_rejected = 0
    source = FileSource(logs, catalogue, speed=speed, limit=limit)
    with KafkaEventWriter(settings.kafka, settings.topics) as writer, _progress(quiet) as progress:
        bar = progress.add_task("to Kafka", total=num_rows, note="")
        ended = False
        while not ended:
            polled = source.poll(settings.worker.max_batch, POLL_S)
            ended = polled.ended
            for update in polled.item_updates:
                if update.item:
                    writer.item(update.item)
            for received in polled.received:
                writer.event(received.event)
            num_rejected += len(polled.rejected)
            progress.update(bar, advance=len(polled.received) + len(polled.rejected))
        writer.flush()
    if num_rejected:
        console.print(f"{num_rejected} rows could not be used and were not sent")
    return 0
