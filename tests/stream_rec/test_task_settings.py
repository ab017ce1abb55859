"""``[learning.tasks.<name>]``: tables whose names are the user's own, and each mistake named with its place."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from stream_rec.commands.config import shown_as_json, shown_as_toml
from stream_rec.config import Settings
from stream_rec.errors import SettingsError
from stream_rec.settings_file import load_settings, load_with_origins
from stream_rec.settings_reference import all_settings

TWO = """
[learning.tasks.purchase]
weight = 10
[learning.tasks."how long"]
kind = "value"
types = ["play", "listen"]
logarithmic = true
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "worker.toml"
    path.write_text(TWO, encoding="utf-8")
    return path


def problem_of(text: str, tmp_path: Path) -> str:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(path, {}, {})
    return str(raised.value)


def test_by_default_there_are_none() -> None:
    assert Settings().learning.tasks == {}


def test_a_task_is_named_freely_and_takes_its_name_for_its_type(path: Path) -> None:
    tasks = load_settings(path, {}, {}).learning.tasks
    assert list(tasks) == ["purchase", "how long"]
    purchase, how_long = tasks.values()
    assert (purchase.kind, purchase.of_types("purchase"), purchase.weight) == ("happens", {"purchase"}, 10.0)
    assert (how_long.kind, how_long.of_types("how long"), how_long.weight) == ("value", {"play", "listen"}, 0.0)


def test_the_environment_adds_to_a_task_and_the_command_line_replaces_a_weight(path: Path) -> None:
    environ = {"STREAM_REC_LEARNING__TASKS__PURCHASE__TYPES": '["purchase", "order"]'}
    tasks = load_settings(path, {"learning.tasks.purchase.weight": "3"}, environ).learning.tasks
    assert (tasks["purchase"].types, tasks["purchase"].weight) == (["purchase", "order"], 3.0)


def test_what_is_shown_loads_as_it_stands(path: Path, tmp_path: Path) -> None:
    loaded = load_with_origins(path, {}, {})
    assert tomllib.loads(shown_as_toml(loaded))["learning"]["tasks"]["how long"]["types"] == ["play", "listen"]
    (tmp_path / "shown.toml").write_text(shown_as_toml(loaded), encoding="utf-8")
    assert load_settings(tmp_path / "shown.toml", {}, {}) == loaded.settings
    assert json.loads(shown_as_json(loaded))["learning.tasks"]["value"]["purchase"]["weight"] == 10.0


def test_the_reference_says_what_a_task_has() -> None:
    allowed = all_settings()["learning", "tasks"].allowed
    assert allowed.startswith('table of { kind = "happens" or "value", types = list of text that is not empty, ')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[learning.tasks.a]\nkind = 'rate'", ["learning.tasks.a.kind", "line 2", '"happens" or "value"']),
        ("[learning.tasks.a]\nwait = 3", ["learning.tasks.a.wait", "line 2"]),
        ("[learning.tasks.a]\nweight = -1", ["learning.tasks.a.weight", "line 2"]),
        ("[learning.tasks.impression]\nweight = 1", ["learning.tasks.impression (", "line 2", "weigh 0"]),
        ("[learning.tasks.a]\nlogarithmic = true", ["learning.tasks.a.logarithmic", "line 2", "kind = 'value'"]),
        ("[model]\nencoder = 'none'\n[learning.tasks.a]\nweight = 1", ["learning.tasks (", "model.encoder = 'none'"]),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, expected: list[str], tmp_path: Path) -> None:
    problem = problem_of(text, tmp_path)
    assert [part for part in expected if part not in problem] == [], problem


def test_there_are_at_most_sixteen() -> None:
    def settings(num: int) -> dict[str, Any]:
        return {"learning": {"tasks": {f"t{n}": {} for n in range(num)}}}

    assert len(Settings.model_validate(settings(16)).learning.tasks) == 16
    with pytest.raises(ValueError, match="16"):
        Settings.model_validate(settings(17))
