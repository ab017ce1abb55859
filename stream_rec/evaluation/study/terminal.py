"""A study in the terminal: one table a stream."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream_rec.evaluation.ranking_metrics import SPREAD
from stream_rec.evaluation.study.figures import MethodFigures, StreamFigures, Study
from stream_rec.evaluation.study.intervals import Interval
from stream_rec.evaluation.study.plan import MODEL, OFF_POLICY
from stream_rec.evaluation.study.words import HEADINGS, INTERVALS, MODES, sizes, verdict

# Narrow: in the 80 columns of a pipe or a small terminal, rich would cut figures to "0.60…".
SHORT = {"hr@10": "HR\n@10", "hr@20": "HR\n@20", "ndcg@10": "NDCG\n@10", "mrr@20": "MRR\n@20"} | {
    "coverage@10": "cov.\n@10",
    "personalisation@10": "pers.\n@10",
}


def render(study: Study, console: Console) -> None:
    """Print every stream's table and what it says."""
    for stream in study.streams:
        console.print(_table(stream))
        console.print(Text(verdict(stream), style="bold"))
        console.print(Text(f"{sizes(stream)}. {MODES[stream.mode]}\n", style="dim"))
    console.print(Text(INTERVALS, style="dim"))


def _table(stream: StreamFigures) -> Table:
    table = Table(
        title=Text(stream.name, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0
    )
    table.add_column("method", overflow="fold")
    metrics = [*stream.metrics, *(SPREAD if stream.methods[0].spread else ())]
    titles = [SHORT.get(metric, HEADINGS[metric].replace(" ", "\n").replace("@", "\n@")) for metric in metrics]
    for title in (*titles, f"{HEADINGS[stream.decides]}\nto model", "ev./\nCPU-s"):
        table.add_column(title, justify="right", no_wrap=True)
    best = {metric: max(_value(method, metric) for method in stream.methods) for metric in metrics}
    for method in stream.methods:
        cells = [
            _cell(_value(method, metric), best[metric], digits=4 if stream.mode == OFF_POLICY else 3)
            for metric in metrics
        ]
        cells += [_difference(method, stream.decides), Text(f"{method.events_per_cpu_s:,.0f}")]
        table.add_row(Text(method.title, style="bold" if method.method == MODEL else ""), *cells)
    return table


def _value(method: MethodFigures, metric: str) -> float:
    return method.accuracy[metric].value if metric in method.accuracy else method.spread[metric]


def _cell(value: float, best: float, *, digits: int) -> Text:
    style = "bold green" if value == best > 0 else ""
    return Text(_short(f"{value:.{digits}f}"), style=style)


def _difference(method: MethodFigures, metric: str) -> Text:
    if method.difference is None or method.method == MODEL:
        return Text("")
    interval = method.difference[metric]
    style = "red" if interval.high < 0 else "green" if interval.low > 0 else "dim"
    return Text(f"{_short(f'{interval.value:+.4f}')} ±{_short(f'{_reach(interval):.4f}')}", style=style)


def _reach(interval: Interval) -> float:
    """The longer side of the interval."""
    return max(interval.high - interval.value, interval.value - interval.low)


def _short(text: str) -> str:
    """Without the zero before the point, which says nothing where all are below one."""
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text
