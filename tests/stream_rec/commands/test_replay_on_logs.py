"""``stream-rec replay`` on recorded logs: the report is that of the lists, whichever they are."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from stream_rec.__main__ import main
from stream_rec.evaluation.from_lists import metrics_from_lists

SMALL = ("--set", "model.dimension=16", "--set", "model.num_layers=1", "--set", "state.history_length=20")
BOUNDS = ("--set", "state.max_users=5000", "--set", "state.max_items=5000")
LIMIT = 3_000


@pytest.mark.logs
@pytest.mark.parametrize(
    ("name", "options", "at_least"),
    [
        ("globo_u10", ("--lists", "fresh"), 0.4),
        ("globo_u10", ("--lists", "published"), 0.02),
        ("ml100k", ("--lists", "fresh", "--allow-repeats"), 0.01),
        ("ml100k", ("--lists", "published"), 0.005),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_report_is_that_of_the_lists(
    event_logs: Path, tmp_path: Path, name: str, options: tuple[str, ...], at_least: float
) -> None:
    log, out, written = event_logs / f"{name}.parquet", tmp_path / "lists.jsonl", tmp_path / "report.json"
    catalogue = ("--items", str(event_logs / "ml100k.items.parquet")) if name == "ml100k" else ()
    files = ("--out", str(out), "--report-json", str(written))

    assert main(["replay", str(log), "--limit", str(LIMIT), "-q", *files, *catalogue, *options, *SMALL, *BOUNDS]) == 0

    report = json.loads(written.read_text())
    model = report["methods"]["model"]
    novel = "--allow-repeats" not in options
    assert metrics_from_lists(out, novel=novel, event_weights={"impression": 0.0}) == pytest.approx(model, abs=1e-9)
    assert model["hr@10"] > at_least
    with out.open() as lines:
        users = [json.loads(line)["user_id"] for line in lines]
    assert users == parquet.read_table(log, columns=["user_id"])["user_id"].slice(0, LIMIT).to_pylist()
    assert report["num_events"] == LIMIT
