"""The command line: fast to start, every option documented, arguments arrive, mistakes end in one line and a code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import structlog
import typer

import stream_rec.commands
from stream_rec.__main__ import main
from stream_rec.cli import app
from stream_rec.config import Settings
from stream_rec.errors import (
    BrokerError,
    FencedError,
    InputFileError,
    SettingsError,
    SnapshotError,
    StreamRecError,
)
from stream_rec.settings_file import load_settings
from stream_rec.settings_reference import all_settings

HEAVY = {"torch", "kafka", "river", "pyarrow", "numpy", "prometheus_client", "safetensors"}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("STREAM_REC_") or name == "FORCE_COLOR":
            monkeypatch.delenv(name)
    yield
    structlog.reset_defaults()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """Stands in for the commands that work; holds what they were called with."""
    seen: list = []

    def stand_in(name: str) -> None:
        module = ModuleType(f"stream_rec.commands.{name}")
        module.main = lambda settings, *args, **kwargs: seen.append((name, settings, args, kwargs)) or 0
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(stream_rec.commands, name, module, raising=False)

    for name in ("run", "demo", "replay"):
        stand_in(name)
    return seen


def plain(text: str) -> str:
    """Text as one line, without colours (which CI may force) and without the frame that breaks messages in two."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).replace("│", " ").split())


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``code``."""
    text = f"import sys\n{code}\nsys.stderr.write(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def commands() -> Iterator[tuple[str, typer.main.TyperCommand]]:
    def walk(prefix: str, command) -> Iterator:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{prefix} {name}".strip(), inner)
        if not hasattr(command, "commands"):
            yield prefix, command

    return walk("", typer.main.get_command(app))


@pytest.mark.parametrize("arguments", [["--help"], ["replay", "--help"], ["version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]):
    loaded = modules_after(f"from stream_rec.__main__ import main\nassert main({arguments}) == 0")
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_the_package_alone_imports_no_library():
    before = modules_after("")
    assert modules_after("import stream_rec") - before == {"stream_rec"}


def test_config_commands_import_neither_torch_nor_kafka():
    runs = "\n".join(f"assert main(['config', '{name}']) == 0" for name in ("check", "show", "reference", "metrics"))
    loaded = modules_after(f"from stream_rec.__main__ import main\n{runs}")
    assert "pydantic" in loaded
    assert not loaded & {"torch", "kafka", "river", "pyarrow", "numpy"}


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_and_option_is_documented(name: str, command):
    assert command.help, name
    assert len(name.split()) <= 2
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    out = plain(capsys.readouterr().out)
    for error in (StreamRecError, SettingsError, InputFileError, BrokerError, FencedError, SnapshotError):
        assert f" {error.exit_code} " in out[out.index("Exit codes") :]


@pytest.mark.parametrize(
    "error",
    [
        StreamRecError("a"),
        SettingsError("b"),
        InputFileError("c"),
        BrokerError("d"),
        FencedError("e"),
        SnapshotError("f"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_ends_in_one_line_and_its_code(calls, monkeypatch, capsys, error: StreamRecError):
    def fail(settings: Settings) -> int:
        raise error

    monkeypatch.setattr(stream_rec.commands.run, "main", fail)
    assert main(["run"]) == error.exit_code
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


def test_interrupted(calls, monkeypatch):
    def interrupt(settings: Settings) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(stream_rec.commands.run, "main", interrupt)
    assert main(["run"]) == 130


def test_a_bug_keeps_its_traceback(calls, monkeypatch):
    def fail(settings: Settings) -> int:
        raise AssertionError("ours")

    monkeypatch.setattr(stream_rec.commands.run, "main", fail)
    with pytest.raises(AssertionError, match="ours"):
        main(["run"])


def test_the_code_of_a_command_is_the_code_of_the_process(calls, monkeypatch):
    monkeypatch.setattr(stream_rec.commands.run, "main", lambda settings: 7)
    assert main(["run"]) == 7


def test_a_closed_pipe_ends_quietly():
    command = f"{sys.executable} -m stream_rec config reference --format markdown | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("| Setting |")
    assert done.stderr == ""


def test_run_takes_file_environment_and_overrides(calls, tmp_path: Path, monkeypatch):
    path = tmp_path / "worker.toml"
    path.write_text("[worker]\nmax_batch = 5\nmax_wait_ms = 6\n")
    monkeypatch.setenv("STREAM_REC_WORKER__THREADS", "3")
    monkeypatch.setenv("STREAM_REC_CONFIG", str(path))
    assert main(["run", "--set", "worker.max_wait_ms=7", "--set", "kafka.bootstrap_servers=a:1,b:2"]) == 0
    ((_, settings, args, kwargs),) = calls
    assert (settings.worker.max_batch, settings.worker.max_wait_ms, settings.worker.threads) == (5, 7, 3)
    assert settings.kafka.bootstrap_servers == ["a:1", "b:2"]
    assert (args, kwargs) == ((), {})


def test_an_override_may_hold_an_equals_sign(calls):
    assert main(["run", "--set", "kafka.client.sasl_plain_password=a=b="]) == 0
    assert calls[0][1].kafka.client == {"sasl_plain_password": "a=b="}


def test_demo_as_it_comes(calls):
    assert main(["demo"]) == 0
    name, settings, args, kwargs = calls[0]
    assert (name, settings, args) == ("demo", Settings(), ())
    assert kwargs == {"seconds": 60.0, "num_events": None, "rate": None, "seed": 1, "kafka": False, "picture": None}


def test_demo_with_everything(calls):
    assert (
        main(
            [
                "demo",
                "--seconds",
                "5",
                "--events",
                "9",
                "--rate",
                "2.5",
                "--seed",
                "4",
                "--kafka",
                "--picture",
                "out.svg",
            ]
        )
        == 0
    )
    _, settings, _, kwargs = calls[0]
    assert kwargs == {
        "seconds": 5.0,
        "num_events": 9,
        "rate": 2.5,
        "seed": 4,
        "kafka": True,
        "picture": Path("out.svg"),
    }
    assert settings.worker.seed == 4


def test_replay_as_it_comes(calls):
    assert main(["replay", "a.csv", "b.csv"]) == 0
    name, settings, args, kwargs = calls[0]
    assert (name, settings, args) == ("replay", Settings(), ([Path("a.csv"), Path("b.csv")],))
    assert kwargs == {
        "mapping": {},
        "items": None,
        "items_mapping": {},
        "speed": None,
        "allow_repeats": False,
        "explore": False,
        "out": None,
        "lists": "fresh",
        "to_kafka": False,
        "limit": None,
        "report_json": None,
        "quiet": False,
    }


def test_replay_with_everything(calls):
    text = "replay a.csv --map user_id=visitorid,item_id=itemid --items i.csv --items-map title=name --speed 10 "
    text += "--allow-repeats --explore --out lists.jsonl --lists published --limit 5 --report-json r.json --quiet"
    assert main(text.split()) == 0
    assert calls[0][3] == {
        "mapping": {"user_id": "visitorid", "item_id": "itemid"},
        "items": Path("i.csv"),
        "items_mapping": {"title": "name"},
        "speed": 10.0,
        "allow_repeats": True,
        "explore": True,
        "out": Path("lists.jsonl"),
        "lists": "published",
        "to_kafka": False,
        "limit": 5,
        "report_json": Path("r.json"),
        "quiet": True,
    }


def test_replay_to_kafka(calls):
    assert main(["replay", "a.csv", "--to-kafka", "--speed", "2"]) == 0
    assert calls[0][3]["to_kafka"] is True


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["replay"], "FILE"),
        (["replay", "a", "--map", "user_id"], "user_id=visitorid"),
        (["replay", "a", "--map", "user_id="], "given no column"),
        (["replay", "a", "--map", "user_id=a,user_id=b"], "given twice"),
        (["replay", "a", "--items-map", "title=name"], "--items is not given"),
        (["replay", "a", "--to-kafka", "--out", "x"], "learns nothing"),
        (["replay", "a", "--speed", "0"], "above 0"),
        (["replay", "a", "--speed", "nan"], "above 0"),
        (["replay", "a", "--lists", "stale"], "stale"),
        (["replay", "a", "--limit", "0"], "greater than or equal to 1"),
        (["demo", "--seconds", "-1"], "above 0"),
        (["run", "--set", "worker.max_batch"], "section.key=value"),
        (["run", "--nope"], "--nope"),
        (["nope"], "nope"),
        ([], "Usage"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_runs(calls, capsys, arguments: list[str], word: str):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert word in plain(captured.out + captured.err)
    assert calls == []


def test_a_wrong_setting_stops_every_command(calls, capsys):
    for command in (["run"], ["demo"], ["replay", "a"], ["config", "check"], ["config", "show"], ["topics", "create"]):
        assert main([*command, "--set", "worker.maxbatch=3"]) == 2
        assert "did you mean worker.max_batch?" in capsys.readouterr().err
    assert calls == []


def test_config_check(tmp_path: Path, capsys):
    path = tmp_path / "worker.toml"
    path.write_text("[worker]\nmax_batch = 5\n")
    assert main(["config", "check", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: the settings can be used; 1 of {len(all_settings())} given")


def test_config_show_loads_as_it_stands_and_tells_origins(tmp_path: Path, capsys, monkeypatch):
    path = tmp_path / "worker.toml"
    path.write_text('[worker]\nmax_batch = 5\n[kafka.client]\nsecurity_protocol = "SASL_SSL"\n')
    monkeypatch.setenv("STREAM_REC_TELEMETRY__PORT", "0")
    assert main(["config", "show", "--config", str(path), "--set", "snapshot.keep=9"]) == 0
    out = capsys.readouterr().out
    assert f"max_batch = 5  # {path}, line 2" in out
    assert "port = 0  # environment STREAM_REC_TELEMETRY__PORT" in out
    assert "keep = 9  # --set snapshot.keep" in out
    assert 'encoder = "attention"  # default' in out
    again = tmp_path / "again.toml"
    again.write_text(out)
    expected = load_settings(path, {"snapshot.keep": 9, "telemetry.port": 0}, {})
    assert load_settings(again, {}, {}) == expected


@pytest.mark.parametrize("format", ["toml", "json"])
def test_config_show_keeps_secrets(capsys, monkeypatch, format: str):
    monkeypatch.setenv("STREAM_REC_KAFKA__CLIENT__SASL_PLAIN_PASSWORD", "hunter2")
    monkeypatch.setenv("STREAM_REC_KAFKA__CLIENT__SASL_PLAIN_USERNAME", "shop")
    assert main(["config", "show", "--format", format]) == 0
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    shown = tomllib.loads(captured.out) if format == "toml" else json.loads(captured.out)
    client = shown["kafka"]["client"] if format == "toml" else shown["kafka.client"]["value"]
    assert client == {"sasl_plain_password": "***", "sasl_plain_username": "shop"}


def test_config_show_as_json_tells_origins(capsys):
    assert main(["config", "show", "--format", "json", "--set", "worker.max_batch=9"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["worker.max_batch"] == {"value": 9, "origin": "--set worker.max_batch"}
    assert shown["snapshot.directory"] == {"value": "var/snapshots", "origin": "default"}


@pytest.mark.parametrize("what", ["reference", "metrics"])
def test_markdown_tables_are_tables(capsys, what: str):
    assert main(["config", what, "--format", "markdown"]) == 0
    rows = capsys.readouterr().out.splitlines()
    bars = {row.replace("\\|", "").count("|") for row in rows}
    assert bars == {6}
    assert len(rows) > 30


def test_the_reference_for_a_pipe_cuts_nothing_off(capsys):
    assert main(["config", "reference"]) == 0
    out = capsys.readouterr().out
    assert "learning.row_accumulator_half_life_steps" in out
    assert "[300.0, 1200.0" in out
    assert "…\n" not in out.replace(" …", "")


def test_topics_create_says_what_it_did(capsys, monkeypatch):
    asked: list = []

    def ensure_topics(kafka, topics) -> list[str]:
        asked.append((kafka, topics))
        return ["events", "journal"]

    monkeypatch.setattr("stream_rec.commands.topics.ensure_topics", ensure_topics)
    assert main(["topics", "create", "--set", "topics.create_missing=false"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "events: created",
        "items: there already",
        "recommendations: there already",
        "dead-letters: there already",
        "journal: created",
    ]
    assert asked[0][1].create_missing is True


def test_version(capsys):
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"stream-rec {stream_rec.__version__}\n")
    assert "kafka-python 3." in out


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "stream_rec", "config", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "stream_rec", "config", "check", "--set", "a.b=1"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: a.b (--set a.b): no such setting")
