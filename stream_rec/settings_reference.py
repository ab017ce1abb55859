"""Every setting described, from the fields of ``config`` alone: for the reference, for errors, for ``config show``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from stream_rec.config import Section, Settings

REDACTED = "***"
_SECRET = re.compile(r"password|passphrase|secret|token|credential|private_?key|api_?key", re.IGNORECASE)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

# A unit is stated by the name, or by the description in brackets; nothing else is taken for one.
_UNIT_BY_SUFFIX = {"_ms": "ms", "_s": "s", "_bytes": "bytes", "_events": "events", "_steps": "steps"}
_UNIT_IN_TEXT = re.compile(r"\((ms|s|bytes|characters|events|steps)\b[^)]*\)")


class Setting(NamedTuple):
    """One leaf of the tree. ``path`` is (section, …, key); ``schema`` its JSON schema without references."""

    path: tuple[str, ...]
    default: Any
    description: str
    schema: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The dotted name."""
        return ".".join(self.path)

    @property
    def is_table(self) -> bool:
        """Whether the value is a free table, whose keys are the user's own."""
        return self.schema.get("type") == "object"

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.schema.get("type") == "array"

    @property
    def unit(self) -> str:
        """The unit of the value, empty where it has none."""
        for suffix, unit in _UNIT_BY_SUFFIX.items():
            if self.path[-1].endswith(suffix):
                return unit
        found = _UNIT_IN_TEXT.search(self.description)
        return found[1] if found else ""

    @property
    def allowed(self) -> str:
        """Type and bounds in words, e.g. ``integer > 0 and ≤ 8192``."""
        return _in_words(self.schema)


@cache
def all_settings() -> dict[tuple[str, ...], Setting]:
    """Every setting by its path, in the order of the definitions."""
    return {setting.path: setting for setting in _walk(Settings, (), Settings(), "")}


@cache
def all_sections() -> frozenset[tuple[str, ...]]:
    """Paths of the tables that hold settings, e.g. ``("topics", "events")``."""
    return frozenset(path[:length] for path in all_settings() for length in range(1, len(path)))


def is_secret(key: str) -> bool:
    """Whether a value of this key must never be shown."""
    return _SECRET.search(key) is not None


def redacted(key: str, value: Any) -> Any:
    """``value`` with everything secret in it replaced; ``key`` is the name that it goes by."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {name: redacted(name, inner) for name, inner in value.items()}
    return REDACTED if is_secret(key) else value


def value_at(settings: Settings, path: tuple[str, ...]) -> Any:
    """The value of one setting."""
    value: Any = settings
    for name in path:
        value = getattr(value, name)
    return value


def toml_value(value: Any) -> str:
    """A value as TOML 1.0 writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        # JSON's escapes are TOML's, but for DEL, which TOML alone forbids unescaped.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(inner) for inner in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(name)} = {toml_value(inner)}" for name, inner in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    return str(value)


def toml_key(name: str) -> str:
    """A key as TOML writes it: bare where that is allowed."""
    return name if _BARE_KEY.fullmatch(name) else toml_value(name)


def _walk(model: type[BaseModel], path: tuple[str, ...], default: BaseModel, inherited: str) -> Iterator[Setting]:
    schema = model.model_json_schema()
    properties = _without_references(schema["properties"], schema.get("$defs", {}))
    for name, field in model.model_fields.items():
        here = (*path, name)
        value = getattr(default, name)
        if isinstance(value, Section):
            yield from _walk(type(value), here, value, field.description or "")
            continue
        text = field.description or ""
        # A topic's settings are described once for all five; its name says in addition what flows there.
        if inherited and name == "name":
            text = f"{text} {inherited}"
        yield Setting(here, value, text, properties[name])


def _without_references(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema with what it refers to put in its place."""
    if isinstance(node, list):
        return [_without_references(inner, definitions) for inner in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        return _without_references(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    return {name: _without_references(inner, definitions) for name, inner in node.items()}


def _in_words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return " or ".join(toml_value(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        least = ", at least one" if schema.get("minItems") == 1 else ""
        return f"list of {_in_words(schema['items'])}{least}"
    if kind == "object" and "properties" in schema:
        keys = (f"{name} = {_in_words(inner)}" for name, inner in schema["properties"].items())
        return f"{{ {', '.join(keys)} }}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"table of {_in_words(inner)}" if isinstance(inner, Mapping) else "table"
    if kind in ("integer", "number"):
        return f"{kind}{_bounds(schema)}"
    return _text_in_words(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {
        "exclusiveMinimum": ">",
        "minimum": "≥",
        "exclusiveMaximum": "<",
        "maximum": "≤",
        "multipleOf": "multiple of",
    }
    bounds = [f"{sign} {schema[name]}" for name, sign in signs.items() if name in schema]
    return f" {' and '.join(bounds)}" if bounds else ""


def _text_in_words(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "path":
        return "path"
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    length = f" of {least} to {most} characters" if most else (" that is not empty" if least else "")
    pattern = f" matching {schema['pattern']}" if "pattern" in schema else ""
    return f"text{length}{pattern}"
