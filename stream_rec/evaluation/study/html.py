"""A study as one HTML file that needs nothing else: no script, no font, no picture, no address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from stream_rec.evaluation.ranking_metrics import SPREAD
from stream_rec.evaluation.study import splits
from stream_rec.evaluation.study.curves import Curve, chart
from stream_rec.evaluation.study.figures import MethodFigures, StreamFigures, Study
from stream_rec.evaluation.study.intervals import Interval
from stream_rec.evaluation.study.plan import MODEL
from stream_rec.evaluation.study.words import HEADINGS, INTERVALS, MODES, PROTOCOL, sizes, verdict

NUM_COLOURED = 7  # methods with a colour of their own; the others are drawn in grey

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --tint: #f6f8fa;
  --c0: #0b57d0; --c1: #b35900; --c2: #1a7f37; --c3: #8250df; --c4: #cf222e; --c5: #0e7490;
  --c6: #7a5c00; --rest: #a5adb5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117;
  --tint: #151b23; --c0: #6cb0ff; --c1: #f0883e; --c2: #56d364; --c3: #bc8cff; --c4: #ff7b72; --c5: #56c8d8;
  --c6: #d8b74a; --rest: #565d66; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; } p { max-width: 52rem; }
.soft { color: var(--soft); } .verdict { font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
tr.model { background: var(--tint); font-weight: 600; } .best { text-decoration: underline; }
.worse { color: var(--c4); } .better { color: var(--c2); } .range { color: var(--soft); font-weight: 400; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; } svg path { fill: none; stroke-width: 1.5; }
svg path.main { stroke-width: 3; } svg g:hover path { stroke-width: 4; } svg .swatch { stroke-width: 3; }
svg .label { fill: var(--ink); } pre { background: var(--tint); padding: 1rem; overflow-x: auto; }
"""


def write_html(study: Study) -> str:
    """The whole document."""
    sections = "\n".join(_section(stream) for stream in study.streams)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>stream-rec evaluate</title>
<style>{STYLE}</style>
</head>
<body>
<h1>stream-rec evaluate</h1>
<ul>{"".join(_verdict(stream) for stream in study.streams)}</ul>
<p class="soft">{escape(PROTOCOL)}</p>
<p class="soft">{escape(INTERVALS)}</p>
{sections}
<h2>The command</h2>
<pre>{escape(study.command)}</pre>
<p class="soft">stream-rec {escape(study.version)}</p>
</body>
</html>
"""


def _verdict(stream: StreamFigures) -> str:
    return f'<li><a href="#{escape(stream.name)}">{escape(stream.name)}</a>: {escape(verdict(stream))}</li>'


def _section(stream: StreamFigures) -> str:
    decides = HEADINGS[stream.decides]
    return f"""<section id="{escape(stream.name)}">
<h2>{escape(stream.name)}</h2>
<p class="verdict">{escape(verdict(stream))}</p>
<p class="soft">{escape(stream.options)}: {escape(sizes(stream))}. {escape(MODES[stream.mode])}</p>
<h3>{decides} over time</h3>
{chart(_curves(stream), stream.times_ms, f"{decides} of every method over {stream.name}")}
<h3>Whole stream</h3>
{_accuracy(stream)}
<h3>{decides} by what was known of user and item</h3>
<p class="soft">{escape(splits.MEANING)}</p>
{_splits(stream)}
</section>"""


def _curves(stream: StreamFigures) -> list[Curve]:
    """The model first, then the others by their figure; those beyond ``NUM_COLOURED`` in grey."""
    ordered = sorted(stream.methods, key=lambda method: method.method != MODEL)
    return [
        Curve(method.title, f"c{place}" if place < NUM_COLOURED else "rest", method.curve, method.method == MODEL)
        for place, method in enumerate(ordered)
    ]


def _accuracy(stream: StreamFigures) -> str:
    decides = HEADINGS[stream.decides]
    header = ["method", *(HEADINGS[metric] for metric in stream.metrics), f"{decides} minus the model's"]
    header += [*(HEADINGS[name] for name in SPREAD), "events per CPU-second"]
    best = {metric: max(method.accuracy[metric].value for method in stream.methods) for metric in stream.metrics}
    rows = []
    for method in stream.methods:
        cells = [_name(method)]
        for metric in stream.metrics:
            interval = method.accuracy[metric]
            mark = ' class="best"' if interval.value == best[metric] > 0 else ""
            cells.append(f"<span{mark}>{interval.value:.4f}</span>{_range(interval, '.4f')}")
        cells.append(_difference(method, stream.decides))
        cells += [f"{method.spread[name]:.3f}" if name in method.spread else "" for name in SPREAD]
        cells.append(f"{method.events_per_cpu_s:,.0f}")
        rows.append((method, cells))
    return _table(header, rows)


def _splits(stream: StreamFigures) -> str:
    names = [name for group in splits.SPLITS.values() for name in group]
    header = ["method", *(f"{name}<br>{stream.split_sizes[name]:,}" for name in names)]
    rows = []
    for method in stream.methods:
        each = [method.splits[name] for name in names]
        rows.append((method, [_name(method), *("" if one is None else f"{one[stream.decides]:.4f}" for one in each)]))
    return _table(header, rows)


def _difference(method: MethodFigures, metric: str) -> str:
    if method.difference is None or method.method == MODEL:
        return ""
    interval = method.difference[metric]
    mark = "worse" if interval.high < 0 else "better" if interval.low > 0 else ""
    return f'<span class="{mark}">{interval.value:+.4f}</span>{_range(interval, "+.4f")}'


def _range(interval: Interval, form: str) -> str:
    return f' <span class="range">{interval.low:{form}} … {interval.high:{form}}</span>'


def _name(method: MethodFigures) -> str:
    return escape(method.title)


def _table(header: Sequence[str], rows: Iterable[tuple[MethodFigures, Sequence[str]]]) -> str:
    """``header`` and cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = []
    for method, cells in rows:
        mark = ' class="model"' if method.method == MODEL else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
