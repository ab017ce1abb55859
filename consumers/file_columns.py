"""Columns of a recorded file to the fields of events and items: names, units of time, and types.

Whole columns are converted at once; the few values that cannot be are noted by row in ``faults`` and never raise.
"""

from __future__ import annotations

import difflib
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consumers.decode import Fault, flat_fields
from stream_rec.errors import InputFileError, SettingsError

# Field → names under which a column is recognised, best first. Everything else needs --map.
EVENT_COLUMNS: dict[str, tuple[str, ...]] = {
    "user_id": ("user_id", "userId"),
    "item_id": ("item_id", "movieId"),
    "type": ("type", "event", "event_type"),
    "timestamp": ("timestamp", "ts_ms", "ts"),
    "value": ("value", "rating"),
    "event_id": ("event_id",),
    "session_id": ("session_id",),
    "impressions": ("impressions",),
    "prices": ("prices",),
}
ITEM_COLUMNS: dict[str, tuple[str, ...]] = {
    "item_id": ("item_id", "movieId"),
    "title": ("title",),
    "categories": ("categories", "genres"),
    "price": ("price",),
    "tags": ("tags",),
    "available": ("available",),
}

_WORDS_OF_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NO_CATEGORY = "(no genres listed)"  # MovieLens
_PLAIN_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?")
_WORDS_FOR_NULL = frozenset({"", "nan", "na", "null", "none"})  # pandas, R, SQL, Python
_UNITS_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_LARGEST_EXACT = 2**53 - 1  # a float tells larger integers no longer apart

Times = Callable[[list[Any], dict[int, Fault]], list[int]]


def resolve_columns(
    path: Path,
    columns: Sequence[str],
    known: Mapping[str, tuple[str, ...]],
    required: Iterable[str],
    mapping: Mapping[str, str],
) -> dict[str, str]:
    """Field → column of the file. ``mapping`` (from ``--map field=column``) goes before recognised names.

    Raises SettingsError for a field that does not exist, InputFileError for a column that does not.
    """
    for field, column in mapping.items():
        if field not in known:
            raise SettingsError(
                f"--map {field}={column}: no such field{_nearest(field, known)}; allowed: {_list(known)}"
            )
        if column not in columns:
            raise InputFileError(
                f"{path}: no column {column!r} (--map {field}={column}){_nearest(column, columns)};"
                f" the file has: {_list(columns)}"
            )
    found = dict(mapping)
    taken = set(mapping.values())
    for field, names in known.items():
        name = next((name for name in names if name in columns and name not in taken), None)
        if field not in found and name is not None:
            found[field] = name
    for field in required:
        if field not in found:
            raise InputFileError(
                f"{path}: no column for {field} (looked for {_list(known[field])}); the file has: {_list(columns)};"
                f" name it with --map {field}=COLUMN{_nearest(field, columns)}"
            )
    return found


