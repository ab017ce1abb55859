"""Laws 7 and 8 of DESIGN.md, as far as they can be read from the source: time and randomness are injected, and no
tensor is created without naming its device. Each check is shown what breaks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOP = ("worker.py", "state", "models", "learning", "ranking", "evaluation", "durability")

CLOCKS_AND_DICE = frozenset({"time", "datetime", "random", "secrets", "uuid"})
NUMPY_SEEDED = frozenset(
    {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"}
)
DRAWS = frozenset({"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal", "poisson"})
DRAWS_IN_PLACE = frozenset({"uniform_", "normal_", "exponential_", "random_", "bernoulli_", "geometric_", "cauchy_"})
FACTORIES = frozenset(
    {"tensor", "as_tensor", "empty", "zeros", "ones", "full", "arange", "linspace", "logspace", "eye"}
    | {"rand", "randn", "randint", "randperm"}
)


def sources() -> list[Path]:
    """The files of the loop: ``stream_rec/worker.py`` and every module of its rooms."""
    roots = [ROOT / "stream_rec" / name for name in LOOP]
    return sorted(path for root in roots for path in (root.rglob("*.py") if root.is_dir() else [root]))


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute chain, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def keywords(call: ast.Call) -> set[str | None]:
    return {keyword.arg for keyword in call.keywords}  # None stands for **arguments, which may hold anything


def own_time_or_randomness(text: str) -> Iterator[str]:
    """Imports of clocks and dice, and draws that no generator was given for."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in CLOCKS_AND_DICE)
        elif isinstance(node, ast.Call) and not keywords(node) & {"generator", None}:
            name = dotted(node.func)
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            module, _, function = name.rpartition(".")
            # Initial weights are drawn before the loop begins, from the seed that the model was built under.
            drawn_in_place = method in DRAWS_IN_PLACE and not module.endswith("init")
            if (module == "torch" and function in DRAWS) or drawn_in_place:
                yield f"{node.lineno}: {name or method} draws without generator="
            elif module in ("np.random", "numpy.random") and function not in NUMPY_SEEDED:
                yield f"{node.lineno}: {name} draws from numpy's global state"


def tensors_without_device(text: str) -> Iterator[str]:
    """Calls of torch's factories that neither name a device nor stand inside ``with torch.device(…)``."""
    tree = ast.parse(text)
    inside = {
        id(below)
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and any("torch.device" in ast.unparse(item.context_expr) for item in node.items)
        for below in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in inside and not keywords(node) & {"device", None}:
            module, _, function = dotted(node.func).rpartition(".")
            if module == "torch" and function in FACTORIES:
                yield f"{node.lineno}: torch.{function} without device="


def laws() -> list[int]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [int(number) for number in re.findall(r"^(\d+)\. ", text.partition("## Laws")[2], flags=re.MULTILINE)]


def named_after_laws(root: Path) -> set[int]:
    """Numbers of the laws that some test under ``root`` is named after."""
    texts = (path.read_text(encoding="utf-8") for path in root.rglob("test_*.py"))
    return {int(number) for text in texts for number in re.findall(r"^ *def test_law_(\d+)_\w+\(", text, re.MULTILINE)}


def test_every_law_has_a_test_named_after_it() -> None:
    assert laws() == list(range(1, 9))
    assert set(laws()) - named_after_laws(ROOT / "tests") == set()


def test_a_law_without_test_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("class T:\n    def test_law_2_looking(self):\n", encoding="utf-8")
    assert named_after_laws(tmp_path) == {2}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_law_7_the_loop_has_no_time_or_randomness_of_its_own(path: Path) -> None:
    assert list(own_time_or_randomness(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_law_8_no_tensor_is_created_without_naming_its_device(path: Path) -> None:
    assert list(tensors_without_device(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from datetime import datetime",
        "def f():\n    import random",
        "ids = torch.randint(0, 9, (3,), device=device)",
        "rows.uniform_(-1, 1)",
        "table[rows].normal_()",
        "order = np.random.permutation(9)",
        "numpy.random.seed(1)",
    ],
)
def test_time_and_randomness_are_found(line: str) -> None:
    assert len(list(own_time_or_randomness(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import timeit_of_mine",
        "ids = torch.randint(0, 9, (3,), device=device, generator=generator)",
        "rows.uniform_(-1, 1, generator=generator)",
        "random = np.random.default_rng(seed)",
        "nn.init.normal_(weight, std=0.02)",
        "now_s = clock.monotonic_s()",
    ],
)
def test_what_is_injected_passes(line: str) -> None:
    assert list(own_time_or_randomness(line)) == []


@pytest.mark.parametrize(
    "line", ["x = torch.zeros(3)", "x = torch.tensor([1.0]).to(device)", "with open(p):\n    x = torch.arange(4)"]
)
def test_a_tensor_without_device_is_found(line: str) -> None:
    assert len(list(tensors_without_device(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "x = torch.zeros(3, device=device)",
        "x = torch.zeros(3, **options)",
        "with torch.device(device):\n    x = torch.arange(4)",
        "x = torch.zeros_like(y)",
        "x = y.new_zeros(3)",
    ],
)
def test_a_tensor_with_device_passes(line: str) -> None:
    assert list(tensors_without_device(line)) == []
