"""``stream-rec evaluate``: streams × methods × seeds under the prequential protocol, and what it came to."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stream_rec import __version__
from stream_rec.commands.evaluate_runs import Interrupt, OnRows, OpenStream, play
from stream_rec.config import Settings
from stream_rec.errors import SettingsError
from stream_rec.evaluation.study import keys
from stream_rec.evaluation.study.answers import RunResult, read_result, write_result
from stream_rec.evaluation.study.exams import Examiner
from stream_rec.evaluation.study.figures import Finished, StreamFigures, Study, figures_of
from stream_rec.evaluation.study.html import write_html
from stream_rec.evaluation.study.markdown import results_table, summary_table
from stream_rec.evaluation.study.plan import MethodSpec, Plan, Run, parse_plan
from stream_rec.evaluation.study.terminal import render
from stream_rec.settings_file import load_settings

INTERRUPTED = 130
SHOWN_MISSING = 5


def main(
    config: Path | None,
    overrides: Mapping[str, str],
    *,
    streams: list[str],
    methods: list[str],
    seeds: str | None,
    out: Path,
    report_only: bool,
    again: bool,
    quiet: bool,
) -> int:
    """Run what has not been run yet, write the views into ``out``, print the tables; 130 where it was broken off.

    Raises SettingsError for what cannot be planned, InputFileError for files that cannot be read.
    """
    base = load_settings(config, overrides)
    plan = parse_plan(streams, methods, str(base.worker.seed) if seeds is None else seeds)
    work = Evaluation(plan, _all_settings(plan, config, overrides), out)
    console = Console(stderr=True)
    is_whole = report_only or work.run(again=again, console=console, quiet=quiet)
    study = Study(__version__, plan.command(overrides, config), work.figures())
    if study.streams:
        write_views(study, out)
        render(study, Console())
    missing = work.missing()
    if missing:
        more = f" and {len(missing) - SHOWN_MISSING} more" if len(missing) > SHOWN_MISSING else ""
        console.print(
            f"Not run yet: {'; '.join(missing[:SHOWN_MISSING])}{more}.", style="yellow", highlight=False, markup=False
        )
    return 0 if is_whole else INTERRUPTED


class Evaluation:
    """The runs of a plan and the folder that holds what came of them."""

    def __init__(self, plan: Plan, settings: Mapping[tuple[str, str], Settings], out: Path) -> None:
        self._plan = plan
        self._settings = settings  # stream, method → settings
        self._out = out
        some = plan.methods[0].text  # how a stream is decoded is the same for all
        self._streams = {spec.name: OpenStream(spec, settings[spec.name, some]) for spec in plan.streams}
        self._keys = {spec.name: keys.stream_key(spec) for spec in plan.streams}
        self._runs = [run for spec in plan.streams for run in plan.runs(spec)]

    def run(self, *, again: bool, console: Console, quiet: bool) -> bool:
        """Do every run that is not there yet (all with ``again``); False where Ctrl-C ended it."""
        interrupt = Interrupt()
        to_do = [run for run in self._runs if again or self._read(run) is None]
        with interrupt.watching(), _progress(console, quiet) as progress:
            whole = progress.add_task("runs", total=len(self._runs), completed=len(self._runs) - len(to_do), note="")
            for run in to_do:
                stream = self._streams[run.stream.name]
                bar = progress.add_task(_label(run), total=stream.num_rows, note="")
                settings = self._settings[run.stream.name, run.method.text]
                done = play(run, settings, stream, interrupt, _on_rows(progress, bar))
                progress.remove_task(bar)
                if done is None:
                    return False
                write_result(self._path(run), RunResult(self._made_with(run), *done))
                progress.advance(whole)
                if interrupt.pressed:
                    return False
        return True

    def figures(self) -> list[StreamFigures]:
        """Of every stream of which a run is there."""
        figures = []
        for spec in self._plan.streams:
            finished = [Finished(run, result) for run in self._plan.runs(spec) if (result := self._read(run))]
            if finished:
                figures.append(figures_of(spec, finished))
        return figures

    def missing(self) -> list[str]:
        """Runs of which there is no result, in words."""
        return [_label(run) for run in self._runs if self._read(run) is None]

    def _read(self, run: Run) -> RunResult | None:
        return read_result(self._path(run), self._made_with(run))

    def _made_with(self, run: Run) -> dict[str, Any]:
        return keys.made_with(run, self._settings[run.stream.name, run.method.text], self._keys[run.stream.name])

    def _path(self, run: Run) -> Path:
        return self._out / "runs" / run.stream.name / f"{_file_name(run.method)}.seed-{run.seed}.answers"


def write_views(study: Study, out: Path) -> None:
    """``results.json``, ``report.html``, ``results.md`` (everything) and ``summary.md`` (a README's table)."""
    out.mkdir(parents=True, exist_ok=True)
    values = json.dumps(study.to_json_values(), indent=1, ensure_ascii=False, allow_nan=False)
    (out / "results.json").write_text(values + "\n", encoding="utf-8")
    (out / "report.html").write_text(write_html(study), encoding="utf-8")
    (out / "results.md").write_text(results_table(study), encoding="utf-8")
    (out / "summary.md").write_text(summary_table(study), encoding="utf-8")


def _all_settings(plan: Plan, config: Path | None, overrides: Mapping[str, str]) -> dict[tuple[str, str], Settings]:
    """Stream, method → settings: what the method says over what the stream says over those of the study."""
    loaded = {}
    for stream in plan.streams:
        base = _load(f"--stream {stream.name}", config, {**overrides, **stream.overrides})
        for method in plan.methods:
            loaded[stream.name, method.text] = base
            if not method.overrides:
                continue
            name = f"--method {method.text}"
            settings = _load(name, config, {**overrides, **stream.overrides, **method.overrides})
            if keys.exam_settings(settings) != keys.exam_settings(base):
                raise SettingsError(
                    f"{name}: it would not be asked what the others are asked; decode.*, worker.max_batch, "
                    "learning.event_weights, ranking.exclude_seen, ranking.list_length, state.max_users, "
                    "state.max_items and state.max_seen_per_user are set for all methods, by --set or in --stream"
                )
            loaded[stream.name, method.text] = settings
    return loaded


def _load(name: str, config: Path | None, overrides: Mapping[str, str]) -> Settings:
    try:
        return load_settings(config, overrides)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from error


def _file_name(method: MethodSpec) -> str:
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", method.text).strip("-")
    # Two texts must not share a file, and no name may be longer than a file system takes.
    unique = "" if name == method.text else "-" + hashlib.sha256(method.text.encode()).hexdigest()[:8]
    return name[:120] + unique


def _label(run: Run) -> str:
    return f"{run.stream.name} · {run.method.title} · seed {run.seed}"


def _on_rows(progress: Progress, bar: TaskID) -> OnRows:
    def on_rows(num_rows: int, examiner: Examiner) -> None:
        accuracy = examiner.histogram.accuracy()
        progress.update(bar, advance=num_rows, note=f"HR@10 {accuracy['hr@10']:.3f}  NDCG@10 {accuracy['ndcg@10']:.3f}")

    return on_rows


def _progress(console: Console, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
    )
