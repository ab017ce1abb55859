"""``stream-rec evaluate`` on small files: what it measures, what is run again, what a broken-off one leaves."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from stream_rec.__main__ import main
from stream_rec.commands import evaluate
from stream_rec.evaluation.ranking_metrics import METRICS
from stream_rec.evaluation.study.exams import Exam, Examiner
from tests.consumers.written_files import json_lines, text_file

SMALL = (
    *("--set", "model.dimension=8", "--set", "model.num_layers=1", "--set", "state.history_length=6"),
    *("--set", "state.max_users=500", "--set", "state.max_items=600", "--set", "worker.max_batch=64"),
    *("--set", "worker.threads=1"),
)
FAST = ("popularity", "popularity-15min", "isgd")
NUM_EVENTS = 500


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("STREAM_REC_"):
            monkeypatch.delenv(name)
    yield
    structlog.reset_defaults()


def rows(num_events: int = NUM_EVENTS, seed: int = 3) -> list[dict[str, Any]]:
    """People who go on from one item to its neighbour, come back to some, and see impressions in between."""
    draw = random.Random(seed)
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
    return json_lines(tmp_path / "shop.jsonl", rows())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were done, as they are done."""
    done: list[str] = []
    play = evaluate.play

    def noted(run: Any, *args: Any) -> Any:
        done.append(f"{run.stream.name} {run.method.text} {run.seed}")
        return play(run, *args)

    monkeypatch.setattr(evaluate, "play", noted)
    return done


