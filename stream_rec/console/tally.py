"""What a viewer of a run is told, counted from the steps' reports: rates, freshness, metrics over time, recovery.

Everything kept is bounded, so that a run of days costs no more than one of a minute.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from stream_rec.records import StepReport

MODEL = "model"
TRANSITIONS = "transitions"
POPULARITY = "popularity"  # methods of this kind begin with it

MAX_POINTS = 2_048
MAX_RECENT = 2_000
RATE_SPAN_S = 5.0


class Point(NamedTuple):
    """The sliding window's metrics after ``num_events`` learnt events; ``progress`` of the run from 0 to 1."""

    num_events: int
    progress: float
    window: dict[str, dict[str, float]]

    def value(self, method: str, metric: str) -> float:
        """The metric, NaN where this method has none yet."""
        return self.window.get(method, {}).get(metric, math.nan)


class Mark(NamedTuple):
    """A moment worth remembering: the drift."""

    num_events: int
    progress: float
    text: str


class Recovery(NamedTuple):
    """How a metric fell after a mark and came back.

    ``num_events`` is how many events after the mark half of the dip was regained: None where it was not, 0 where
    there was no dip. ``regained`` is the share of the dip regained by the newest point, at most 1.
    """

    before: Point
    lowest: Point
    num_events: int | None
    regained: float


class LogHistogram:
    """Quantiles of positive numbers within 2%, in bounded memory."""

    _BASE = math.log(1.02)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.num_values = 0

    def add(self, value: float) -> None:
        """Count one value; what is below a microsecond (clocks may disagree) counts as one."""
        self._counts[round(math.log(min(max(value, 1e-6), 1e6)) / self._BASE)] += 1
        self.num_values += 1

    def quantile(self, q: float) -> float:
        """The ``q``-quantile, NaN where nothing has been added."""
        left = q * self.num_values
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return math.exp(bucket * self._BASE)
        return math.nan


class Tally:
    """Running figures over the reports of a run."""

    def __init__(self, started_s: float) -> None:
        self.started_s = self.now_s = started_s
        self.num_learnt = self.num_replayed = self.num_rejected = 0
        self.num_lists = self.num_batches = self.num_skipped = 0
        self.last: StepReport | None = None
        self.last_loss = math.nan
        self.freshness_s = LogHistogram()
        self.marks: list[Mark] = []
        self.points: list[Point] = []
        self._recent_s: deque[float] = deque(maxlen=MAX_RECENT)
        self._rate: deque[tuple[float, int]] = deque([(started_s, 0)])
        self._stride = 1

    @property
    def progress(self) -> float:
        """The newest progress."""
        return self.points[-1].progress if self.points else 0.0

    def add(self, report: StepReport, *, progress: float, now_s: float) -> None:
        """Count one step, which ended at monotonic ``now_s``."""
        self.last, self.now_s = report, now_s
        self.num_batches += 1
        self.num_learnt += report.num_learnt
        self.num_replayed += report.num_replayed
        self.num_rejected += report.num_rejected
        self.num_lists += len(report.lists)
        self.num_skipped += report.step_skipped
        if not math.isnan(report.loss):
            self.last_loss = report.loss
        for value_s in report.freshness_s:
            self.freshness_s.add(value_s)
        self._recent_s.extend(report.freshness_s)
        self._rate.append((now_s, self.num_learnt))
        while len(self._rate) > 2 and (now_s - self._rate[1][0] > RATE_SPAN_S or len(self._rate) > MAX_POINTS):
            self._rate.popleft()
        self._add_point(Point(self.num_learnt, min(1.0, max(0.0, progress)), report.window))

    def _add_point(self, point: Point) -> None:
        """Keep every ``stride``-th point and always the newest; when full, thin out by two."""
        if self.points and (self.num_batches - 1) % self._stride:
            self.points[-1] = point
            return
        self.points.append(point)
        if len(self.points) >= MAX_POINTS:
            self.points = self.points[1::2]
            self._stride *= 2

    def mark(self, text: str) -> None:
        """Remember that something happens now; the first mark is the one that recovery is measured from."""
        self.marks = [*self.marks[:15], Mark(self.num_learnt, self.progress, text)]

    def events_per_s(self) -> float:
        """Events learnt a second over the last seconds."""
        (from_s, from_events), (to_s, to_events) = self._rate[0], self._rate[-1]
        return (to_events - from_events) / (to_s - from_s) if to_s > from_s else 0.0

    def recent_freshness_s(self, q: float) -> float:
        """The ``q``-quantile of event → list over the newest lists, NaN where there is none."""
        ordered = sorted(self._recent_s)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else math.nan

    def methods(self) -> list[str]:
        """The model, then transitions and the popularities, best first by the newest HR@10."""
        newest = self.points[-1].window if self.points else {}
        others = [method for method in newest if method != MODEL]
        others.sort(key=lambda method: (-_or(newest[method].get("hr@10"), -1.0), method))
        return [MODEL, *others]

    def best_popularity(self) -> str | None:
        """The popularity baseline with the best HR@10 now."""
        return next((method for method in self.methods() if method.startswith(POPULARITY)), None)

    def recovery(self) -> Recovery | None:
        """The model's HR@10 around the first mark; None without a mark or without values on both sides."""
        return recovery(self.points, self.marks[0].num_events) if self.marks else None


def recovery(points: Sequence[Point], mark_events: int, method: str = MODEL, metric: str = "hr@10") -> Recovery | None:
    """From the last point at or before the mark, over the lowest after it, to the newest.

    None where there is no value on one of the sides. A window that slides shows a sudden change gradually, so the
    lowest point is some way after the mark.
    """
    known = [(point, point.value(method, metric)) for point in points]
    known = [(point, value) for point, value in known if not math.isnan(value)]
    earlier = [pair for pair in known if pair[0].num_events <= mark_events]
    later = [pair for pair in known if pair[0].num_events > mark_events]
    if not earlier or not later:
        return None
    before, top = earlier[-1]
    lowest, bottom = min(later, key=lambda pair: pair[1])
    if bottom >= top:
        return Recovery(before, lowest, 0, 1.0)
    half = bottom + (top - bottom) / 2
    back = [p for p, value in later if p.num_events >= lowest.num_events and value >= half]
    regained = min(1.0, (later[-1][1] - bottom) / (top - bottom))
    return Recovery(before, lowest, back[0].num_events - mark_events if back else None, regained)


def over_progress(points: Sequence[Point], method: str, metric: str, num_cells: int) -> list[float | None]:
    """The metric over the run's whole length in ``num_cells`` cells: mean in each, None before the first and ahead.

    A cell without a point repeats the one before it, so that a quick start leaves no holes.
    """
    cells: list[list[float]] = [[] for _ in range(num_cells)]
    last_cell = -1
    for point in points:
        value = point.value(method, metric)
        if not math.isnan(value):
            last_cell = min(num_cells - 1, int(point.progress * num_cells))
            cells[last_cell].append(value)
    filled: list[float | None] = []
    for cell in cells[: last_cell + 1]:
        filled.append(sum(cell) / len(cell) if cell else (filled[-1] if filled else None))
    return filled + [None] * (num_cells - len(filled))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None or math.isnan(value) else value
