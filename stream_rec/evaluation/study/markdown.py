"""A study as Markdown: everything, for a file of results, and one short table, for a README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stream_rec.evaluation.ranking_metrics import SPREAD
from stream_rec.evaluation.study import splits
from stream_rec.evaluation.study.figures import MethodFigures, StreamFigures, Study
from stream_rec.evaluation.study.intervals import Interval
from stream_rec.evaluation.study.plan import MODEL, OFF_POLICY
from stream_rec.evaluation.study.words import HEADINGS, INTERVALS, MODES, PROTOCOL, lead_over, sizes, verdict


def results_table(study: Study) -> str:
    """Every figure of every stream, with the command that makes them."""
    parts = [
        "# Results",
        f"Made by `stream-rec evaluate`, version {study.version}; {', '.join(_seeds(study))}. Do not edit: run",
        f"```\n{study.command}\n```",
        PROTOCOL,
        INTERVALS,
    ]
    for stream in study.streams:
        about = f"`{stream.options}`: {sizes(stream)}. {MODES[stream.mode]} {verdict(stream)}"
        parts += [f"## {stream.name}", about.replace("  ", " "), _accuracy(stream)]
        parts += [f"{HEADINGS[stream.decides]} by what was known of user and item. {splits.MEANING}", _splits(stream)]
        parts += _per_seed(stream)
    return "\n\n".join(parts) + "\n"


def summary_table(study: Study) -> str:
    """One line a stream: the model, the best baseline, and how far apart they are."""
    header = ["stream", "measured by", "model", "best baseline", "its figures", "lead in the last"]
    header += [HEADINGS[name] for name in SPREAD] + ["events per CPU-second"]
    rows = [row for stream in study.streams if (row := _summary_row(stream))]
    command = f"```\n{study.command}\n```"
    return f"{_table(header, rows)}\n\nVersion {study.version}, {', '.join(_seeds(study))}:\n\n{command}\n"


def _summary_row(stream: StreamFigures) -> list[str]:
    model, rival = stream.model(), stream.best_baseline()
    if model is None:
        return []
    against = ["", "", ""]
    if rival:
        lead = _interval(lead_over(rival, stream.decides), signed=True)
        against = [rival.title, _pair(rival, stream), lead]
    measured = f"{HEADINGS[stream.beside]} / {HEADINGS[stream.decides]}"
    row = [f"`{stream.options}`", measured, f"**{_pair(model, stream)}**", *against]
    return [*row, *_spread(model, digits=2), f"{model.events_per_cpu_s:,.0f}"]


def _accuracy(stream: StreamFigures) -> str:
    decides = stream.decides
    header = ["method", *(HEADINGS[metric] for metric in stream.metrics), f"{HEADINGS[decides]} minus the model's"]
    header += [*(HEADINGS[name] for name in SPREAD), "events per CPU-second"]
    rows = []
    for method in stream.methods:
        figures = [
            _interval(method.accuracy[metric]) if metric == decides else f"{method.accuracy[metric].value:.4f}"
            for metric in stream.metrics
        ]
        is_other = method.difference is not None and method.method != MODEL
        difference = _interval(method.difference[decides], signed=True) if is_other and method.difference else ""
        rows.append(
            [_name(method), *figures, difference, *_spread(method, digits=3), f"{method.events_per_cpu_s:,.0f}"]
        )
    return _table(header, rows)


def _splits(stream: StreamFigures) -> str:
    names = [name for group in splits.SPLITS.values() for name in group]
    header = ["method", *(f"{name} ({stream.split_sizes[name]:,})" for name in names)]
    rows = []
    for method in stream.methods:
        each = [method.splits[name] for name in names]
        rows.append([_name(method), *("" if one is None else f"{one[stream.decides]:.4f}" for one in each)])
    return _table(header, rows)


def _per_seed(stream: StreamFigures) -> list[str]:
    several = [method for method in stream.methods if len(method.seeds) > 1]
    if not several:
        return []
    measured = f"{HEADINGS[stream.beside]} / {HEADINGS[stream.decides]}"
    header = ["method", *(f"seed {seed}, {measured}" for seed in several[0].seeds)]
    rows = []
    for method in several:
        pairs = zip(method.per_seed[stream.beside], method.per_seed[stream.decides], strict=True)
        rows.append([_name(method), *(f"{beside:.4f} / {decides:.4f}" for beside, decides in pairs)])
    return [_table(header, rows)]


def _seeds(study: Study) -> Iterable[str]:
    seeds = sorted({seed for stream in study.streams for method in stream.methods for seed in method.seeds})
    return [f"seed {seed}" for seed in seeds]


def _name(method: MethodFigures) -> str:
    name = f"`{method.title}`" if method.family == MODEL else method.title
    return f"**{name}**" if method.method == MODEL else name


def _pair(method: MethodFigures, stream: StreamFigures) -> str:
    digits = 4 if stream.mode == OFF_POLICY else 3
    return " / ".join(f"{method.accuracy[metric].value:.{digits}f}" for metric in (stream.beside, stream.decides))


def _spread(method: MethodFigures, *, digits: int) -> list[str]:
    return [f"{method.spread[name]:.{digits}f}" if name in method.spread else "" for name in SPREAD]


def _interval(interval: Interval, *, signed: bool = False) -> str:
    value, low, high = (f"{number:{'+' if signed else ''}.4f}" for number in interval)
    return f"{value} [{low}, {high}]"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
