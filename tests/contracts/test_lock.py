"""requirements.lock: one exact version of everything, for every system, and nothing that ties it to a place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")

# What the project says it runs on: (sys_platform, platform_machine) under each Python of the classifiers.
SYSTEMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))
HOST = re.compile(r"://|@\s*\S+/|\b[\w-]+\.(com|org|net|io|dev)\b|file:|^\s*/", re.MULTILINE)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirement_lines(lock: str) -> list[str]:
    lines = (line.split(" #")[0].strip() for line in lock.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def problems_of(lock: str) -> list[str]:
    """What is wrong with the form of a lock: one text for each offence, none for a sound lock."""
    problems = []
    if match := HOST.search(lock):
        problems.append(f"names a host or a path: {match.group()}")
    for line in requirement_lines(lock):
        if line.startswith("-"):
            problems.append(f"an option is no requirement (hashes and index addresses stay out): {line}")
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            problems.append(f"{line}: {error}")
            continue
        specifiers = list(requirement.specifier)
        exact = len(specifiers) == 1 and specifiers[0].operator == "==" and "*" not in specifiers[0].version
        if requirement.url or not exact:
            problems.append(f"not one exact version: {line}")
    return problems


def locked(lock: str) -> list[Requirement]:
    return [Requirement(line) for line in requirement_lines(lock)]


def environments() -> list[dict[str, str]]:
    versions = [
        version
        for classifier in pyproject()["project"]["classifiers"]
        if (version := classifier.rpartition(" :: ")[2]).startswith("3.")
    ]
    return [
        default_environment()
        | {"sys_platform": system, "platform_machine": machine}
        | {"python_version": version, "python_full_version": f"{version}.1"}
        for version in versions
        for system, machine in SYSTEMS
    ]


def unsatisfied(asked: Iterable[Requirement], lock: str) -> list[str]:
    """Which of ``asked`` the lock does not satisfy, somewhere: exactly one version must apply, and be in the range."""
    pins = locked(lock)
    found = []
    for environment in environments():
        where = "on {sys_platform} {platform_machine}, Python {python_version}".format_map(environment)
        for requirement in asked:
            versions = [
                next(iter(pin.specifier)).version
                for pin in pins
                if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
                and (pin.marker is None or pin.marker.evaluate(environment))
            ]
            if len(versions) != 1 or not requirement.specifier.contains(versions[0], prereleases=True):
                found.append(f"{requirement} {where}: locked is {versions or 'nothing'}")
    return found


def asked_for() -> list[Requirement]:
    project = pyproject()["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    return [Requirement(text) for text in (*project["dependencies"], *extras, *pyproject()["build-system"]["requires"])]


def test_every_line_is_one_exact_version_and_names_no_place() -> None:
    assert problems_of(LOCK) == []
    assert len(requirement_lines(LOCK)) > len(asked_for())


def test_every_range_of_the_project_is_satisfied_on_every_system() -> None:
    assert unsatisfied(asked_for(), LOCK) == []


def test_torch_is_the_release_that_figures_are_made_with() -> None:
    (torch,) = [pin for pin in locked(LOCK) if pin.name == "torch"]
    assert str(torch.specifier) == "==2.13.0"
    # `make lock` would otherwise move it on.
    assert pyproject()["tool"]["uv"]["constraint-dependencies"] == ["torch==2.13.0"]


def test_cuda_is_asked_for_on_linux_alone() -> None:
    cuda = [pin for pin in locked(LOCK) if re.match(r"nvidia-|cuda-|triton", pin.name)]
    assert cuda
    assert not [pin for pin in cuda if pin.marker is None or pin.marker.evaluate({"sys_platform": "darwin"})]


@pytest.mark.parametrize(
    "line",
    [
        "numpy>=2.0",
        "numpy",
        "numpy==2.*",
        "numpy==2.0,!=2.1",
        "numpy @ file:///wheels/numpy.whl",
        "numpy==2.0 --hash=sha256:0123",
        "--index-url https://index.example.org/simple",
        "--find-links /opt/wheels",
        "numpy==2.0  # from index.example.org",
        "-e .",
        "numpy==",
    ],
)
def test_an_unsound_line_is_found(line: str) -> None:
    assert problems_of(f"{LOCK}{line}\n")


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("numpy==1.26.4\n", "numpy>=2.0"),
        ("scipy==1.17.1\n", "numpy>=2.0"),
        ("numpy==2.4.6 ; python_full_version < '3.12'\n", "numpy>=2.0"),
        ("numpy==2.4.6 ; sys_platform == 'linux'\n", "numpy>=2.0"),
        ("numpy==2.4.6\nnumpy==2.5.5 ; python_full_version >= '3.12'\n", "numpy>=2.0"),
    ],
)
def test_an_unsatisfied_range_is_found(lock: str, asked: str) -> None:
    assert unsatisfied([Requirement(asked)], lock)
