"""``stream-rec replay`` on small files: what it prints, what it writes, what it leaves when it is broken off."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from stream_rec.__main__ import main
from stream_rec.evaluation.from_lists import metrics_from_lists
from stream_rec.evaluation.prequential import PrequentialEvaluator
from tests.consumers.written_files import json_lines, text_file

SMALL = (
    *("--set", "model.dimension=8", "--set", "model.num_layers=1", "--set", "state.history_length=6"),
    *("--set", "state.max_users=500", "--set", "state.max_items=500", "--set", "worker.max_batch=64"),
)
NUM_EVENTS = 700


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("STREAM_REC_"):
            monkeypatch.delenv(name)
    yield
    structlog.reset_defaults()


def rows(num_events: int = NUM_EVENTS) -> list[dict[str, Any]]:
    """People who go on from one item to its neighbour, come back to some, and see impressions in between."""
    draw = random.Random(3)
    last = dict.fromkeys(range(40), 0)
    events = []
    for number in range(num_events):
        user = draw.randrange(40)
        last[user] = (last[user] + draw.choice([1, 1, 1, 2, 9, 0])) % 60
        kind = "impression" if draw.random() < 0.1 else "click"
        at_ms = 1_700_000_000_000 + 1_000 * number
        events.append({"user_id": f"u{user}", "item_id": f"i{last[user]}", "type": kind, "timestamp": at_ms})
    return events


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return json_lines(tmp_path / "log.jsonl", rows())


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Replay with ``--out`` and ``--report-json``; the report and the lines of the lists."""

    def run(file: Path, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        out, report = tmp_path / "lists.jsonl", tmp_path / "report.json"
        arguments = ["replay", str(file), "-q", "--out", str(out), "--report-json", str(report), *SMALL, *options]
        assert main(arguments) == 0
        return json.loads(report.read_text()), [json.loads(line) for line in out.read_text().splitlines()]

    return run


@pytest.mark.parametrize("lists", ["fresh", "published"])
@pytest.mark.parametrize("repeats", [(), ("--allow-repeats",)], ids=["novel", "repeats"])
def test_the_metrics_of_the_report_are_those_of_the_lists_that_were_written(
    log: Path, tmp_path: Path, replay: Callable, lists: str, repeats: tuple[str, ...]
) -> None:
    report, lines = replay(log, "--lists", lists, *repeats)

    assert [(x["user_id"], x["item_id"], x["type"], x["timestamp"]) for x in lines] == [
        tuple(row.values()) for row in rows()
    ]
    assert max(len(line["items"]) for line in lines) == 20
    from_file = metrics_from_lists(
        tmp_path / "lists.jsonl", novel=not repeats, burn_in_fraction=0.1, event_weights={"impression": 0.0}
    )
    assert from_file == pytest.approx(report["methods"]["model"], abs=1e-9)
    assert from_file["hr@10"] > 0.1
    assert (report["lists"], report["allow_repeats"]) == (lists, bool(repeats))
    assert report["num_events"] == NUM_EVENTS


def test_nothing_that_the_user_has_had_is_listed_unless_repeats_are_allowed(log: Path, replay: Callable) -> None:
    def num_repeats(lines: list[dict[str, Any]]) -> int:
        had: dict[str, set[str]] = {}
        repeats = 0
        for line in lines:
            repeats += len(had.setdefault(line["user_id"], set()) & set(line["items"]))
            if line["type"] != "impression":
                had[line["user_id"]].add(line["item_id"])
        return repeats

    assert num_repeats(replay(log)[1]) == 0
    assert num_repeats(replay(log, "--allow-repeats")[1]) > 0


def test_a_list_names_only_items_that_the_log_has_shown_before(log: Path, tmp_path: Path, replay: Callable) -> None:
    items = text_file(tmp_path / "items.csv", "item_id,title\n" + "".join(f"i{n},Title {n}\n" for n in range(99)))
    _, lines = replay(log, "--items", str(items))

    shown: set[str] = set()
    for line in lines:
        assert set(line["items"]) <= shown
        shown.add(line["item_id"])


def test_law_5_the_same_log_and_seed_give_the_same_lists_to_the_byte(
    log: Path, tmp_path: Path, replay: Callable
) -> None:
    written = []
    for seed in ("5", "5", "6"):
        replay(log, "--set", f"worker.seed={seed}")
        written.append((tmp_path / "lists.jsonl").read_bytes())

    assert written[0] == written[1]
    assert written[0] != written[2]


def test_rows_that_cannot_be_used_are_counted_and_the_report_tells_its_burn_in(
    tmp_path: Path, replay: Callable
) -> None:
    events = rows(400)
    for number in range(0, 120, 3):
        events[number]["user_id"] = ""
    report, lines = replay(json_lines(tmp_path / "log.jsonl", events))

    assert report["rejected"] == {"wrong_shape": 40}
    assert (report["num_events"], len(lines), report["num_burn_in"]) == (360, 360, 40)
    weights = {"impression": 0.0}
    from_file = metrics_from_lists(tmp_path / "lists.jsonl", novel=True, burn_in_events=40, event_weights=weights)
    assert from_file == pytest.approx(report["methods"]["model"], abs=1e-9)


def test_columns_of_other_names_are_mapped(tmp_path: Path, replay: Callable) -> None:
    text = "when,visitorid,what,event\n" + "".join(f"17000000{n:02d},v{n % 5},x{n % 7},view\n" for n in range(90))
    log = text_file(tmp_path / "visits.csv", text)
    mapping = "user_id=visitorid,item_id=what,timestamp=when"
    report, lines = replay(log, "--map", mapping)

    assert report["num_events"] == 90
    assert (lines[1]["user_id"], lines[1]["item_id"]) == ("v1", "x1")
    assert main(["replay", str(log), "-q"]) == 3


def test_a_limit_ends_the_replay_and_sets_the_burn_in(log: Path, tmp_path: Path, replay: Callable) -> None:
    report, lines = replay(log, "--limit", "200")

    assert report["num_events"] == len(lines) == 200
    from_file = metrics_from_lists(tmp_path / "lists.jsonl", novel=True, event_weights={"impression": 0.0})
    assert from_file == pytest.approx(report["methods"]["model"], abs=1e-9)


def test_several_logs_are_one_after_the_other(tmp_path: Path, replay: Callable) -> None:
    first = json_lines(tmp_path / "first.jsonl", rows()[:150])
    second = json_lines(tmp_path / "second.jsonl", rows()[150:300])
    report, lines = replay(first, str(second))

    assert report["streams"] == ["first.jsonl", "second.jsonl"]
    assert [line["timestamp"] for line in lines] == [row["timestamp"] for row in rows(300)]


def test_the_report_is_printed_beside_the_baselines(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(log), *SMALL]) == 0

    printed = capsys.readouterr()
    for method in ("model", "popularity 15 min", "popularity 3 h", "popularity all time", "transitions"):
        assert f"\n{method} " in printed.out
    for heading in ("HR@10", "NDCG@10", "MRR@20", "coverage", "events/s", "the best baseline"):
        assert heading in printed.out
    assert "…" not in printed.out
    assert f"{NUM_EVENTS}/{NUM_EVENTS}" in printed.err  # the bar, which a pipe does not get in its way


