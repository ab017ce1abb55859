"""A study as Markdown: everything, for a file of results, and one short table, for a README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stream_rec.evaluation.ranking_metrics import ACCURACY, SPREAD
from stream_rec.evaluation.study import splits
from stream_rec.evaluation.study.figures import DECIDES, MethodFigures, StreamFigures, Study
from stream_rec.evaluation.study.intervals import Interval
from stream_rec.evaluation.study.plan import MODEL
from stream_rec.evaluation.study.words import HEADINGS, INTERVALS, PROTOCOL, lead_over, sizes, verdict


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
        parts += [f"## {stream.name}", f"`{stream.options}`: {sizes(stream)}. {verdict(stream)}", _accuracy(stream)]
        parts += [f"NDCG@10 by what was known of user and item. {splits.MEANING}", _splits(stream)]
        parts += _per_seed(stream)
    return "\n\n".join(parts) + "\n"


def summary_table(study: Study) -> str:
    """One line a stream: the model, the best baseline, and how far apart they are."""
    header = ["stream", "model HR@10 / NDCG@10", "best baseline", "its HR@10 / NDCG@10", "lead in NDCG@10"]
    header += [HEADINGS[name] for name in SPREAD] + ["events per CPU-second"]
    rows = [row for stream in study.streams if (row := _summary_row(stream))]
    command = f"```\n{study.command}\n```"
    return f"{_table(header, rows)}\n\nVersion {study.version}, {', '.join(_seeds(study))}:\n\n{command}\n"


def _summary_row(stream: StreamFigures) -> list[str]:
    model, rival = stream.model(), stream.best_baseline()
    if model is None:
        return []
    against = [rival.title, _pair(rival), _interval(lead_over(rival), signed=True)] if rival else ["", "", ""]
    spread = [f"{model.spread[name]:.2f}" for name in SPREAD]
    return [f"`{stream.options}`", f"**{_pair(model)}**", *against, *spread, f"{model.events_per_cpu_s:,.0f}"]


def _accuracy(stream: StreamFigures) -> str:
    header = ["method", *(HEADINGS[metric] for metric in ACCURACY), "NDCG@10 minus the model's"]
    header += [*(HEADINGS[name] for name in SPREAD), "events per CPU-second"]
    rows = []
    for method in stream.methods:
        figures = [
            _interval(method.accuracy[metric]) if metric == DECIDES else f"{method.accuracy[metric].value:.4f}"
            for metric in ACCURACY
        ]
        is_other = method.difference is not None and method.method != MODEL
        difference = _interval(method.difference[DECIDES], signed=True) if is_other and method.difference else ""
        spread = [f"{method.spread[name]:.3f}" for name in SPREAD]
        rows.append([_name(method), *figures, difference, *spread, f"{method.events_per_cpu_s:,.0f}"])
    return _table(header, rows)


def _splits(stream: StreamFigures) -> str:
    names = [name for group in splits.SPLITS.values() for name in group]
    header = ["method", *(f"{name} ({stream.split_sizes[name]:,})" for name in names)]
    rows = []
    for method in stream.methods:
        each = [method.splits[name] for name in names]
        rows.append([_name(method), *("" if one is None else f"{one[DECIDES]:.4f}" for one in each)])
    return _table(header, rows)


def _per_seed(stream: StreamFigures) -> list[str]:
    several = [method for method in stream.methods if len(method.seeds) > 1]
    if not several:
        return []
    header = ["method", *(f"seed {seed}, HR@10 / NDCG@10" for seed in several[0].seeds)]
    rows = []
    for method in several:
        pairs = zip(method.per_seed["hr@10"], method.per_seed[DECIDES], strict=True)
        rows.append([_name(method), *(f"{hits:.4f} / {gain:.4f}" for hits, gain in pairs)])
    return [_table(header, rows)]


def _seeds(study: Study) -> Iterable[str]:
    seeds = sorted({seed for stream in study.streams for method in stream.methods for seed in method.seeds})
    return [f"seed {seed}" for seed in seeds]


def _name(method: MethodFigures) -> str:
    name = f"`{method.title}`" if method.family == MODEL else method.title
    return f"**{name}**" if method.method == MODEL else name


def _pair(method: MethodFigures) -> str:
    return f"{method.accuracy['hr@10'].value:.3f} / {method.accuracy[DECIDES].value:.3f}"


def _interval(interval: Interval, *, signed: bool = False) -> str:
    value, low, high = (f"{number:{'+' if signed else ''}.4f}" for number in interval)
    return f"{value} [{low}, {high}]"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
