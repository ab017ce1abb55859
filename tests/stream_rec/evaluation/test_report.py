"""The report as JSON and as a table."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from stream_rec.evaluation.ranking_metrics import METRICS
from stream_rec.evaluation.report import COLUMNS, ReplayReport


def values(level):
    return dict.fromkeys(METRICS, level)


REPORT = ReplayReport(
    streams=["clicks.parquet"],
    num_events=1_000,
    num_scored=800,
    methods={"transitions": values(0.2), "popularity 3 h": values(0.25), "model": values(0.3)},
    wall_s=2.0,
    cpu_s=4.0,
    seed=7,
    version="1.2.3",
    rejected={"not_json": 2, "bad_id": 1},
    settings={"snapshot": {"directory": Path("var")}},
)


def rendered(report, **options):
    console = Console(file=io.StringIO(), width=140, **options)
    report.render(console)
    return console.file.getvalue()


def test_columns_are_the_metrics():
    assert tuple(COLUMNS) == METRICS


def test_json_holds_every_field_and_the_rates():
    parsed = json.loads(REPORT.to_json())
    assert parsed["methods"] == REPORT.methods
    assert (parsed["events_per_s"], parsed["events_per_cpu_s"]) == (500.0, 250.0)
    assert (parsed["num_events"], parsed["num_scored"], parsed["seed"], parsed["version"]) == (1_000, 800, 7, "1.2.3")
    assert parsed["rejected"] == {"not_json": 2, "bad_id": 1}
    assert parsed["settings"] == {"snapshot": {"directory": "var"}}
    assert parsed["best_baseline"] == "popularity 3 h"


def test_rates_of_a_replay_that_took_no_time():
    report = replace(REPORT, wall_s=0.0, cpu_s=0.0)
    assert (report.events_per_s, report.events_per_cpu_s) == (0.0, 0.0)


def test_the_table_has_the_model_first_and_every_figure():
    text = rendered(REPORT)
    order = [text.index(method) for method in ("\nmodel", "\ntransitions", "\npopularity 3 h")]
    assert order == sorted(order)
    for expected in ("clicks.parquet", "HR@10", "NDCG@10", "MRR@20", "coverage", "events/s", "500", "0.3000"):
        assert expected in text
    assert "3 records rejected: bad_id 1, not_json 2." in text
    assert (
        "1,000 events, 800 scored (fresh lists, repeats left out) in 2.0 s: 500 events/s, 250 per CPU-second." in text
    )


def test_no_figure_is_cut_in_eighty_columns():
    methods = {"model": values(0.3123), "popularity all time": values(0.2987)}
    report = replace(REPORT, methods=methods, num_events=298_449, wall_s=3.5)
    console = Console(file=io.StringIO(), width=80)
    report.render(console)
    text = console.file.getvalue()
    assert "…" not in text
    assert (text.count("0.3123"), text.count("0.2987")) == (6 + 1, 6 + 1)  # of the table and of the verdict
    assert "85,271" in text


def test_the_best_of_each_column_stands_out():
    methods = {"model": values(0.3), "transitions": {**values(0.2), "coverage@10": 0.9}}
    text = rendered(replace(REPORT, methods=methods), force_terminal=True, color_system="standard")
    highlighted = re.findall(r"\x1b\[1;32m *(0\.\d+)", text)
    assert sorted(highlighted) == ["0.3000"] * 5 + ["0.9000"]


@pytest.mark.parametrize(
    ("model", "verdict"),
    [
        (0.3, "The model beats the best baseline, popularity 3 h: NDCG@10 0.3000 against 0.2500 (+20.0%)."),
        (0.2, "The model does not beat the best baseline, popularity 3 h: NDCG@10 0.2000 against 0.2500 (-20.0%)."),
        (0.25, "The model and the best baseline, popularity 3 h, are level: NDCG@10 0.2500."),
    ],
)
def test_the_verdict_is_plain(model, verdict):
    report = replace(REPORT, methods={**REPORT.methods, "model": values(model)})
    assert report.verdict() == verdict
    assert report.beats_baselines == (model == 0.3)
    assert verdict in rendered(report).replace("\n", " ")


def test_verdicts_where_nothing_can_be_compared():
    alone = replace(REPORT, methods={"model": values(0.3)})
    assert alone.verdict() == "No baseline was measured beside the model."
    assert not alone.beats_baselines
    unscored = replace(REPORT, num_scored=0)
    assert unscored.verdict().startswith("Nothing was scored")
    assert not unscored.beats_baselines
    rival_at_zero = replace(REPORT, methods={"model": values(0.3), "transitions": values(0.0)})
    assert rival_at_zero.verdict().endswith("0.3000 against 0.0000.")
