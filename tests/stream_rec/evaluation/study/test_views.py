"""The views of one made-up study: whole, by themselves, and saying what the figures say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO

from rich.console import Console

from stream_rec.evaluation.study.curves import Curve, chart
from stream_rec.evaluation.study.figures import Study
from stream_rec.evaluation.study.html import write_html
from stream_rec.evaluation.study.markdown import results_table, summary_table
from stream_rec.evaluation.study.terminal import render
from stream_rec.evaluation.study.words import verdict
from tests.stream_rec.evaluation.study.made_studies import a_study, figures

TITLES = ("model", "model[encoder=gru]", "popularity all time", "item-kNN")
VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open; keeps tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_file_that_needs_nothing_else():
    text = write_html(a_study())
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<img|<iframe|src=", text)
    page = Balanced()
    page.feed(text)
    assert page.open == []
    targets = [attributes["href"] for tag, attributes in page.seen if tag == "a"]
    ids = [f"#{attributes['id']}" for _, attributes in page.seen if "id" in attributes]
    assert targets == ids == ["#shop"]


def test_the_report_shows_every_method_as_a_curve_and_a_row_and_escapes_names():
    study = a_study()
    text = write_html(study)
    assert text.count("<path") == len(TITLES)
    for title in TITLES:
        assert f"<td>{title}</td>" in text
        assert f"<title>{title}</title>" in text
    assert "items=&lt;items&gt;.csv" in text
    assert "<items>" not in text
    model = study.streams[0].model()
    assert model is not None
    assert f">{model.accuracy['ndcg@10'].value:.4f}<" in text
    assert study.command in text


def test_a_chart_of_one_point_and_of_none():
    assert chart([Curve("a", "c0", [])], [], "nothing") == ""
    one = chart([Curve("a", "c0", [0.0], is_main=True)], [0], "one")
    assert "1970-01-01" in one
    assert "nan" not in one


def test_results_as_json_are_plain_values_with_their_intervals():
    values = json.loads(json.dumps(a_study().to_json_values(), allow_nan=False))
    (stream,) = values["streams"]
    model = next(method for method in stream["methods"] if method["method"] == "model")
    assert set(model["accuracy"]["ndcg@10"]) == {"value", "low", "high"}
    assert model["difference"]["hr@20"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert len(model["curve"]) == len(stream["times_ms"]) == 100


def test_the_terminal_shows_all_of_it_in_eighty_columns():
    console = Console(width=80, record=True, file=StringIO())
    render(a_study(), console)
    printed = console.export_text()
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    for word in ("popularity all time", "item-kNN", "NDCG", "MRR", "cov.", "pers.", "CPU-s", "to model"):
        assert word in printed
    assert "The model beats every baseline" in " ".join(printed.split())


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_markdown_tables_are_tables():
    study = a_study()
    text = results_table(study)
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        assert len({len(row) for row in rows_of(table)}) == 1
    assert f"```\n{study.command}\n```" in text
    assert verdict(study.streams[0]) in text
    for title in ("| **`model`** |", "| `model[encoder=gru]` |", "| item-kNN |", "seed 2, HR@10"):
        assert title in text


def test_the_summary_has_a_line_a_stream_with_the_best_baseline():
    header, _, line = rows_of(summary_table(a_study()))
    assert header[:4] == ["stream", "measured by", "model", "best baseline"]
    assert line[0].startswith("`shop.csv,")
    assert (line[1], line[3]) == ("HR@10 / NDCG@10", "item-kNN")
    assert re.fullmatch(r"\+0\.\d{4} \[\+0\.\d{4}, \+0\.\d{4}\]", line[5])


def test_a_study_without_the_model_or_without_scored_events_is_shown_too():
    for methods in ({"popularity": [[1, 0, 1]]}, {"model": [[]], "popularity": [[]]}):
        study: Study = replace(a_study(), streams=[figures(methods)])
        assert "popularity all time" in write_html(study)
        assert "popularity all time" in results_table(study)
        assert summary_table(study)
        render(study, Console(file=open("/dev/null", "w")))  # noqa: SIM115
