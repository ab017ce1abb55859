"""The README's tables are printed by the commands, so that a setting or a metric is described in one place only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_rec.commands.config import METRIC_COLUMNS, SETTING_COLUMNS, markdown, metric_rows, setting_rows

README = Path(__file__).parents[1] / "README.md"


def between(text: str, name: str) -> str:
    """What stands between the markers of a table; fails where one is missing or stands twice."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    assert (text.count(begin), text.count(end)) == (1, 1), f"README.md needs {begin} and {end}, each once"
    return text.split(begin)[1].split(end)[0].strip()


@pytest.mark.parametrize(
    ("name", "command", "table"),
    [
        ("settings", "config reference", markdown(SETTING_COLUMNS, setting_rows())),
        ("metrics", "config metrics", markdown(METRIC_COLUMNS, metric_rows())),
    ],
    ids=["settings", "metrics"],
)
def test_the_table_is_what_the_command_prints(name: str, command: str, table: str):
    found = between(README.read_text(encoding="utf-8"), name)
    assert found.splitlines() == table.splitlines(), (
        f"put what `stream-rec {command} --format markdown` prints between the {name} markers of README.md"
    )


def test_what_the_readme_links_to_is_there_and_the_results_are_filled_in():
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
    assert "globo_u10" in between(text, "results")
