"""The directions of imports and the shape of files that DESIGN.md promises.

import-linter holds the contracts of pyproject.toml; the checks below it hold what that tool cannot say: "only
these rooms", for modules that do not exist yet. Every check is shown a tree that breaks it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("stream_rec", "consumers", "producers")

KAFKA_ROOMS = ("consumers", "producers")
TORCH_ROOMS = tuple(
    f"stream_rec.{room}" for room in ("models", "learning", "ranking", "state", "evaluation", "durability")
)
WIRING = ("stream_rec.cli", "stream_rec.commands")
SHARED = tuple(f"stream_rec.{name}" for name in ("config", "errors", "records", "telemetry"))

MAX_LINES = 400
SEARCHED_FOR_SHAPE = (*PACKAGES, "tests", "deploy")

Finding = str
Check = Callable[[Path], list[Finding]]


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def imported_names(path: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Every name that a file imports, absolute, with its line: at the top, in a function, under TYPE_CHECKING, and
    by ``import_module("…")`` or ``__import__("…")``.

    ``from a import b`` yields both ``a`` and ``a.b``, since ``b`` may be a module.
    """
    module = module_name(path, root)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source, node.lineno
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def imports(root: Path) -> Iterator[tuple[str, str, str]]:
    """(importing module, imported name, place) for every import of the three packages."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for name, line in imported_names(path, root):
                yield module_name(path, root), name, f"{path.relative_to(root)}:{line}"


def kafka_only_at_the_edges(root: Path) -> list[Finding]:
    return [
        f"{place} imports {name}: kafka belongs into {' and '.join(KAFKA_ROOMS)}"
        for module, name, place in imports(root)
        if inside(name, ("kafka",)) and not inside(module, KAFKA_ROOMS)
    ]


def torch_only_where_it_computes(root: Path) -> list[Finding]:
    return [
        f"{place} imports {name}: torch belongs into {', '.join(TORCH_ROOMS)}"
        for module, name, place in imports(root)
        if inside(name, ("torch",)) and not inside(module, TORCH_ROOMS)
    ]


def only_the_command_line_wires(root: Path) -> list[Finding]:
    return [
        f"{place} imports {name}: only {' and '.join(WIRING)} wire the packages together"
        for module, name, place in imports(root)
        if inside(module, ("stream_rec",)) and inside(name, KAFKA_ROOMS) and not inside(module, WIRING)
    ]


def edges_see_only_what_is_shared(root: Path) -> list[Finding]:
    found = []
    for module, name, place in imports(root):
        if not inside(module, KAFKA_ROOMS):
            continue
        other = KAFKA_ROOMS[1 - KAFKA_ROOMS.index(module.split(".")[0])]
        # `from stream_rec import records` also yields the bare package, whose __init__ holds only the version.
        if inside(name, (other,)) or (
            inside(name, ("stream_rec",)) and name != "stream_rec" and not inside(name, SHARED)
        ):
            found.append(f"{place} imports {name}: allowed are {', '.join(SHARED)}")
    return found


def no_long_file(root: Path) -> list[Finding]:
    counted = (
        (path, len(path.read_text(encoding="utf-8").splitlines()))
        for folder in SEARCHED_FOR_SHAPE
        for path in sorted((root / folder).rglob("*.py"))
    )
    return [
        f"{path.relative_to(root)} has {num_lines} lines: at most {MAX_LINES}"
        for path, num_lines in counted
        if num_lines > MAX_LINES
    ]


def no_utils(root: Path) -> list[Finding]:
    return [
        f"{path.relative_to(root)}: name a module for what it does"
        for folder in SEARCHED_FOR_SHAPE
        for path in sorted((root / folder).rglob("*.py"))
        if path.stem in ("utils", "util", "helpers", "misc", "common")
    ]


# check → files, each of which must be found by that check in an otherwise clean tree.
BREAKERS: dict[Check, dict[str, str]] = {
    kafka_only_at_the_edges: {
        "stream_rec/worker.py": "import kafka\n",
        "stream_rec/commands/topics.py": "from kafka.admin import KafkaAdminClient\n",
        "stream_rec/new_room.py": "def f():\n    from kafka import KafkaConsumer\n",
        "stream_rec/telemetry/probe.py": "import importlib\nimportlib.import_module('kafka.errors')\n",
    },
    torch_only_where_it_computes: {
        "stream_rec/worker.py": "import torch\n",
        "stream_rec/cli.py": "def f():\n    import torch.nn.functional as F\n",
        "stream_rec/telemetry/gauges.py": "import typing\nif typing.TYPE_CHECKING:\n    from torch import nn\n",
        "consumers/decode.py": "__import__('torch')\n",
        "stream_rec/modelsmith.py": "import torch\n",
    },
    only_the_command_line_wires: {
        "stream_rec/worker.py": "import consumers.events\n",
        "stream_rec/state/users.py": "from producers import recommendations\n",
        "stream_rec/climate.py": "from consumers import events\n",
    },
    edges_see_only_what_is_shared: {
        "consumers/events.py": "from stream_rec import worker\n",
        "consumers/decode.py": "import producers.dead_letters\n",
        "producers/lists.py": "from stream_rec.state.users import Users\n",
        "producers/dead_letters.py": "from consumers import decode\n",
        "consumers/deep/catalogue.py": "from stream_rec.ports import Source\n",
    },
    no_long_file: {
        "stream_rec/worker.py": "x = 1\n" * (MAX_LINES + 1),
        "tests/test_long.py": "x = 1\n" * (MAX_LINES + 1),
    },
    no_utils: {"stream_rec/state/utils.py": "x = 1\n", "tests/helpers.py": "x = 1\n"},
}

# What the checks must let pass: each rule's own exceptions, and names that only begin like a forbidden one.
CLEAN = {
    "stream_rec/__init__.py": "",
    "stream_rec/records.py": "from __future__ import annotations\n",
    "stream_rec/cli.py": "from stream_rec.commands import run\n",
    "stream_rec/commands/__init__.py": "",
    "stream_rec/commands/run.py": "def run():\n    import consumers.events\n    import producers\n",
    "stream_rec/models/__init__.py": "import torch\nfrom . import attention\n",
    "stream_rec/models/attention.py": "from torch import nn\nfrom ..records import Event\n",
    "stream_rec/telemetry/__init__.py": "import torchless, kafkaesque\n",
    "consumers/__init__.py": "",
    "consumers/events.py": "import kafka\nfrom stream_rec import records\nfrom .decode import decode\n",
    "consumers/decode.py": "from stream_rec.telemetry.metrics import Metrics\nfrom stream_rec.records import Event\n",
    "producers/__init__.py": "",
    "producers/recommendations.py": "from kafka import KafkaProducer\nfrom stream_rec.errors import BrokerError\n",
    "tests/test_short.py": "x = 1\n" * MAX_LINES,
}


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("check", BREAKERS, ids=lambda check: check.__name__)
def test_the_project_keeps_its_promise(check: Check) -> None:
    assert check(ROOT) == []


@pytest.mark.parametrize("check", BREAKERS, ids=lambda check: check.__name__)
def test_a_clean_tree_passes(check: Check, tmp_path: Path) -> None:
    write_tree(tmp_path, CLEAN)
    assert check(tmp_path) == []


@pytest.mark.parametrize(
    ("check", "file", "text"),
    [
        pytest.param(check, file, text, id=f"{check.__name__}-{file}")
        for check, files in BREAKERS.items()
        for file, text in files.items()
    ],
)
def test_a_broken_tree_is_found(check: Check, file: str, text: str, tmp_path: Path) -> None:
    write_tree(tmp_path, CLEAN | {file: text})
    findings = check(tmp_path)
    assert findings
    assert all(file in finding for finding in findings)


def test_a_relative_import_is_resolved(tmp_path: Path) -> None:
    files = {"stream_rec/a/__init__.py": "from .b import c\n", "stream_rec/a/b.py": "from ...consumers import d\n"}
    write_tree(tmp_path, files)
    names = {name for _, name, _ in imports(tmp_path)}
    assert names == {"stream_rec.a.b", "stream_rec.a.b.c", "consumers", "consumers.d"}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages under ``root``, which it finds before any installed ones."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    environment = os.environ | {"PYTHONPATH": str(root), "NO_COLOR": "1"}
    return subprocess.run(
        [*command, "--config", str(root / "pyproject.toml"), "--no-cache"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_import_linter_keeps_every_contract() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("stream_rec/state/__init__.py", "import consumers.decode", "only the command line wires"),
        ("stream_rec/new_room.py", "from producers import recommendations", "only the command line wires"),
        ("stream_rec/records.py", "import stream_rec.commands", "nothing builds on the command line"),
        ("consumers/decode.py", "from stream_rec import cli", "nothing builds on the command line"),
        ("stream_rec/telemetry/__init__.py", "import kafka", "kafka stays at the edges"),
        ("stream_rec/commands/new_command.py", "from kafka.admin import NewTopic", "kafka stays at the edges"),
        ("stream_rec/worker.py", "import torch", "torch stays in the rooms that compute"),
        ("stream_rec/commands/__init__.py", "import torch", "torch stays in the rooms that compute"),
        ("stream_rec/new_room.py", "from torch import nn", "torch stays in the rooms that compute"),
        ("consumers/decode.py", "import producers", "consumers and producers never reach each other"),
        ("producers/__init__.py", "import consumers", "consumers and producers never reach each other"),
        ("consumers/decode.py", "import stream_rec.state", "consumers and producers see only what is shared"),
        ("producers/__init__.py", "from stream_rec import worker", "consumers and producers see only what is shared"),
        ("stream_rec/records.py", "import stream_rec.models.attention", "consumers and producers load without torch"),
    ],
)
def test_import_linter_finds_a_breach(module: str, line: str, contract: str, tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(text.startswith(contract) for text in broken), done.stdout
