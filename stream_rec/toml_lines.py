"""On which line a TOML key stands: ``tomllib`` does not tell, and an error without a line is a search."""

from __future__ import annotations

import re

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"^\s*\[\[?\s*({_KEY})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"^\s*({_KEY})\s*=")
_PARTS = re.compile(_PART)


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Line (from 1) of every table header and every key at the start of a line.

    A key within an inline table has no entry of its own: look up a prefix of its path. A line within a
    multi-line string that looks like a key adds an entry that nobody asks for; the first occurrence holds.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _path(header[1])
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_path(assignment[1])), number)
    return lines


def _path(key: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PARTS.findall(key))
