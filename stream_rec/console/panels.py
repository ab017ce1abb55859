"""The parts of the terminal view: pure functions from the tally to lines of a given width. They keep no state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from stream_rec.console.tally import MODEL, TRANSITIONS, Tally, over_progress
from stream_rec.records import Recommendation

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = " ▁▂▃▄▅▆▇█"
MARK = "◆"
STYLES = {MODEL: "bright_green", TRANSITIONS: "yellow"}
OTHER_STYLE = "magenta"
AREA_STYLE = "color(23)"  # dark, so that lines can be seen over it
DONE_TO = {"view": "viewed", "click": "clicked", "like": "liked", "cart": "put in the cart", "purchase": "bought"}


class Shown(NamedTuple):
    """What the view knows about an item besides its title."""

    category: str
    is_new: bool


def style_of(method: str) -> str:
    """One colour a method, everywhere."""
    return STYLES.get(method, OTHER_STYLE)


def printable(text: str) -> str:
    """Without control characters: titles come from outside and must not steer the terminal."""
    return "".join(c if c.isprintable() else "·" for c in text)


def fit(text: str, width: int) -> str:
    """Exactly ``width`` cells: padded, or cut with an ellipsis; wide characters count as two."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def figure(value: float, digits: int = 3) -> str:
    """A metric, or a dash where there is none yet."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def milliseconds(value_s: float) -> str:
    """A duration in ms, in s from ten seconds on."""
    if math.isnan(value_s):
        return "-"
    return f"{value_s * 1_000:,.0f} ms" if value_s < 10 else f"{value_s:,.1f} s"


def bar(value: float, top: float, width: int) -> str:
    """A horizontal bar of ``width`` cells in steps of an eighth of a cell; nothing where the value is NaN."""
    if math.isnan(value) or top <= 0 or width <= 0:
        return " " * max(0, width)
    eighths = round(min(1.0, max(0.0, value / top)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float | None], top: float) -> str:
    """One character a value, in eighths of ``top``; a value of zero still shows, None is a gap."""
    if top <= 0:
        return "".join(" " if value is None else LEVELS[1] for value in values)
    return "".join(
        " " if value is None else LEVELS[min(8, max(1, math.ceil(min(1.0, value / top) * 8)))] for value in values
    )


def mark_cells(tally: Tally, width: int) -> list[int]:
    """In which of ``width`` cells of the run's length the marks lie."""
    return [min(width - 1, int(mark.progress * width)) for mark in tally.marks]


def progress_line(tally: Tally, width: int) -> Text:
    """The run's length: done, ahead, and where the marks are."""
    percent = f" {tally.progress:4.0%}"
    length = max(4, width - len(percent))
    done = int(tally.progress * length)
    text = Text("━" * done, style="cyan", no_wrap=True, overflow="crop")
    text.append("━" * (length - done), style="bright_black")
    text.append(percent)
    # the plain text has one cell a character, so that characters can be exchanged in place
    return _with_marks(text, mark_cells(tally, length))


def _with_marks(text: Text, cells: Sequence[int], character: str = MARK) -> Text:
    for cell in cells:
        text = Text.assemble(text[:cell], (character, "bold bright_red"), text[cell + 1 :])
    text.no_wrap, text.overflow = True, "crop"
    return text


def banner(tally: Tally) -> Text:
    """What has happened and how far the model is over it; before that, what there is to see."""
    if not tally.marks:
        return Text("score → learn → rank → publish, again and again", style="bright_black", no_wrap=True)
    text = Text(f"{MARK} {printable(tally.marks[-1].text)}", style="bold bright_red", no_wrap=True, overflow="ellipsis")
    found = tally.recovery()
    if found is not None and found.num_events != 0:
        before, lowest = found.before.value(MODEL, "hr@10"), found.lowest.value(MODEL, "hr@10")
        text.append(f"  HR@10 {before:.3f} → {lowest:.3f}", style="default")
        text.append(f", {found.regained:.0%} regained", style="bright_green")
    return text


