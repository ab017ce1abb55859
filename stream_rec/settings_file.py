"""Fill the tree of settings: defaults < TOML file < environment < command line, with every problem told at once.

Environment: ``STREAM_REC_<SECTION>__<KEY>``, e.g. ``STREAM_REC_WORKER__MAX_BATCH=64`` or, into a table,
``STREAM_REC_KAFKA__CLIENT__SASL_PLAIN_PASSWORD=…``. Lists and tables are JSON, a list may be comma separated.
Tables are merged key by key, everything else replaces what a weaker source said.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from stream_rec.config import Settings
from stream_rec.errors import SettingsError
from stream_rec.settings_checks import CROSS_FIELD
from stream_rec.settings_reference import Setting, all_sections, all_settings, is_secret, redacted, toml_value
from stream_rec.toml_lines import key_lines

ENV_PREFIX = "STREAM_REC_"
DEFAULT = "default"

# Variables with our prefix that are no settings: the settings file of the command line, the logs of the tests.
OTHER_VARIABLES = frozenset({"STREAM_REC_CONFIG", "STREAM_REC_DATA"})

# Kubernetes puts these into every pod beside a Service called stream-rec…: somebody else's, never a typo of ours.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_SERVICE_URL = re.compile(r"^(tcp|udp|sctp)://")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Entry(NamedTuple):
    """One value from one source. ``origin`` says where it stands, in words."""

    path: tuple[str, ...]
    value: Any
    origin: str
    is_text: bool  # from the environment or the command line: still to be read as the setting's type


class Loaded(NamedTuple):
    """The effective settings, and for each dotted key where its value came from (absent: the default)."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    path: Path | None, overrides: Mapping[str, Any] = _NOTHING, environ: Mapping[str, str] | None = None
) -> Settings:
    """The effective settings; see ``load_with_origins``."""
    return load_with_origins(path, overrides, environ).settings


