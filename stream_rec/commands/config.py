"""``stream-rec config check | show | reference | metrics``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from stream_rec.settings_file import DEFAULT, Loaded, load_with_origins
from stream_rec.settings_reference import all_settings, redacted, toml_value, value_at
from stream_rec.telemetry.metrics import catalogue

SETTING_COLUMNS = ("Setting", "Type", "Unit", "Default", "Meaning")
METRIC_COLUMNS = ("Metric", "Type", "Unit", "Labels", "Meaning")

# A terminal folds a table to its own width; a file or a pipe has none.
PIPE_WIDTH = 200


def check(path: Path | None, overrides: Mapping[str, str]) -> int:
    """Say that the settings can be used. Raises SettingsError with every problem where they cannot."""
    loaded = load_with_origins(path, overrides)
    given = len(loaded.origins)
    typer.echo(f"{path or 'no file'}: the settings can be used; {given} of {len(all_settings())} given, others default")
    return 0


def show(path: Path | None, overrides: Mapping[str, str], as_json: bool) -> int:
    """Print the settings in effect and the origin of each; secrets are left out."""
    loaded = load_with_origins(path, overrides)
    typer.echo(shown_as_json(loaded) if as_json else shown_as_toml(loaded))
    return 0


def shown_as_toml(loaded: Loaded) -> str:
    """A settings file of all settings, with the origin of each in a comment; it loads as it stands."""
    lines: list[str] = []
    section: tuple[str, ...] = ()
    for path in all_settings():
        if path[:-1] != section:
            section = path[:-1]
            lines += ["", f"[{'.'.join(section)}]"]
        value = toml_value(redacted(path[-1], value_at(loaded.settings, path)))
        lines.append(f"{path[-1]} = {value}  # {loaded.origins.get('.'.join(path), DEFAULT)}")
    return "\n".join(lines[1:])


def shown_as_json(loaded: Loaded) -> str:
    """One object by dotted key: value and origin."""
    rows = {
        setting.key: {
            "value": redacted(path[-1], value_at(loaded.settings, path)),
            "origin": loaded.origins.get(setting.key, DEFAULT),
        }
        for path, setting in all_settings().items()
    }
    return json.dumps(rows, indent=2, ensure_ascii=False, default=str)


def reference(as_markdown: bool) -> int:
    """Print every setting."""
    _print_table(SETTING_COLUMNS, setting_rows(), as_markdown)
    return 0


def metrics(as_markdown: bool) -> int:
    """Print every metric."""
    _print_table(METRIC_COLUMNS, metric_rows(), as_markdown)
    return 0


def setting_rows() -> list[tuple[str, ...]]:
    """Name, type with bounds, unit, default, meaning."""
    return [
        (setting.key, setting.allowed, setting.unit, toml_value(setting.default), setting.description)
        for setting in all_settings().values()
    ]


def metric_rows() -> list[tuple[str, ...]]:
    """Name, type, unit, labels, meaning."""
    return [(info.name, info.type, info.unit, ", ".join(info.labels), info.help) for info in catalogue()]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column and technical columns are code; this is what the README holds."""
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(' --- ' for _ in columns)}|"]
    code = {index for index, column in enumerate(columns) if column in ("Setting", "Metric", "Type", "Default")}
    for row in rows:
        cells = (f"`{cell}`" if index in code and cell else cell for index, cell in enumerate(row))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], as_markdown: bool) -> None:
    if as_markdown:
        typer.echo(markdown(columns, rows))
        return
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("Setting", "Metric"))
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
