"""The live view of a run in a terminal, and its summary; plain lines where the output is no terminal.

It is driven by the worker's thread, draws at most eight times a second and has no thread of its own: what it costs
can be seen in the events per second that it shows.
"""

from __future__ import annotations

import io
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream_rec.console import panels
from stream_rec.console.panels import Shown, fit, printable
from stream_rec.console.summary import Ceiling, summary_of
from stream_rec.console.tally import MODEL, TRANSITIONS, Tally
from stream_rec.records import Polled, Recommendation, StepReport

DRAW_EVERY_S = 1 / 8
LINE_EVERY_S = 1.0
FOLLOW_S = 4.0  # how long one user's lists are shown before another user's
MAX_USERS = 5_000  # whose newest events are kept
MAX_ITEMS = 50_000  # whose category is kept
NUM_RECENT = 4
MOST_CHART_LINES = 20
MOST_BODY_LINES = 29  # table, chart and frame; a list of twenty is no longer
WIDE = 110  # columns from which the chart stands beside the table of methods
VERY_WIDE = 132  # columns from which the list stands beside both


class DemoView:
    """Shows a run: ``start()``, ``on_step()`` after every step, ``stop()`` in any case, then ``summary()``.

    Also a context manager, which starts and stops. ``live`` overrides whether to draw (default: an interactive terminal
    that can show Unicode) or to print a plain line a second. ``NO_COLOR`` is honoured.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        title: str = "stream-rec demo",
        monotonic_s: Callable[[], float] = time.monotonic,
        live: bool | None = None,
    ) -> None:
        self._console = console or Console(highlight=False)
        self._title = title
        self._monotonic_s = monotonic_s
        if live is None:
            # FORCE_COLOR makes rich call a pipe a terminal: colours are welcome there, a moving picture is not.
            can_draw = self._console.is_interactive and self._console.file.isatty()
            live = can_draw and self._console.encoding.lower().startswith("utf")
        self._draws = live
        self._live: Live | None = None
        self._titles: Callable[[str], str] = str
        self._next_draw_s = 0.0
        self._recent: OrderedDict[str, deque[tuple[str, str]]] = OrderedDict()
        self._categories: dict[str, str] = {}
        self._new_items: frozenset[str] = frozenset()
        self._shown: Recommendation | None = None
        self._follow_until_s = 0.0
        self.tally = Tally(monotonic_s())

    def __enter__(self) -> DemoView:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take the screen and start the run's clock."""
        self.tally = Tally(self._monotonic_s())
        if self._draws:
            self._live = Live(
                self.render(), console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop"
            )
            self._live.start(refresh=True)

    def stop(self) -> None:
        """Give the screen and the cursor back. Idempotent."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def on_polled(self, polled: Polled) -> None:
        """Optional: what a poll brought, before its step. Lets the view show what users just did, and categories."""
        for received in polled.received:
            event = received.event
            recent = self._recent.setdefault(event.user_id, deque(maxlen=NUM_RECENT))
            recent.append((event.type, event.item_id))
            self._recent.move_to_end(event.user_id)
        while len(self._recent) > MAX_USERS:
            self._recent.popitem(last=False)
        for update in polled.item_updates:
            if update.item is not None and update.item.categories and len(self._categories) < MAX_ITEMS:
                self._categories[update.item_id] = update.item.categories[0]

    def on_step(self, report: StepReport, *, titles: Callable[[str], str], progress: float) -> None:
        """Count one step and draw if it is time. ``progress`` of the run is from 0 to 1."""
        now_s = self._monotonic_s()
        self._titles = titles
        self.tally.add(report, progress=progress, now_s=now_s)
        self._follow(report, now_s)
        if now_s < self._next_draw_s:
            return
        if self._live is not None:
            self._live.update(self.render(), refresh=True)
            # A big picture or a slow terminal is drawn less often: at most a twentieth of the time goes into it.
            drawn_s = self._monotonic_s()
            self._next_draw_s = max(now_s + DRAW_EVERY_S, drawn_s + 20 * (drawn_s - now_s))
        elif not self._draws:
            self._console.print(self._line(), soft_wrap=True, highlight=False, markup=False)
            self._next_draw_s = now_s + LINE_EVERY_S

    def mark(self, text: str, *, new_items: Collection[str] = ()) -> None:
        """Something happens now: it is marked on every curve, and ``new_items`` carry a tag from here on.

        The first mark is the one that the summary measures recovery from.
        """
        self.tally.mark(text)
        self._new_items |= frozenset(new_items)
        self._next_draw_s = 0.0
        if not self._draws:
            self._console.print(f"-- {printable(text)}", soft_wrap=True, highlight=False, markup=False)

    def summary(self, *, ceiling: Ceiling | None = None) -> None:
        """Print in plain words what the run has done; see :func:`stream_rec.console.summary.summary_of`."""
        self._console.print(summary_of(self.tally, ceiling, width=self._console.width))

    def save_picture(self, path: Path) -> None:
        """Write what the view shows now to an SVG file, as a terminal of 120 × 36 would show it."""
        recorder = Console(record=True, width=120, height=36, file=io.StringIO(), force_terminal=True)
        console, self._console = self._console, recorder
        try:
            recorder.print(self.render())
        finally:
            self._console = console
        # The format's fonts are fetched from a server; whatever is monospaced where it is looked at will do.
        code_format = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        path.write_text(recorder.export_svg(title=self._title, code_format=code_format), encoding="utf-8")

    def _follow(self, report: StepReport, now_s: float) -> None:
        """Keep to one user for a while, then go on to one who has done much and has new items in the list."""
        if not report.lists:
            return
        if self._shown is None or now_s >= self._follow_until_s:
            self._shown = max(report.lists, key=self._interest)
            self._follow_until_s = now_s + FOLLOW_S
            return
        followed = self._shown.user_id
        self._shown = next((each for each in report.lists if each.user_id == followed), self._shown)

    def _interest(self, each: Recommendation) -> tuple[bool, int, int]:
        is_other = self._shown is None or each.user_id != self._shown.user_id
        num_new = sum(ranked.item_id in self._new_items for ranked in each.items[:10])
        return is_other, len(self._recent.get(each.user_id, ())), num_new

    def _about(self, item_id: str) -> Shown | None:
        category, is_new = self._categories.get(item_id, ""), item_id in self._new_items
        return Shown(category, is_new) if category or is_new else None

    def _line(self) -> str:
        """One line for logs; ASCII only, so that no encoding can refuse it."""
        tally = self.tally
        newest = tally.points[-1]
        lag = tally.last.lag_records if tally.last else 0
        p50, p99 = (panels.milliseconds(tally.recent_freshness_s(q)) for q in (0.5, 0.99))
        methods = [m for m in (MODEL, TRANSITIONS, tally.best_popularity()) if m is not None]
        scores = "  ".join(
            f"{printable(m)} {panels.figure(newest.value(m, 'hr@10'))}/{panels.figure(newest.value(m, 'ndcg@10'))}"
            for m in methods
        )
        return (
            f"{tally.now_s - tally.started_s:5.0f} s {tally.progress:4.0%} | {tally.num_learnt:,} learnt, "
            f"{tally.events_per_s():,.0f}/s, lag {lag:,}, {tally.num_rejected:,} dead letters | "
            f"event to list p50 {p50}, p99 {p99} | HR@10/NDCG@10 {scores}"
        )

    def render(self) -> RenderableType:
        """The whole view for the console's present size: parts that do not fit are left out, the list shrinks first."""
        width, height = self._console.size
        tally = self.tally
        elapsed = f"{tally.now_s - tally.started_s:.0f} s"
        head = Text(fit(self._title, width - len(elapsed)), style="bold", no_wrap=True, overflow="crop")
        head.append(elapsed, style="bright_black")
        top = [head, panels.progress_line(tally, width), panels.banner(tally), *panels.figures(tally, width)]
        rest_height = max(1, height - len(top))
        body_height = min(rest_height, MOST_BODY_LINES) if width >= VERY_WIDE else rest_height
        screen, body = Layout(), Layout(size=body_height)
        parts = [Layout(Group(*top), size=len(top)), body]
        screen.split_column(*parts, *([Layout(Text(" "))] if body_height < rest_height else []))
        if body_height < 7:
            body.update(self._metrics(width, body_height))
        elif width >= VERY_WIDE:
            right = min(100, max(76, width * 11 // 20))
            metrics = self._metrics(width - right, body_height)
            body.split_row(Layout(metrics), Layout(self._list(right, body_height), size=right))
        else:
            # Three methods with header and frame take six lines; a chart gets what is tall beyond a list of ten.
            beside = width >= WIDE and body_height >= 18
            metrics_height = 6 if body_height < 26 and not beside else min(body_height - 13, 20)
            metrics = self._metrics(width, metrics_height, beside=beside)
            rest = body_height - metrics_height
            body.split_column(Layout(metrics, size=metrics_height), Layout(self._list(width, rest), size=rest))
        return screen

    def _metrics(self, width: int, height: int, *, beside: bool = False) -> Panel:
        """The methods, and the chart under or beside them where there is room for it."""
        inner_width, inner_height = width - 4, height - 2
        num_rows = 5 if beside or inner_height >= 14 else 3
        table_width = 60 if beside else inner_width
        table = Group(*panels.method_lines(self.tally, table_width, num_rows))
        parts: RenderableType = table
        if beside:
            parts = Table.grid(padding=0)
            parts.add_column(width=table_width)
            parts.add_column()
            parts.add_row(table, Group(*panels.chart_lines(self.tally, inner_width - table_width, inner_height)))
        else:
            room = min(inner_height - len(table.renderables) - 1, MOST_CHART_LINES)
            if room >= 4:
                parts = Group(table, Text(""), *panels.chart_lines(self.tally, inner_width, room))
        return Panel(parts, title="hits in the newest window, scored before learning", border_style="bright_black")

    def _list(self, width: int, height: int) -> Panel:
        if self._shown is None:
            return Panel(Text("no list published yet", style="bright_black"), border_style="bright_black")
        recent = list(self._recent.get(self._shown.user_id, ()))
        lines = panels.list_lines(self._shown, recent, width - 4, height - 2, self._titles, self._about)
        title = Text(f"{fit(printable(self._shown.user_id), min(40, len(self._shown.user_id)))}: newest list")
        return Panel(Group(*lines), title=title, border_style="bright_black")
