"""Curves over time as an SVG picture that stands inside an HTML page and takes its colours from there."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, log10
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 1_000, 380
LEFT, RIGHT, TOP, BOTTOM = 50, 230, 12, 30
NUM_TIMES = 5
LEGEND_STEP = 18
MS_PER_DAY = 86_400_000
LONG_DAYS = 10  # beyond, the hour of a label says nothing


class Curve(NamedTuple):
    """One line: ``colour`` is the name of a variable of the page, ``is_main`` draws it above and stronger."""

    title: str
    colour: str
    values: Sequence[float]
    is_main: bool = False


def chart(curves: Sequence[Curve], times_ms: Sequence[int], label: str) -> str:
    """All curves, from 0, with times (ms, UTC) under them; the points are spread evenly. Empty without points."""
    if not times_ms:
        return ""
    top = max((value for curve in curves for value in curve.values), default=0.0) or 1.0
    step = _step(top)
    levels = [step * number for number in range(floor(top / step) + 2)]
    height = max(HEIGHT, TOP + BOTTOM + LEGEND_STEP * len(curves))
    lines = [_grid(level, levels[-1], height) for level in levels]
    lines += _times(times_ms, height)
    drawn = sorted(enumerate(curves), key=lambda pair: (pair[1].is_main, -pair[0]))  # the main one on top of all
    lines += [_line(curve, place, levels[-1], height) for place, curve in drawn]
    body = "\n".join(lines)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">\n{body}\n</svg>'


def _line(curve: Curve, place: int, top: float, height: int) -> str:
    points = [
        f"{_x(number, len(curve.values)):.1f},{_y(value, top, height):.1f}" for number, value in enumerate(curve.values)
    ]
    title, main = escape(curve.title), ' class="main"' if curve.is_main else ""
    # A curve of one point would not be seen: it becomes a short dash.
    path = f"M{' L'.join(points)}" + (" h4" if len(points) == 1 else "")
    y, x = TOP + 8 + LEGEND_STEP * place, WIDTH - RIGHT + 12
    shown = title if len(curve.title) <= 30 else escape(curve.title[:29]) + "…"
    return (
        f'<g style="stroke:var(--{curve.colour})"><title>{title}</title><path{main} d="{path}"/>'
        f'<line class="swatch" x1="{x}" y1="{y}" x2="{x + 18}" y2="{y}"/>'
        f'<text class="label" style="stroke:none" x="{x + 24}" y="{y + 4}">{shown}</text></g>'
    )


def _grid(level: float, top: float, height: int) -> str:
    y = _y(level, top, height)
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level:.4g}</text>'
    )


def _times(times_ms: Sequence[int], height: int) -> list[str]:
    unit = "D" if times_ms[-1] - times_ms[0] > LONG_DAYS * MS_PER_DAY else "m"
    places = sorted({round(number * (len(times_ms) - 1) / (NUM_TIMES - 1)) for number in range(NUM_TIMES)})
    labels = []
    for place in places:
        text = str(np.datetime64(times_ms[place], "ms").astype(f"datetime64[{unit}]")).replace("T", " ")
        labels.append(f'<text x="{_x(place, len(times_ms)):.1f}" y="{height - 8}" text-anchor="middle">{text}</text>')
    return labels


def _x(number: int, num_points: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * number / max(1, num_points - 1)


def _y(value: float, top: float, height: int) -> float:
    return TOP + (height - TOP - BOTTOM) * (1 - value / top)


def _step(top: float) -> float:
    """A round number of which four to eight make up the height."""
    power = 10.0 ** floor(log10(top / 4))
    return next(factor * power for factor in (1, 2, 5, 10) if top / (factor * power) <= 8)