def load_with_origins(
    path: Path | None, overrides: Mapping[str, Any] = _NOTHING, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Load and check everything, and tell where each value came from.

    ``path`` None reads no file; ``overrides`` are dotted keys to values (text is read as the setting's type);
    ``environ`` None is the process's own. Raises SettingsError, which lists every problem with its key,
    origin, value and what is allowed; for an unknown key also the nearest right one.
    """
    entries = [*_from_file(path), *_from_environment(os.environ if environ is None else environ)]
    for key, value in overrides.items():
        entries += _flatten(Entry(tuple(key.split(".")), value, f"--set {key}", isinstance(value, str)))
    problems: list[str] = []
    origins: dict[tuple[str, ...], str] = {}
    tree = Settings().model_dump()
    for entry in entries:
        problem = _problem_of(entry)
        if problem is None:
            try:
                _put(tree, entry)
            except ValueError as error:
                problem = f"{_shown(entry)}: {error}"
            else:
                origins[entry.path] = entry.origin
        if problem is not None:
            problems.append(problem)
    settings = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += _explained(error, origins)
    if problems or settings is None:
        raise SettingsError(_listed(problems))
    return Loaded(settings, _by_setting(origins))


def _from_file(path: Path | None) -> Iterator[Entry]:
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; a TOML file is UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    lines = key_lines(text)
    for entry in _flatten(Entry((), document, str(path), is_text=False)):
        line = next((lines[entry.path[:n]] for n in range(len(entry.path), 0, -1) if entry.path[:n] in lines), None)
        yield entry._replace(origin=f"{path}, line {line}" if line else str(path))


def _from_environment(environ: Mapping[str, str]) -> Iterator[Entry]:
    for name in sorted(environ):
        value, upper = environ[name], name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in OTHER_VARIABLES or _is_service_link(upper, value):
            continue
        path = tuple(upper.removeprefix(ENV_PREFIX).lower().split("__"))
        yield from _flatten(Entry(path, value, f"environment {name}", is_text=True))


def _is_service_link(name: str, value: str) -> bool:
    return _SERVICE_LINK.search(name) is not None or (name.endswith("_PORT") and bool(_SERVICE_URL.match(value)))


def _flatten(entry: Entry) -> Iterator[Entry]:
    """Take tables apart, so that every entry is one value; text that is a JSON table counts as one."""
    value = entry.value
    setting = all_settings().get(entry.path)
    is_table = entry.path in all_sections() or (setting is not None and setting.is_table) or not entry.path
    if entry.is_text and is_table:
        try:
            value = json.loads(value)
        except ValueError:
            value = entry.value
    # An empty table that is none of ours must be seen too: it may be a misspelt header without keys.
    if not isinstance(value, Mapping) or not (value or is_table):
        yield entry
        return
    for name, inner in value.items():
        yield from _flatten(Entry((*entry.path, str(name)), inner, entry.origin, is_text=False))


def _setting_for(path: tuple[str, ...]) -> Setting | None:
    """The setting that a path names or, within a free table, belongs to."""
    settings = all_settings()
    for length in range(len(path), 0, -1):
        setting = settings.get(path[:length])
        if setting is not None and (length == len(path) or setting.is_table):
            return setting
    return None


def _problem_of(entry: Entry) -> str | None:
    """What is wrong with the place of an entry, before its value is looked at."""
    if entry.path in all_sections():
        return f"{_shown(entry)}: this is a table of settings; allowed in it: {_keys_in(entry.path)}"
    setting = _setting_for(entry.path)
    if setting is None:
        return f"{'.'.join(entry.path)} ({entry.origin}): no such setting{_nearest(entry)}"
    if entry.path == setting.path and setting.is_table:
        return f"{_shown(entry)}: allowed: {setting.allowed}"
    if entry.value is None:
        return f"{_shown(entry)}: null is no value; leave the key out to get the default"
    return None


def _put(tree: dict[str, Any], entry: Entry) -> None:
    setting = _setting_for(entry.path)
    assert setting is not None
    node = tree
    for name in entry.path[:-1]:
        # A table inside a free table may not be there yet, or be a plain value of a weaker source.
        inner = node.get(name)
        if not isinstance(inner, dict):
            inner = node[name] = {}
        node = inner
    node[entry.path[-1]] = _read_text(entry, setting) if entry.is_text else entry.value


def _read_text(entry: Entry, setting: Setting) -> Any:
    """Text as the setting's type; numbers and flags are left to the check, which reads them from text."""
    text: str = entry.value
    if setting.is_list:
        if not text.lstrip().startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(
                f"no JSON list ({error}); allowed: {setting.allowed}, as JSON or comma separated"
            ) from error
    # A password that looks like a number or like JSON is still a password.
    if not setting.is_table or is_secret(entry.path[-1]):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _explained(error: ValidationError, origins: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    for detail in error.errors():
        if detail["type"] == CROSS_FIELD:
            for key, problem in detail["ctx"]["problems"]:
                yield f"{key} ({_origin(tuple(key.split('.')), origins)}): {problem}"
            continue
        setting = _setting_for(tuple(part for part in detail["loc"] if isinstance(part, str)))
        assert setting is not None, detail
        within = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"][len(setting.path) :]
        )
        path = tuple(str(part) for part in detail["loc"])
        shown = toml_value(redacted(path[-1], detail["input"]))
        yield f"{setting.key}{within} = {shown} ({_origin(path, origins)}): allowed: {setting.allowed}"


def _origin(path: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> str:
    above = (origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins)
    within = (origin for key, origin in origins.items() if key[: len(path)] == path)
    return next(above, next(within, DEFAULT))


def _by_setting(origins: Mapping[tuple[str, ...], str]) -> dict[str, str]:
    """Origins of settings: those of a table's entries are joined, each once."""
    joined: dict[str, dict[str, None]] = {}
    for path, origin in origins.items():
        setting = _setting_for(path)
        assert setting is not None
        joined.setdefault(setting.key, {})[origin] = None
    return {key: "; ".join(parts) for key, parts in joined.items()}


def _shown(entry: Entry) -> str:
    return f"{'.'.join(entry.path)} = {toml_value(redacted(entry.path[-1], entry.value))} ({entry.origin})"


def _keys_in(section: tuple[str, ...]) -> str:
    depth = len(section)
    return ", ".join(dict.fromkeys(path[depth] for path in all_settings() if path[:depth] == section))


def _nearest(entry: Entry) -> str:
    """The right key that was probably meant, and what is allowed in the section that was named."""
    candidates = [*all_settings(), *(sorted(all_sections()) if isinstance(entry.value, Mapping) else ())]
    by_name = {"_".join(path): path for path in candidates}
    same_leaf = [path for path in all_settings() if path[-1] == entry.path[-1]]
    close = get_close_matches("_".join(entry.path), by_name, n=1, cutoff=0.7)
    likely = [by_name[close[0]]] if close else same_leaf[:3]
    if entry.origin.startswith("environment"):
        names = [ENV_PREFIX + "__".join(path).upper() for path in likely]
    else:
        names = [".".join(path) for path in likely]
    text = f"; did you mean {' or '.join(names)}?" if names else ""
    section = next((entry.path[:n] for n in range(len(entry.path), 0, -1) if entry.path[:n] in all_sections()), ())
    return (
        f"{text} (allowed in [{'.'.join(section)}]: {_keys_in(section)})"
        if section
        else f"{text} (sections: {_keys_in(())})"
    )


def _listed(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} settings cannot be used:\n" + "\n".join(f"  {problem}" for problem in problems)
