"""The wheel, installed into an environment of its own and run outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from stream_rec import __version__

ROOT = Path(__file__).parents[2]
WAIT_S = 240


def environment() -> dict[str, str]:
    """Nothing of the checkout: neither a path to it nor a setting."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("STREAM_REC_", "PYTHON"))}
    return outside | {"PYTHONIOENCODING": "utf-8"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``make wheel`` builds it, from what is locked: nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    scripts = Path(sysconfig.get_path("scripts"))
    subprocess.run(
        [
            *(scripts / "uv", "build", "--wheel", "--no-build-isolation", "--offline", "--quiet"),
            *("--python", sys.executable, "--out-dir", str(folder), str(ROOT)),
        ],
        env=environment(),
        check=True,
        timeout=WAIT_S,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def stream_rec(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of an environment that holds the wheel, and borrows the dependencies of this one.

    Only they are borrowed: three gigabytes need not be installed again. The path file comes after the environment's
    own packages, and the editable install of the checkout is kept out, so that what runs is what the wheel holds.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    # A path file adds the folder and does not read the path files in it, one of which is that of the checkout.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    scripts = Path(sysconfig.get_path("scripts"))
    subprocess.run(
        [scripts / "uv", "pip", "install", "--offline", "--no-deps", "--quiet", "--python", str(python), str(wheel)],
        env=environment(),
        check=True,
        timeout=WAIT_S,
    )
    return folder / "bin" / "stream-rec"


def run(script: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "stream_rec",
        "consumers",
        "producers",
        f"stream_rec-{__version__}.dist-info",
    }
    assert "stream_rec/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    packaged = {name for name in names if name.endswith(".py")}
    written = {
        str(path.relative_to(ROOT))
        for package in ("stream_rec", "consumers", "producers")
        for path in (ROOT / package).rglob("*.py")
    }
    assert packaged == written


def test_outside_the_checkout_the_wheel_is_what_runs(stream_rec: Path, tmp_path: Path) -> None:
    where = "import stream_rec, consumers, producers; print(*(m.__file__ for m in (stream_rec, consumers, producers)))"
    done = subprocess.run(
        [stream_rec.parent / "python", "-c", where],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(Path(file).is_relative_to(stream_rec.parents[1]) for file in done.stdout.split()), done.stdout


def test_help_and_version_answer_without_torch(stream_rec: Path, tmp_path: Path) -> None:
    shown = run(stream_rec, "--help", folder=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    for command in ("run", "demo", "replay", "topics", "config", "version"):
        assert command in shown.stdout
    told = run(stream_rec, "version", folder=tmp_path)
    assert told.returncode == 0
    assert told.stdout.startswith(f"stream-rec {__version__}\n")
    assert "\ntorch 2." in told.stdout

    code = "import sys; from stream_rec.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    alone = subprocess.run(
        [stream_rec.parent / "python", "-c", code], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert alone.returncode == 0, alone.stderr


def test_the_demo_runs(stream_rec: Path, tmp_path: Path) -> None:
    done = run(stream_rec, "demo", "--seconds", "3", folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "events learnt in" in done.stdout
    assert "HR@10" in done.stdout
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


def test_what_only_a_checkout_can_do_says_so(stream_rec: Path, tmp_path: Path) -> None:
    done = run(stream_rec, "demo", "--kafka", "--seconds", "3", folder=tmp_path)

    assert done.returncode == 2
    assert "run it in a checkout" in done.stderr