def test_broken_off_it_ends_in_130_and_leaves_no_whole_file(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    observe = PrequentialEvaluator.observe_fresh

    def ctrl_c_in_the_third_batch(self: PrequentialEvaluator, *args: Any) -> None:
        observe(self, *args)
        if self.num_observed == 3 * 64:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PrequentialEvaluator, "observe_fresh", ctrl_c_in_the_third_batch)
    out, report = tmp_path / "lists.jsonl", tmp_path / "report.json"
    before = signal.getsignal(signal.SIGINT)

    assert main(["replay", str(log), "-q", "--out", str(out), "--report-json", str(report), *SMALL]) == 130

    assert not out.exists()
    assert not report.exists()
    partial = out.with_name("lists.jsonl.partial").read_text().splitlines()
    assert len(partial) == 3 * 64
    assert "192 events" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) == before


def test_mistakes_are_told_before_anything_is_learnt(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    for options, code, said in (
        (["--report-json", str(nowhere / "report.json")], 2, "there is no folder"),
        (["--out", str(nowhere / "lists.jsonl")], 2, "cannot be written"),
        (["--items", str(nowhere)], 3, "nowhere"),
        (["--set", "model.dimension=9"], 2, "model.dimension"),
    ):
        assert main(["replay", str(log), "-q", *options]) == code
        printed = capsys.readouterr()
        assert said in printed.err
        assert printed.out == ""
    assert main(["replay", str(nowhere), "-q"]) == 3