def arguments(out: Path, streams: Sequence[str], methods: Sequence[str], *options: str) -> list[str]:
    named = [word for stream in streams for word in ("-s", stream)] + [
        word for name in methods for word in ("-m", name)
    ]
    return ["evaluate", *named, "-o", str(out), "-q", *SMALL, *options]


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run it; stream → method → figures, without how long it took."""

    def run(streams: Sequence[str], methods: Sequence[str], *options: str, folder: str = "study") -> dict[str, Any]:
        out = tmp_path / folder
        assert main(arguments(out, streams, methods, *options)) == 0
        values = json.loads((out / "results.json").read_text())
        for stream in values["streams"]:
            for method in stream["methods"]:
                assert method.pop("events_per_cpu_s") > 0
        return {s["name"]: {method["method"]: method for method in s["methods"]} for s in values["streams"]}

    return run


def metrics_of(method: dict[str, Any]) -> dict[str, float]:
    return {name: interval["value"] for name, interval in method["accuracy"].items()} | method["spread"]


@pytest.mark.parametrize("repeats", [False, True], ids=["novel", "repeats"])
def test_the_figures_are_those_that_replay_gives(log: Path, tmp_path: Path, study: Callable, repeats: bool) -> None:
    report = tmp_path / "report.json"
    options = ["--allow-repeats"] if repeats else []
    assert main(["replay", str(log), "-q", "--report-json", str(report), *SMALL, *options]) == 0
    replayed = json.loads(report.read_text())["methods"]

    figures = study([f"{log}{',repeats' if repeats else ''}"], ["model", "popularity", "popularity-15min"])["shop"]

    assert metrics_of(figures["model"]) == pytest.approx(replayed["model"], abs=1e-12)
    assert metrics_of(figures["popularity"]) == pytest.approx(replayed["popularity all time"], abs=1e-12)
    assert metrics_of(figures["popularity-15min"]) == pytest.approx(replayed["popularity 15 min"], abs=1e-12)
    assert set(metrics_of(figures["model"])) == set(METRICS)
    assert figures["model"]["accuracy"]["hr@10"]["value"] > 0.1


def test_settings_in_brackets_are_those_of_the_method_alone(log: Path, study: Callable) -> None:
    variants = ["model[model.encoder=none]", "model[ranking.second_stage=false]", "model[worker.threads=1]"]
    figures = study([str(log)], ["model", *variants])["shop"]
    assert metrics_of(figures[variants[2]]) == metrics_of(figures["model"])
    assert set(figures[variants[2]]["difference"]["ndcg@10"].values()) == {0.0}
    for variant in variants[:2]:
        assert metrics_of(figures[variant]) != metrics_of(figures["model"])


def test_streams_have_their_own_items_limits_and_repeats(log: Path, tmp_path: Path, study: Callable) -> None:
    items = text_file(tmp_path / "items.csv", "sku,title\n" + "".join(f"i{n},Title {n}\n" for n in range(60)))
    text = "when,visitor,what,event\n" + "".join(f"17000000{n:02d},v{n % 5},i{n % 7},view\n" for n in range(90))
    other = text_file(tmp_path / "visits.csv", text)
    streams = [
        f"{log},items={items},items.item_id=sku,limit=200",
        f"{other},name=other,user_id=visitor,item_id=what,timestamp=when,repeats",
    ]
    figures = study(streams, ["popularity", "own-repeats"])
    assert set(figures) == {"shop", "other"}
    assert (set(figures["shop"]), set(figures["other"])) == ({"popularity"}, {"popularity", "own-repeats"})
    sizes = [
        (s["num_events"], s["num_burn_in"])
        for s in json.loads((tmp_path / "study/results.json").read_text())["streams"]
    ]
    assert sizes == [(200, 20), (90, 9)]


def test_resumed_equals_uninterrupted(
    log: Path, tmp_path: Path, study: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [*FAST, "model"]
    whole = study([str(log)], methods, folder="whole")
    grade = Examiner.grade

    def ctrl_c_in_the_third_batch(self: Examiner, exams: Sequence[Exam | None], lists: Any) -> None:
        grade(self, exams, lists)
        if self.num_observed == 3 * 64:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "study"
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Examiner, "grade", ctrl_c_in_the_third_batch)
    for method in ("isgd", "model"):
        assert main(arguments(out, [str(log)], [method])) == 130
        assert not list(out.rglob("*.answers"))
    assert signal.getsignal(signal.SIGINT) == before
    monkeypatch.setattr(Examiner, "grade", grade)
    study([str(log)], methods[:2])
    assert study([str(log)], methods) == whole


def test_what_is_there_is_not_run_again_unless_its_settings_or_its_log_are_others(
    log: Path, study: Callable, ran: list[str]
) -> None:
    def runs(*options: str, methods: Sequence[str] = (*FAST, "model")) -> list[str]:
        ran.clear()
        study([str(log)], methods, *options)
        return [" ".join(run.split()[1:]) for run in ran]

    everything = ["popularity 1", "popularity-15min 1", "isgd 1", "model 1"]
    assert runs() == everything
    assert runs() == []
    assert runs("--set", "evaluation.window_events=900") == []
    assert runs("--set", "learning.dense_rate=0.002") == ["model 1"]
    assert runs() == ["model 1"]
    assert runs("--seeds", "1,2") == ["isgd 2", "model 2"]
    assert runs("--set", "state.max_seen_per_user=1500") == everything
    assert runs("--again", methods=["popularity"]) == ["popularity 1"]
    json_lines(log, rows(seed=4))
    assert runs(methods=["popularity"]) == ["popularity 1"]


def test_views_can_be_made_of_what_is_there_without_running(
    log: Path, tmp_path: Path, study: Callable, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = study([str(log)], ["popularity"])
    ran.clear()
    capsys.readouterr()
    assert study([str(log)], ["popularity", "model"], "--report-only") == first
    assert ran == []
    assert "Not run yet: shop · model · seed 1." in capsys.readouterr().err
    empty = arguments(tmp_path / "empty", [str(log)], ["model[model.encoder=gru]"], "--report-only")
    assert main(empty) == 0
    assert "Not run yet: shop · model[encoder=gru] · seed 1." in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()


def test_a_damaged_result_is_run_again(log: Path, tmp_path: Path, study: Callable, ran: list[str]) -> None:
    first = study([str(log)], ["popularity"])
    (file,) = (tmp_path / "study" / "runs" / "shop").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert study([str(log)], ["popularity"]) == first
    assert len(ran) == 2


def test_the_views_are_written_and_printed(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    words = arguments(out, [str(log)], ["model", "popularity", "model[model.encoder=none]"], "--seeds", "1,2")
    words.remove("-q")
    assert main(words) == 0
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == {"runs", "report.html", "results.json", "results.md", "summary.md"}
    for word in ("popularity all time", "NDCG", "The model", "Intervals hold 95%"):
        assert word in printed.out
    assert "5/5" in printed.err
    assert "http" not in (out / "report.html").read_text()
    command = json.loads((out / "results.json").read_text())["command"]
    assert "'model[model.encoder=none]'" in command
    assert command in (out / "results.md").read_text()
    assert str(tmp_path) not in command


def test_mistakes_are_told_before_anything_is_run(
    log: Path, tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for stream, method, code, said in (
        (str(log), "model[model.encoders=gru]", 2, "did you mean model.encoder"),
        (str(log), "model[model.encoder=grue]", 2, "model[model.encoder=grue]"),
        (str(log), "model[ranking.list_length=5]", 2, "set for all methods"),
        (str(log), "popularitty", 2, "popularity-15min"),
        (f"{log},limit=none", "model", 2, "limit is none"),
        (f"{log},colour=blue", "model", 2, "colour"),
        (f"{log},learning.event_weight.view=0", "model", 2, "--stream shop"),
        (str(tmp_path / "nowhere.csv"), "model", 3, "nowhere.csv"),
        (f"{log},items={tmp_path / 'nowhere.csv'}", "model", 3, "nowhere.csv"),
    ):
        assert main(arguments(tmp_path / "study", [stream], [method])) == code, said
        assert said in capsys.readouterr().err
    assert ran == []
    assert not (tmp_path / "study").exists()


def test_lists_that_were_shown_are_put_in_order_again(tmp_path: Path, study: Callable) -> None:
    draw = random.Random(1)
    events = []
    for number, row in enumerate(rows()):
        others = [f"i{draw.randrange(60)}" for _ in range(6)]
        place = min(draw.randrange(7), draw.randrange(7))
        items = [*others[:place], row["item_id"], *others[place:]]
        shown = {"impressions": items, "prices": [9 for _ in items]} if number % 3 else {}
        events.append(row | {"type": "click"} | shown)
    stream = f"{json_lines(tmp_path / 'shown.jsonl', events)},rerank"
    figures = study([stream], ["model", "position-only", "price-only", "popularity", "item-knn", "sasrec"])["shown"]

    assert set(figures) == {"model", "position-only", "price-only", "popularity", "item-knn"}
    mrr = {method: one["accuracy"]["mrr"]["value"] for method, one in figures.items()}
    assert mrr["price-only"] == mrr["position-only"] > 0.3
    assert mrr["item-knn"] > mrr["position-only"]
    assert mrr["model"] > mrr["popularity"]
    for view in ("results.md", "report.html", "summary.md"):
        assert "MRR" in (tmp_path / "study" / view).read_text()


def test_a_log_of_draws_judges_other_policies(tmp_path: Path, study: Callable) -> None:
    draw = random.Random(2)
    events = []
    for number in range(800):
        action = draw.randrange(30)
        reward = float(draw.random() < (0.6 if action < 6 else 0.05))
        kind = "click" if reward else "view"
        row = {"user_id": f"u{number % 9}", "item_id": f"x{action}", "type": kind, "timestamp": 1_000 * number}
        events.append(row | {"value": reward, "context": {"propensity": 1 / 30, "shelf": "a"}})
    stream = f"{json_lines(tmp_path / 'draws.jsonl', events)},off-policy,actions=shelf,learning.event_weights.view=0"
    figures = study([stream], ["model", "uniform", "popularity"])["draws"]

    snips = {method: one["accuracy"]["snips"] for method, one in figures.items()}
    assert snips["uniform"]["low"] < 0.16 < snips["uniform"]["high"]
    assert snips["popularity"]["low"] > snips["uniform"]["high"]
    assert snips["model"]["low"] > snips["uniform"]["high"]
    assert figures["uniform"]["accuracy"]["mean weight"]["value"] == pytest.approx(1, abs=0.02)
    assert "SNIPS" in (tmp_path / "study" / "results.md").read_text()
