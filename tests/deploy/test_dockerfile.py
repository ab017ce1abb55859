"""deploy/Dockerfile: every path it copies exists and reaches the daemon, and the container behaves as a service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from stream_rec.config import Settings
from stream_rec.settings_file import load_with_origins
from stream_rec.telemetry.health import Health
from stream_rec.telemetry.server import TelemetryServer

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


class Instruction(NamedTuple):
    """One instruction and the number of the stage it belongs to."""

    stage: int
    name: str
    text: str


def parsed(text: str) -> list[Instruction]:
    without_comments = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    stage, instructions = -1, []
    for line in re.sub(r"\\\n\s*", "", without_comments).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            stage += name == "FROM"
            instructions.append(Instruction(stage, name, rest.strip()))
    return instructions


def copied(instructions: list[Instruction]) -> list[str]:
    """Sources of every COPY from the build context."""
    texts = [each.text for each in instructions if each.name == "COPY" and "--from=" not in each.text]
    return [source for text in texts for source in text.split()[:-1] if not source.startswith("--")]


def kept_out(source: str, dockerignore: str) -> bool:
    """Whether .dockerignore keeps a path out of the build context: the last pattern that matches it decides."""
    out = False
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch(source, pattern.removeprefix("!")):
            out = not pattern.startswith("!")
    return out


INSTRUCTIONS = parsed((ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
LAST_STAGE = INSTRUCTIONS[-1].stage
DOCKERIGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8")


def last(name: str) -> str:
    """The instruction of that name that counts for the image."""
    return [each.text for each in INSTRUCTIONS if each.name == name and each.stage == LAST_STAGE][-1]


def health_command() -> list[str]:
    return json.loads(re.sub(r"^.*?CMD ", "", last("HEALTHCHECK")))


@pytest.mark.parametrize("source", copied(INSTRUCTIONS))
def test_what_it_copies_exists_and_reaches_the_daemon(source: str) -> None:
    assert (ROOT / source).exists()
    assert not kept_out(source, DOCKERIGNORE)


@pytest.mark.parametrize("path", ["data", ".venv", ".git", "tests", "var", "deploy/compose.yaml"])
def test_what_it_does_not_need_stays_out(path: str) -> None:
    assert kept_out(path, DOCKERIGNORE)


def test_every_package_of_the_wheel_is_copied() -> None:
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    named_by_the_build = [PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]]
    assert {*packages, *named_by_the_build, "requirements.lock"} <= set(copied(INSTRUCTIONS))


def test_stages_share_one_pinned_python_that_the_project_allows() -> None:
    images = [each.text.split()[0] for each in INSTRUCTIONS if each.name == "FROM"]
    assert len(images) == 2
    assert len(set(images)) == 1
    version = re.fullmatch(r"python:(3\.\d+)-slim", images[0])
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PYPROJECT["project"]["classifiers"]


def test_versions_come_from_the_lock() -> None:
    installs = [each.text for each in INSTRUCTIONS if each.name == "RUN" and "uv pip install" in each.text]
    assert installs
    assert all("requirements.lock" in text for text in installs)


def test_it_does_not_run_as_root() -> None:
    uid, gid = last("USER").split(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_signals_reach_the_worker() -> None:
    # The shell form would make a shell process 1, which does not pass SIGTERM on: no snapshot, no leaving the group.
    assert json.loads(last("ENTRYPOINT")) == [*PYPROJECT["project"]["scripts"]]
    assert json.loads(last("CMD"))[:2] == ["run", "--config"]
    assert last("STOPSIGNAL") == "SIGTERM"


def test_it_runs_with_the_example_settings() -> None:
    (target,) = [each.text.split()[-1] for each in INSTRUCTIONS if "deploy/worker.toml" in each.text]
    assert json.loads(last("CMD"))[2] == target


def test_its_variables_are_settings() -> None:
    environ = dict(re.findall(r"(STREAM_REC_\w+)=(\S+)", last("ENV")))
    loaded = load_with_origins(None, environ=environ)
    assert set(loaded.origins) == {"snapshot.directory", "telemetry.log_format"}
    assert str(loaded.settings.snapshot.directory) == last("VOLUME")


def test_health_is_asked_where_the_worker_tells_it() -> None:
    port = str(Settings().telemetry.port)
    assert last("EXPOSE") == port
    assert f"'STREAM_REC_TELEMETRY__PORT', '{port}'" in health_command()[2]


def test_the_health_check_says_what_the_worker_says() -> None:
    now_s = [0.0]
    health = Health(alive_timeout_s=120.0, ready_max_lag=0, monotonic_s=lambda: now_s[0])
    server = TelemetryServer("127.0.0.1", 0, CollectorRegistry(), health)
    environ = os.environ | {"STREAM_REC_TELEMETRY__PORT": str(server.port)}
    command = [sys.executable, *health_command()[1:]]

    def exit_status() -> int:
        return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False).returncode

    server.start()
    try:
        assert exit_status() == 0
        now_s[0] = 121.0
        assert exit_status() == 1
    finally:
        server.close()
    assert exit_status() == 1


def test_the_checks_find_what_is_wrong() -> None:
    broken = parsed("FROM a AS b\nCOPY --chown=1 x y \\\n  /z\n# COPY c d\nFROM a\nCOPY --from=b /z /z\n")
    assert [each.stage for each in broken] == [0, 0, 1, 1]
    assert copied(broken) == ["x", "y"]
    assert kept_out("x", "*\n!y\n")
    assert not kept_out("y", "*\n!y\n")
    assert kept_out("y", "*\n!y\n# again\ny\n")
