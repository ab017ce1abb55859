"""The terminal view at several sizes, its figures, and the plain lines where there is no terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stream_rec.console.panels import bar, fit, sparkline
from stream_rec.console.summary import Ceiling
from stream_rec.console.tally import MAX_POINTS, LogHistogram, Point, Tally, over_progress, recovery
from stream_rec.console.terminal import MAX_USERS, DemoView
from stream_rec.records import (
    CausedBy,
    Event,
    Item,
    ItemUpdate,
    Origin,
    Polled,
    RankedItem,
    Received,
    Recommendation,
    StepReport,
)

TITLES = {"shoe": "Trail running shoe, blue", "tent": "Two-person tent, coral", "evil": "Mug\x1b[2J\n, red"}
DRIFT = "tastes shift now, 60 new items"


class MovedClock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def title_of(item_id: str) -> str:
    return TITLES.get(item_id, item_id)


def a_list(user_id: str = "user-1", item_ids: tuple[str, ...] = ("tent", "lamp", "stove")) -> Recommendation:
    items = [RankedItem(item, 0.5 / rank, rank, ["popular now"]) for rank, item in enumerate(item_ids, start=1)]
    return Recommendation(user_id, items, "v1", 1, CausedBy("events", 0, 1, 0), 0)


def window(model: float) -> dict[str, dict[str, float]]:
    rates = {"model": model, "transitions": 0.2, "popularity 15 min": 0.1, "popularity all time": 0.05}
    return {method: {"hr@10": hr, "ndcg@10": hr / 2, "hr@20": hr, "mrr@20": hr / 3} for method, hr in rates.items()}


def report(model: float = 0.3, **changes: object) -> StepReport:
    fields: dict[str, object] = {
        "batch": 1,
        "num_learnt": 100,
        "num_replayed": 0,
        "num_rejected": 0,
        "lists": [],
        "lag_records": 17,
        "freshness_s": [0.04, 0.05, 0.2],
        "window": window(model),
        "learning_rates": {"rows": 0.05, "encoder": 0.001},
        "loss": 5.25,
        "step_skipped": False,
        "num_users": 1_234,
        "num_items": 960,
        "phase_s": {},
    }
    return StepReport(**(fields | changes))  # type: ignore[arg-type]


def view_at(width: int, height: int, clock: Callable[[], float], **options: object) -> DemoView:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, **options)  # type: ignore[arg-type]
    return DemoView(console, monotonic_s=clock, live=True)


def played(width: int, height: int) -> DemoView:
    """A run of 40 steps with a drift in its middle: up to 0.40, down to 0.20, back to 0.35."""
    clock = MovedClock()
    view = view_at(width, height, clock)
    before = [0.01 * n for n in range(21, 41)]
    after = [0.35, 0.30, 0.25, 0.20, *[0.202 + 0.01 * n for n in range(15)], 0.35]
    polled = Polled()
    for n, item_id in enumerate(("lamp", "shoe")):
        polled.received.append(Received(Event("user-1", item_id, "view", n), Origin("events", 0, n)))
    polled.item_updates.append(ItemUpdate("shoe", Item("shoe", categories=["running"])))
    polled.item_updates.append(ItemUpdate("tent", Item("tent", categories=["camping"])))
    view.on_polled(polled)
    for n, model in enumerate(before + after):
        if n == 20:
            view.mark(DRIFT, new_items=["tent"])
        clock.now_s += 0.5
        rejected = int(n % 10 == 0)
        lists = [a_list(), a_list("user-2", ("shoe",))]
        view.on_step(report(model, lists=lists, num_rejected=rejected), titles=title_of, progress=(n + 1) / 50)
    return view


def text_of(view: DemoView) -> str:
    with view._console.capture() as captured:
        view._console.print(view.render())
    return Text.from_ansi(captured.get()).plain


# --- the live view -------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 30), (200, 50), (80, 40), (132, 24), (60, 20)])
def test_the_picture_fills_the_terminal_exactly_and_shows_what_matters(width: int, height: int) -> None:
    lines = text_of(played(width, height)).split("\n")
    assert len(lines) <= height + 1
    assert max(cell_len(line) for line in lines) <= width
    text = "\n".join(lines)
    for part in ("80%", DRIFT, "HR@10 0.400 → ", "200", "events/s", "dead letters 4"):
        assert part in text
    assert ("0.200, 75% regained" in text) == (width >= 80)
    for part in ("model", "0.350", "0.175", "transitions", "0.200"):
        assert part in text
    for part in ("just viewed: Trail running shoe, blue  running", "Two-person tent", "NEW", "user-1: newest list"):
        assert part in text
    assert text.count("╰") == text.count("╭") == text.count("╯") == text.count("╮") == 2, "no frame is cut off"


def test_wider_and_taller_terminals_show_more() -> None:
    small, tall, wide = (text_of(played(*size)) for size in ((80, 24), (80, 40), (200, 50)))
    assert "popularity all time" not in small
    assert "popularity 15 min" in small, "the best popularity is there"
    assert "▲" not in small
    for text in (tall, wide):
        assert "popularity all time" in text
        assert "▲" in text, "the chart, with the drift at its foot"
    for part in ("loss 5.250", "rate rows 0.05", "rate encoder 0.001", "users 1,234", "batches 40"):
        assert part in wide
    for part in ("camping", "popular now"):
        assert part in wide
    narrow = text_of(played(48, 16))
    assert "model" in narrow
    assert "popular now" not in narrow, "reasons go before titles"


@pytest.mark.parametrize(("width", "height"), [(20, 5), (30, 8), (10, 3)])
def test_a_terminal_that_is_far_too_small_breaks_nothing(width: int, height: int) -> None:
    lines = text_of(played(width, height)).split("\n")
    assert max(cell_len(line) for line in lines) <= width


def test_the_drift_is_marked_in_the_same_place_on_every_curve() -> None:
    lines = text_of(played(200, 24)).split("\n")
    cells = {line.rindex("◆") for line in lines if line.startswith("│ ") and "◆" in line}
    assert len(cells) == 1
    assert len([line for line in lines if line.startswith("│ ") and "◆" in line]) == 4


def test_before_anything_has_happened_there_is_a_picture_too() -> None:
    text = text_of(view_at(100, 40, MovedClock()))
    assert "no list published yet" in text
    assert "no event scored yet" in text


def test_drawing_is_at_most_eight_times_a_second_and_stop_gives_the_terminal_back() -> None:
    clock = MovedClock()
    view = view_at(80, 24, clock)
    out = view._console.file
    assert isinstance(out, io.StringIO)
    draws = 0
    with view:
        assert "\x1b[?1049h" in out.getvalue(), "on a screen of its own"
        for _ in range(1_000):
            clock.now_s += 0.001
            size = len(out.getvalue())
            view.on_step(report(), titles=title_of, progress=0.5)
            draws += len(out.getvalue()) > size
    assert 5 <= draws <= 8
    assert "\x1b[?1049l" in out.getvalue()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l"), "the cursor is back"
    view.stop()


def test_an_interruption_leaves_the_terminal_clean() -> None:
    view = view_at(80, 24, MovedClock())
    with pytest.raises(KeyboardInterrupt), view:
        raise KeyboardInterrupt
    assert isinstance(view._console.file, io.StringIO)
    assert view._console.file.getvalue().rindex("\x1b[?1049l") > view._console.file.getvalue().rindex("\x1b[?1049h")


def test_a_slow_terminal_is_drawn_less_often() -> None:
    class SlowClock(MovedClock):
        def __call__(self) -> float:
            self.now_s += 0.05  # each look at the clock is 50 ms after the last: drawing takes that long
            return self.now_s

    clock = SlowClock()
    view = view_at(80, 24, clock)
    out = view._console.file
    assert isinstance(out, io.StringIO)
    draws = 0
    with view:
        begin_s = clock.now_s
        while clock.now_s < begin_s + 10:
            size = len(out.getvalue())
            view.on_step(report(), titles=title_of, progress=0.5)
            draws += len(out.getvalue()) > size
    assert 8 <= draws <= 11, "50 ms of drawing, then 1 s without: a twentieth of the time"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    def codes() -> set[str]:
        view = view_at(80, 24, MovedClock(), color_system="truecolor")
        view.on_step(report(lists=[a_list()]), titles=title_of, progress=0.1)
        with view._console.capture() as captured:
            view._console.print(view.render())
        return {code.split("m")[0] for code in captured.get().split("\x1b[")[1:]}

    colour = {code for code in codes() if any(part[:1] in "349" and len(part) == 2 for part in code.split(";"))}
    assert colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not {code for code in codes() if any(part[:1] in "349" and len(part) == 2 for part in code.split(";"))}


def test_titles_cannot_steer_the_terminal() -> None:
    view = view_at(80, 24, MovedClock())
    view.on_step(report(lists=[a_list(item_ids=("evil",))]), titles=title_of, progress=0.1)
    assert "Mug·[2J·, red" in text_of(view)


def test_one_user_is_followed_for_a_while_then_another() -> None:
    clock = MovedClock()
    view = view_at(80, 24, clock)
    both = [a_list("user-1"), a_list("user-2")]
    view.on_step(report(lists=both), titles=title_of, progress=0.1)
    assert "user-1: newest list" in text_of(view)
    clock.now_s += 2
    view.on_step(report(lists=[a_list("user-1", ("shoe",)), a_list("user-2")]), titles=title_of, progress=0.1)
    assert "user-1: newest list" in text_of(view)
    assert "Trail running shoe" in text_of(view), "the followed user's list is the newest one"
    clock.now_s += 3
    view.on_step(report(lists=both), titles=title_of, progress=0.1)
    assert "user-2: newest list" in text_of(view)


def test_what_is_remembered_of_users_is_bounded() -> None:
    view = view_at(80, 24, MovedClock())
    for n in range(MAX_USERS + 100):
        view.on_polled(Polled(received=[Received(Event(f"u{n}", "shoe", "view", n), Origin("events", 0, n))]))
    assert len(view._recent) == MAX_USERS
    assert f"u{MAX_USERS + 99}" in view._recent
    assert "u0" not in view._recent


# --- without a terminal --------------------------------------------------------------------------


def test_without_a_terminal_there_is_a_plain_ascii_line_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI systems do: rich then takes a pipe for a terminal
    clock = MovedClock()
    out = io.StringIO()
    view = DemoView(Console(file=out, width=80), monotonic_s=clock)
    with view:
        for n in range(50):
            clock.now_s += 0.1
            if n == 25:
                view.mark(DRIFT)
            view.on_step(report(num_rejected=int(n == 0)), titles=title_of, progress=n / 50)
    text = out.getvalue()
    lines = text.rstrip("\n").split("\n")
    assert text.isascii()
    assert "\x1b" not in text
    assert 5 <= len(lines) <= 7
    assert f"-- {DRIFT}" in lines
    assert "1,000/s, lag 17, 1 dead letters" in lines[1]
    assert "event to list p50 50 ms, p99 200 ms" in lines[1]
    assert "HR@10/NDCG@10 model 0.300/0.150  transitions 0.200/0.100  popularity 15 min 0.100/0.050" in lines[1]


# --- the summary ---------------------------------------------------------------------------------


def summary_text(view: DemoView, ceiling: Ceiling | None = None) -> str:
    with view._console.capture() as captured:
        view.summary(ceiling=ceiling)
    return " ".join(Text.from_ansi(captured.get()).plain.split())


def test_the_summary_says_it_all_in_plain_words() -> None:
    text = summary_text(played(120, 30), Ceiling(0.7, 0.5))
    assert "4,000 events learnt in 20 s (200 a second, 40 batches), 80 lists published, 4 dead letters." in text
    assert "From event to acknowledged list: half within 50 ms, 99 of 100 within 2" in text
    assert "HR@10 / NDCG@10 before lowest after at the end" in text
    assert "model 0.400 / 0.200 0.200 / 0.100 0.350 / 0.175" in text
    assert "transitions 0.200 / 0.100 0.200 / 0.100 0.200 / 0.100" in text
    assert "the model hits 1.75 times as often as the best baseline (transitions)" in text
    # half of the dip is 0.300: passed by 0.302, the fifteenth step after the mark
    assert f'"{DRIFT}" the model\'s HR@10 fell from 0.400 to 0.200; half of that was regained 1,500 events' in text
    assert "75% by the end" in text
    assert "0.700 / 0.500; the model ends at 50% of that HR@10" in text


def test_the_summary_owns_up_to_a_model_that_is_behind_and_does_not_recover() -> None:
    view = view_at(120, 30, MovedClock())
    for n, model in enumerate((0.4, 0.15, 0.1, 0.12)):
        if n == 1:
            view.mark(DRIFT)
        view.on_step(report(model, step_skipped=n == 2, num_replayed=5), titles=title_of, progress=n / 4)
    text = summary_text(view)
    assert "does not beat the best baseline (transitions): 0.120 against 0.200" in text
    assert "fell from 0.400 to 0.100 and had not regained half of that" in text
    assert "1 steps were skipped" in text
    assert "20 events were learnt again after a restart" in text
    assert "best possible" not in text


def test_the_summary_of_nothing() -> None:
    assert "0 events learnt" in summary_text(view_at(80, 24, MovedClock()))
    assert "Nothing was scored." in summary_text(view_at(80, 24, MovedClock()))


# --- figures -------------------------------------------------------------------------------------


def test_sparkline_steps_by_eighths_and_shows_gaps_and_zeros() -> None:
    assert sparkline([0.0, 0.125, 0.5, 1.0, None, 2.0], 1.0) == "▁▁▄█ █"
    assert sparkline([0.0, None], 0.0) == "▁ "


def test_bar_and_fit_have_the_width_that_is_asked_for() -> None:
    assert bar(0.5, 1.0, 4) == "██  "
    assert bar(0.53125, 1.0, 4) == "██▏ "
    assert bar(math.nan, 1.0, 4) == "    "
    assert bar(9.0, 1.0, 4) == "████"
    assert fit("abcdef", 4) == "abc…"
    assert fit("ab", 4) == "ab  "
    assert cell_len(fit("靴靴靴靴", 5)) == 5


def points(values: list[float]) -> list[Point]:
    return [Point(100 * (n + 1), (n + 1) / len(values), window(value)) for n, value in enumerate(values)]


def test_recovery_counts_events_until_half_of_the_dip_is_regained() -> None:
    found = recovery(points([0.2, 0.4, 0.3, 0.1, 0.2, 0.26, 0.34]), mark_events=200)
    assert found is not None
    assert found.before.value("model", "hr@10") == 0.4
    assert found.lowest.num_events == 400
    assert found.num_events == 400, "0.25 is passed at 600 events, 400 after the mark"
    assert math.isclose(found.regained, 0.8)
    not_back = recovery(points([0.4, 0.3, 0.1, 0.2]), mark_events=100)
    assert not_back is not None
    assert not_back.num_events is None
    no_dip = recovery(points([0.4, 0.41, 0.45]), mark_events=100)
    assert no_dip is not None
    assert (no_dip.num_events, no_dip.regained) == (0, 1.0)
    assert recovery(points([0.4, 0.3]), mark_events=200) is None
    assert recovery(points([math.nan, 0.3]), mark_events=100) is None


def test_the_curve_over_the_run_fills_cells_behind_and_leaves_those_ahead() -> None:
    run = [Point(1, 0.05, window(0.1)), Point(2, 0.09, window(0.3)), Point(3, 0.35, window(0.5))]
    cells = over_progress(run, "model", "hr@10", 10)
    assert cells[:4] == [0.2, 0.2, 0.2, 0.5]
    assert cells[4:] == [None] * 6
    assert over_progress(run, "nothing", "hr@10", 3) == [None] * 3


def test_points_are_thinned_out_and_the_newest_is_kept() -> None:
    tally = Tally(0.0)
    for n in range(5 * MAX_POINTS):
        tally.add(report(float(n)), progress=0.5, now_s=float(n))
    assert len(tally.points) <= MAX_POINTS
    assert tally.points[-1].value("model", "hr@10") == 5 * MAX_POINTS - 1
    events = [point.num_events for point in tally.points]
    assert events == sorted(set(events))


def test_events_per_second_are_those_of_the_last_seconds() -> None:
    tally = Tally(0.0)
    for n in range(1, 21):
        tally.add(report(num_learnt=10 if n <= 10 else 500), progress=0.5, now_s=float(n))
    assert tally.events_per_s() == 500.0


def test_quantiles_are_within_two_percent() -> None:
    histogram = LogHistogram()
    assert math.isnan(histogram.quantile(0.5))
    for n in range(1, 1_001):
        histogram.add(n / 1_000)
    assert math.isclose(histogram.quantile(0.5), 0.5, rel_tol=0.02)
    assert math.isclose(histogram.quantile(0.99), 0.99, rel_tol=0.02)
    histogram.add(-1.0)
    assert histogram.quantile(0.0) < 1e-5
