"""``stream-rec version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from stream_rec import __version__

LIBRARIES = ("torch", "kafka-python", "river", "numpy", "msgspec", "pydantic", "prometheus-client", "pyarrow")


def main() -> int:
    """Print our version, then Python's and the libraries', from their metadata: none of them is imported."""
    typer.echo(f"stream-rec {__version__}")
    typer.echo(f"python {platform.python_version()} on {platform.platform()}")
    for name in LIBRARIES:
        try:
            typer.echo(f"{name} {installed(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} is not installed")
    return 0
