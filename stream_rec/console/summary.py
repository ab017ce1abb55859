"""The last word of a run: what was done, how fresh, how good beside the simple things, how it got over the drift."""

from __future__ import annotations

from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from stream_rec.console.panels import figure, fit, milliseconds, printable, style_of
from stream_rec.console.tally import MODEL, Point, Tally


class Ceiling(NamedTuple):
    """What the best possible list would have scored, where the truth is known."""

    hr_at_10: float
    ndcg_at_10: float


def summary_of(tally: Tally, ceiling: Ceiling | None, *, width: int) -> RenderableType:
    """Sentences and one table, at most ``width`` columns.

    The metrics are those of the sliding window at three moments: before the first mark, where the model was lowest
    after it, and at the end. Without a mark only the end is told.
    """
    seconds = tally.now_s - tally.started_s
    rate = tally.num_learnt / seconds if seconds > 0 else 0.0
    lines = [
        f"{tally.num_learnt:,} events learnt in {seconds:,.0f} s ({rate:,.0f} a second, {tally.num_batches:,} "
        f"batches), {tally.num_lists:,} lists published, {tally.num_rejected:,} dead letters.",
    ]
    if tally.num_replayed:
        lines.append(f"{tally.num_replayed:,} events were learnt again after a restart, and not published twice.")
    if tally.num_skipped:
        lines.append(f"{tally.num_skipped:,} steps were skipped because loss or gradient was not finite.")
    if tally.freshness_s.num_values:
        half, most = (milliseconds(tally.freshness_s.quantile(q)) for q in (0.5, 0.99))
        lines.append(f"From event to acknowledged list: half within {half}, 99 of 100 within {most}.")
    parts = [Text(""), *(Text(line) for line in lines), Text(""), *_table(tally, width), Text("")]
    parts += [Text(line) for line in (*_verdict(tally), *_recovery(tally), *_ceiling(tally, ceiling))]
    return Group(*parts)


def _moments(tally: Tally) -> list[tuple[str, Point]]:
    if not tally.points:
        return []
    found = tally.recovery()
    end = ("at the end", tally.points[-1])
    return [("before", found.before), ("lowest after", found.lowest), end] if found else [end]


def _table(tally: Tally, width: int) -> list[Text]:
    moments = _moments(tally)
    if not moments:
        return [Text("Nothing was scored.")]
    name_width = 19 if width >= 70 else 14
    header = Text(fit("HR@10 / NDCG@10", name_width), style="bold", no_wrap=True, overflow="crop")
    for moment, _ in moments:
        header.append(f"{moment:>17}")
    rows = [header]
    for method in tally.methods():
        row = Text(fit(method, name_width), style=style_of(method), no_wrap=True, overflow="crop")
        for _, point in moments:
            pair = f"{figure(point.value(method, 'hr@10'))} / {figure(point.value(method, 'ndcg@10'))}"
            row.append(f"{pair:>17}", style="bold" if method == MODEL else "default")
        rows.append(row)
    return rows


def _verdict(tally: Tally) -> list[str]:
    methods = tally.methods()
    if not tally.points or len(methods) < 2:
        return []
    end = tally.points[-1]
    # `methods` are sorted by HR@10 behind the model
    best, model_hr, best_hr = methods[1], end.value(MODEL, "hr@10"), end.value(methods[1], "hr@10")
    if not model_hr > 0 or not best_hr > 0:
        return []
    if round(model_hr, 3) > round(best_hr, 3):
        return [f"At the end the model hits {model_hr / best_hr:.2f} times as often as the best baseline ({best})."]
    if round(model_hr, 3) == round(best_hr, 3):
        return [f"At the end the model and the best baseline ({best}) are level: {model_hr:.3f}."]
    return [f"At the end the model does not beat the best baseline ({best}): {model_hr:.3f} against {best_hr:.3f}."]


def _recovery(tally: Tally) -> list[str]:
    found = tally.recovery()
    if found is None:
        return []
    what = f'After "{printable(tally.marks[0].text)}"'
    if found.before.value(MODEL, "hr@10") == 0:
        return ["The run was too short to tell what the change cost: nothing had been hit before it."]
    if found.num_events == 0:
        return [f"{what} the model's HR@10 did not fall below what it was."]
    fall = f"{found.before.value(MODEL, 'hr@10'):.3f} to {found.lowest.value(MODEL, 'hr@10'):.3f}"
    if found.num_events is None:
        return [f"{what} the model's HR@10 fell from {fall} and had not regained half of that when the run ended."]
    return [
        f"{what} the model's HR@10 fell from {fall}; half of that was regained {found.num_events:,} events after the "
        f"change, {found.regained:.0%} by the end."
    ]


def _ceiling(tally: Tally, ceiling: Ceiling | None) -> list[str]:
    if ceiling is None or not ceiling.hr_at_10 > 0:
        return []
    text = (
        "The best possible list, by one who knows the simulated shop's every secret but not its dice, would have "
        f"scored {ceiling.hr_at_10:.3f} / {ceiling.ndcg_at_10:.3f}"
    )
    end_hr = tally.points[-1].value(MODEL, "hr@10") if tally.points else 0.0
    return [f"{text}; the model ends at {end_hr / ceiling.hr_at_10:.0%} of that HR@10." if end_hr > 0 else f"{text}."]