def figures(tally: Tally, width: int) -> list[Text]:
    """The big figures with their captions (two lines), and a line of the smaller ones."""
    lag = tally.last.lag_records if tally.last else 0
    big = [
        (f"{tally.events_per_s():,.0f}", "events/s"),
        (f"{lag:,}", "lag (events)"),
        (milliseconds(tally.recent_freshness_s(0.50)), "to list, p50"),
        (milliseconds(tally.recent_freshness_s(0.99)), "to list, p99"),
        (f"{tally.num_learnt:,}", "learnt"),
        (f"{tally.num_lists:,}", "lists out"),
    ]
    big = big[: max(2, width // 13)]
    cell = width // len(big)
    numbers, captions = Text(no_wrap=True, overflow="crop"), Text(no_wrap=True, overflow="crop")
    for number, caption in big:
        numbers.append(fit(number, cell), style="bold bright_cyan")
        captions.append(fit(caption, cell), style="bright_black")
    return [numbers, captions, _small_figures(tally, width)]


def _small_figures(tally: Tally, width: int) -> Text:
    last = tally.last
    parts = [("dead letters", f"{tally.num_rejected:,}", "bold yellow" if tally.num_rejected else "default")]
    if tally.num_skipped:
        parts.append(("steps skipped", f"{tally.num_skipped:,}", "bold red"))
    if last is not None:
        parts.append(("loss", figure(tally.last_loss), "default"))
        parts += [(f"rate {part}", f"{rate:.2g}", "default") for part, rate in last.learning_rates.items()]
        parts += [("users", f"{last.num_users:,}", "default"), ("items", f"{last.num_items:,}", "default")]
        parts.append(("batches", f"{tally.num_batches:,}", "default"))
    if tally.num_replayed:
        parts.append(("learnt again", f"{tally.num_replayed:,}", "default"))
    text = Text(no_wrap=True, overflow="crop")
    for caption, number, style in parts:
        if text.cell_len + len(caption) + len(number) + 1 > width:
            break  # whole pairs only: half a figure is worse than none
        text.append(f"{caption} ", style="bright_black").append(f"{number}  ", style=style)
    return text


def chosen_methods(tally: Tally, num_rows: int) -> list[str]:
    """The model, transitions and the best popularity first; the others where there is room, in order of HR@10."""
    methods = tally.methods()
    first = [m for m in (MODEL, TRANSITIONS, tally.best_popularity()) if m is not None and m in methods]
    keep = set((first + [m for m in methods if m not in first])[:num_rows])
    return [m for m in methods if m in keep]


def method_lines(tally: Tally, width: int, num_rows: int) -> list[Text]:
    """A header and one line a method: HR@10 and NDCG@10 with bars, and HR@10 over the run as a sparkline."""
    methods = chosen_methods(tally, num_rows)
    newest = tally.points[-1] if tally.points else None
    name_width = 14 if width < 66 else 20
    bar_width = max(4, (width - name_width - 2 * 8) // 5)
    spark_width = max(0, width - name_width - 2 * (8 + bar_width) - 1)
    header = fit("", name_width) + fit("HR@10", 8 + bar_width) + fit("NDCG@10", 8 + bar_width) + "HR@10 so far"
    lines = [Text(fit(header, width), style="bright_black", no_wrap=True, overflow="crop")]
    series = {m: over_progress(tally.points, m, "hr@10", spark_width) for m in methods} if spark_width else {}
    top = max((v for values in series.values() for v in values if v is not None), default=0.0)
    values = {m: [newest.value(m, metric) if newest else math.nan for metric in ("hr@10", "ndcg@10")] for m in methods}
    bar_top = [max((v[n] for v in values.values() if not math.isnan(v[n])), default=0.0) for n in (0, 1)]
    for method in methods:
        style = style_of(method)
        weight = "bold " if method == MODEL else ""
        name = method if name_width > 14 else method.replace("popularity", "pop.")
        line = Text(fit(name, name_width), style=weight + style, no_wrap=True, overflow="crop")
        for value, largest in zip(values[method], bar_top, strict=True):
            line.append(f"{figure(value):>5} ", style=weight + "default")
            line.append(bar(value, largest, bar_width) + "  ", style=style)
        if series:
            line.append_text(_with_marks(Text(sparkline(series[method], top), style), mark_cells(tally, spark_width)))
        lines.append(line)
    return lines


def chart_lines(tally: Tally, width: int, height: int) -> list[Text]:
    """HR@10 over the run: the model as an area, transitions and the best popularity as lines over it, marks upright."""
    methods = chosen_methods(tally, 3)
    plot_width, plot_height = width - 6, height - 1
    if plot_width < 10 or plot_height < 2:
        return []
    series = {m: over_progress(tally.points, m, "hr@10", plot_width) for m in methods}
    top = max((v for values in series.values() for v in values if v is not None), default=0.0)
    if top <= 0:
        return [Text("no event scored yet", style="bright_black")]
    marks = set(mark_cells(tally, plot_width))
    lines = []
    for y in range(plot_height - 1, -1, -1):
        label = f"{top:.2f}" if y == plot_height - 1 else ""
        line = Text(f"{label:>5} ", style="bright_black", no_wrap=True, overflow="crop")
        cells = (_chart_cell(series, x, y, plot_height / top, upright=x in marks) for x in range(plot_width))
        # One span a run of cells: a span a cell makes drawing four times as slow.
        for cell, run in itertools.groupby(cells):
            line.append(cell[0] * len(list(run)), style=cell[1])
        lines.append(line)
    axis = Text(f"{0:5.2f} " + "─" * plot_width, style="bright_black")
    lines.append(_with_marks(axis, [6 + cell for cell in marks], "▲"))
    return lines


def _chart_cell(
    series: dict[str, list[float | None]], x: int, y: int, rows_per_unit: float, *, upright: bool
) -> tuple[str, str]:
    """Character and style of one cell; row ``y`` counts from the bottom. Lines lie over marks, marks over the area."""
    model = series[MODEL][x]
    height = 0.0 if model is None else model * rows_per_unit - y
    ground = f" on {AREA_STYLE}" if height >= 1 else ""
    for method, values in series.items():
        value = values[x]
        if method != MODEL and value is not None and int(value * rows_per_unit) == y:
            return "━", f"bold {style_of(method)}{ground}"
    if upright:
        return "│", f"bold bright_red{ground}"
    if height <= 0:
        return " ", "default"
    return LEVELS[min(8, max(1, round(height * 8)))], AREA_STYLE if height >= 1 else style_of(MODEL)


def list_lines(
    shown: Recommendation,
    recent: Sequence[tuple[str, str]],
    width: int,
    height: int,
    title_of: Callable[[str], str],
    about: Callable[[str], Shown | None],
) -> list[Text]:
    """What the user has just done (type, item; newest last), then the list: rank, title, category, score, reason."""
    lines: list[Text] = []
    # A click, then the cart, then the purchase of one item is one story: the line before is about another item.
    earlier = [event for event in recent[:-1] if event[1] != recent[-1][1]][-1:] if height >= 10 else []
    for n, (event_type, item_id) in enumerate([*recent[-1:], *earlier]):
        text = Text(f"{'just' if n == 0 else 'before,'} {DONE_TO.get(event_type, event_type)}: ", style="bright_black")
        text.append(printable(title_of(item_id)), style="bold" if n == 0 else "default")
        known = about(item_id)
        text.append(f"  {known.category}" if known else "", style="bright_black")
        text.no_wrap, text.overflow = True, "ellipsis"
        lines.append(text)
    reason_width = 23 if width >= 66 else 0
    category_width = 12 if width >= 44 else 0
    title_width = min(48, width - 3 - 8 - reason_width - category_width)
    for ranked in shown.items[: max(0, height - len(lines))]:
        known = about(ranked.item_id)
        is_new = known is not None and known.is_new
        line = Text(f"{ranked.rank:>2} ", style="bright_black", no_wrap=True, overflow="crop")
        title = fit(printable(title_of(ranked.item_id)), title_width - 5 if is_new else title_width - 1)
        line.append(title + " ", style="bold" if ranked.rank == 1 else "default")
        if is_new:
            line.append("NEW", style="bold black on bright_yellow")
            line.append(" ")
        if category_width:
            line.append(fit(printable(known.category) if known else "", category_width - 1) + " ", style="cyan")
        line.append(f"{ranked.score:>7.3f} ", style="default")
        if reason_width:
            line.append(fit(printable(", ".join(ranked.reasons)), reason_width), style="bright_black")
        lines.append(line)
    return lines