def ids(field: str, values: list[Any], faults: dict[int, Fault], *, required: bool) -> list[Any]:
    """Strings as they are, integers as decimals (also 42.0, as pandas writes integers beside nulls)."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if kinds == {int}:
        return list(map(str, values))
    converted: list[str | None] = []
    for index, value in enumerate(values):
        text: str | None = None
        if isinstance(value, str):
            text = value
        elif type(value) is int or (type(value) is float and value.is_integer()):
            text = str(int(value))
        elif _is_null(value):
            if required:
                faults.setdefault(index, ("wrong_shape", f"{field} is null"))
        else:
            faults.setdefault(index, ("wrong_shape", f"{field} is {_show(value)}, expected text or an integer"))
        converted.append(text)
    return converted


def numbers(field: str, values: list[Any], faults: dict[int, Fault]) -> list[float | None]:
    """Finite floats; null, NaN and empty text are None."""
    converted: list[float | None] = []
    for index, value in enumerate(values):
        if _is_null(value):
            converted.append(None)
            continue
        number = _number(value)
        if number is None:
            faults.setdefault(index, ("wrong_shape", f"{field} is {_show(value)}, expected a finite number"))
        converted.append(number)
    return converted


def times(path: Path, column: str, sample: list[Any], *, in_ms: bool) -> Times:
    """How the times of a column become ms since the epoch; decided once, from the file's first rows.

    What most of the sample is decides, so that a few absurd values cannot. Numbers: a column named ``…_ms``, or
    marked ``in_ms`` by its type, holds ms; of any other the median tells (below 1e11 s, below 1e14 ms, below 1e17 µs,
    else ns: each unit's range ends after the year 5000 and begins before 1974). Text: numbers likewise, else ISO
    8601, UTC where no offset is given. Raises InputFileError where no value of a sample that is not empty is a time.
    """
    present = [value for value in sample if not _is_null(value)]
    numeric = [number for value in present if (number := _time_number(value)) is not None]
    num_iso = 0 if len(numeric) == len(present) else sum(_iso_ms(value) is not None for value in present)
    if numeric and len(numeric) >= num_iso:
        typical = statistics.median_high(map(abs, numeric))
        if in_ms or column.endswith("_ms"):
            unit = "ms"
        else:
            unit = "s" if typical < 1e11 else "ms" if typical < 1e14 else "us" if typical < 1e17 else "ns"
        return lambda values, faults: _numeric_times(column, values, unit, faults)
    if sample and num_iso == 0:
        example = _show(present[0]) if present else "null"
        raise InputFileError(
            f"{path}: column {column!r} holds no time, e.g. {example}; expected numbers (s, ms, µs or ns since the"
            " epoch) or ISO 8601 text; another column is named with --map timestamp=COLUMN"
        )
    return lambda values, faults: [
        _noted(column, index, value, _iso_ms(value), faults) for index, value in enumerate(values)
    ]


def fields(
    names: Sequence[str], columns: dict[str, list[Any]], numeric_text: frozenset[str], num_rows: int
) -> list[dict[str, Any]]:
    """Per row the flat map of all these columns without nulls: context of an event, attributes of an item.

    Numbers and booleans become floats, integers that a float cannot hold text; lists of scalars are joined with
    ``|``; other nested values are dropped. ``numeric_text`` names the columns of text that stand for numbers.
    """
    if not names:
        return [{} for _ in range(num_rows)]
    flat = [_scalars(columns[name], name in numeric_text) for name in names]
    rows = zip(*flat, strict=True)
    if not any(None in values for values in flat):
        return [dict(zip(names, row, strict=True)) for row in rows]
    return [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows]


def nested(values: list[Any] | None) -> list[dict[str, Any]] | None:
    """The maps of a column of JSON objects or Parquet structs, flattened; None where it is no such column."""
    if values is None or not any(type(value) is dict for value in values):
        return None
    return [flat_fields(value) if type(value) is dict else {} for value in values]


def words(values: list[Any]) -> list[list[str]]:
    """Lists of strings, from lists or from text with ``|`` between."""
    converted = []
    for value in values:
        parts = value if isinstance(value, list) else value.split("|") if isinstance(value, str) else []
        converted.append([str(part) for part in parts if part not in (None, "", _NO_CATEGORY)])
    return converted


def id_lists(field: str, values: list[Any], faults: dict[int, Fault]) -> list[list[str]]:
    """Lists of ids, from lists or from text with ``|`` between; of null none. One id alone may have become a number."""
    converted: list[list[str]] = []
    for index, value in enumerate(values):
        parts = value if isinstance(value, list) else [] if _is_null(value) else str(_whole_id(value)).split("|")
        of_row: dict[int, Fault] = {}
        converted.append(ids(field, parts, of_row, required=True))
        for place, (reason, detail) in of_row.items():
            faults.setdefault(index, (reason, detail.replace(field, f"{field}[{place}]", 1)))
    return converted


def number_lists(values: list[Any]) -> list[list[float | None]]:
    """Lists of finite numbers, from lists or from text with ``|`` between; None for whatever is no number."""
    parts = [value if isinstance(value, list) else [] if _is_null(value) else str(value).split("|") for value in values]
    return [list(map(_number, row)) for row in parts]


def booleans(field: str, values: list[Any], faults: dict[int, Fault]) -> list[bool]:
    """Booleans, 0 and 1, or true, false, yes, no in any case; null is true."""
    converted = []
    for index, value in enumerate(values):
        known = True if value is None else _WORDS_OF_TRUTH.get(str(value).lower().removesuffix(".0"))
        if known is None:
            faults.setdefault(index, ("wrong_shape", f"{field} is {_show(value)}, expected true or false"))
        converted.append(known is not False)
    return converted


def numeric_text(columns: dict[str, list[Any]]) -> frozenset[str]:
    """The columns of text in which every value is a plain number; a leading zero (a postcode) makes it text."""
    return frozenset(
        name
        for name, values in columns.items()
        if any(values) and all(value is None or _PLAIN_NUMBER.fullmatch(str(value)) for value in values)
    )


def _scalars(values: list[Any], text_is_numeric: bool) -> list[Any]:
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {str} and not text_is_numeric:
        return values
    if None not in values and (kinds == {int} or kinds == {str}):
        # Whole columns of plain numbers, nearly all there are, are converted without a look at each value.
        with suppress(ValueError, OverflowError):
            converted = list(map(float, values))
            is_exact = min(converted) >= -_LARGEST_EXACT and max(converted) <= _LARGEST_EXACT
            if is_exact and math.isfinite(sum(converted)):  # comparisons do not see a NaN, a sum does
                return converted
    return [_scalar(value, text_is_numeric) for value in values]


def _scalar(value: Any, text_is_numeric: bool) -> str | float | None:
    if type(value) is str and not text_is_numeric:
        return value
    if isinstance(value, list):
        is_flat = value and all(isinstance(part, (str, int, float)) for part in value)
        return "|".join(map(str, value)) if is_flat else None
    if type(value) is int and abs(value) > _LARGEST_EXACT:
        return str(value)
    number = _number(value)
    if number is not None and abs(number) > _LARGEST_EXACT and isinstance(value, str):
        return value
    return value if number is None and type(value) is str else number


def _is_null(value: Any) -> bool:
    return value is None or value != value or (type(value) is str and value.lower() in _WORDS_FOR_NULL)


def _time_number(value: Any) -> float | None:
    return None if isinstance(value, bool) else _number(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numeric_times(column: str, values: list[Any], unit: str, faults: dict[int, Fault]) -> list[int]:
    kinds = set(map(type, values))
    if kinds in ({int}, {str}) and unit in ("s", "ms"):
        with suppress(ValueError):
            whole_values = values if kinds == {int} else list(map(int, values))
            return [value * 1000 for value in whole_values] if unit == "s" else whole_values
    converted = []
    for index, value in enumerate(values):
        whole, number = _whole(value), _time_number(value)
        if number is None:
            milliseconds = None
        elif whole is not None:  # integers stay integers: a float has no room for ns
            milliseconds = whole * 1000 if unit == "s" else whole // _UNITS_PER_MS[unit]
        else:
            milliseconds = round(number * 1000 if unit == "s" else number / _UNITS_PER_MS[unit])
        converted.append(_noted(column, index, value, milliseconds, faults))
    return converted


def _whole(value: Any) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) < 30:
        return int(value)
    return None


def _iso_ms(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _noted(column: str, index: int, value: Any, milliseconds: int | None, faults: dict[int, Fault]) -> int:
    if milliseconds is None:
        faults.setdefault(index, ("wrong_shape", f"{column} is {_show(value)}, expected a time"))
        return 0
    return milliseconds


def _whole_id(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _show(value: Any) -> str:
    return ascii(value)[:60]


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (nearest: {by_lower[close[0]]!r})" if close else ""
