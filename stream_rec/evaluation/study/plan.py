"""What a study compares: streams, methods and seeds, as they are written on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from stream_rec.config import ModelSettings
from stream_rec.errors import SettingsError
from stream_rec.evaluation.baselines.registry import BASELINES, FAMILIES, NEURAL

MODEL = "model"
ENCODERS: tuple[str, ...] = get_args(ModelSettings.model_fields["encoder"].annotation)
ABLATIONS = (
    "model[model.encoder=none]",
    "model[ranking.history_attention=false]",
    "model[model.encoder=none,ranking.history_attention=false]",
    "model[ranking.second_stage=false]",
    "model[model.encoder=none,ranking.second_stage=false]",
    "model[learning.adapt=false]",
)
LIST, RERANK, OFF_POLICY = "list", "rerank", "off-policy"
ALL_ACTIONS = ""
# Baselines of one mode: they are no recommenders, but what a recommender is to beat there.
WITHOUT_LEARNING = {"position-only": RERANK, "price-only": RERANK, "uniform": OFF_POLICY}
BASELINE_NAMES = (*BASELINES, *WITHOUT_LEARNING)
STREAM_FORM = (
    "FILE[,items=FILE][,repeats][,rerank][,off-policy[,actions=FIELD]][,limit=N][,name=NAME][,FIELD=COLUMN…]"
    "[,items.FIELD=COLUMN…][,section.key=value…]"
)
METHOD_FORM = (
    f"model, model[section.key=value,…], {', '.join(BASELINE_NAMES)}, or a group: baselines, {', '.join(FAMILIES)}, "
    "encoders, ablations"
)
_NEXT_KEY = re.compile(r",(?=\s*[A-Za-z_][\w.]*\s*=)")  # values may hold commas, lists do


@dataclass(frozen=True)
class StreamSpec:
    """A recorded log and how it is read; ``columns`` are field → column of the log, ``item_columns`` of the items.

    ``mode`` says what is asked: ``LIST`` the best of all items; ``RERANK`` the order of the items shown with an event;
    ``OFF_POLICY`` what a policy that lists would have earned in a log of another policy's draws, of whose actions
    those are comparable whose events have the same value in the context's field ``actions``. ``overrides`` are settings
    that the stream alone wants: what its types of events weigh, say.
    """

    name: str
    log: Path
    items: Path | None = None
    allows_repeats: bool = False
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    item_columns: Mapping[str, str] = field(default_factory=dict)
    mode: str = LIST
    actions: str = ALL_ACTIONS
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_choice(self) -> bool:
        """Whether an event brings the items that can be listed."""
        return self.mode != LIST

    def text(self) -> str:
        """As written on the command line, files without their folders."""
        parts = [self.log.name]
        parts += [f"items={self.items.name}"] if self.items else []
        parts += [self.mode] if self.is_choice else ["repeats"] if self.allows_repeats else []
        parts += [f"actions={self.actions}"] if self.actions else []
        parts += [f"limit={self.limit}"] if self.limit else []
        parts += [f"name={self.name}"] if self.name != _name_of(self.log) else []
        parts += [f"{ours}={theirs}" for ours, theirs in self.columns.items()]
        parts += [f"items.{ours}={theirs}" for ours, theirs in self.item_columns.items()]
        parts += [f"{key}={value}" for key, value in self.overrides.items()]
        return ",".join(parts)


@dataclass(frozen=True)
class MethodSpec:
    """A baseline, by its name in the registry, or the model with settings laid over those of the study."""

    text: str
    baseline: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For tables."""
        kind = BASELINES.get(self.baseline or "")
        if self.baseline:
            return kind.title if kind else self.baseline
        # The last part of a key says enough, and tables are narrow.
        pairs = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in self.overrides.items())
        return f"{MODEL}[{pairs}]" if pairs else MODEL

    @property
    def family(self) -> str:
        """``model``, or the baseline's."""
        kind = BASELINES.get(self.baseline or "")
        return kind.family if kind else "none" if self.baseline else MODEL

    @property
    def is_seeded(self) -> bool:
        """Whether a seed makes a difference."""
        kind = BASELINES.get(self.baseline or "")
        return kind.is_seeded if kind else not self.baseline

    def suits(self, stream: StreamSpec) -> bool:
        """Whether there is anything for it to do on the stream."""
        if self.baseline is None:
            return True
        if self.baseline in WITHOUT_LEARNING:
            return stream.mode == WITHOUT_LEARNING[self.baseline]
        kind = BASELINES[self.baseline]
        # Networks score all items they know at once: they have no way to be asked about a few.
        return not (stream.is_choice and kind.family == NEURAL) and (
            stream.allows_repeats or not kind.only_with_repeats
        )


@dataclass(frozen=True)
class Run:
    """One method on one stream with one seed: one file of results."""

    stream: StreamSpec
    method: MethodSpec
    seed: int


@dataclass(frozen=True)
class Plan:
    """Every stream with every method and seed."""

    streams: Sequence[StreamSpec]
    methods: Sequence[MethodSpec]
    seeds: Sequence[int]

    def runs(self, stream: StreamSpec) -> list[Run]:
        """Those of one stream; what no seed changes is run with the first one only."""
        return [
            Run(stream, method, seed)
            for method in self.methods
            if method.suits(stream)
            for seed in (self.seeds if method.is_seeded else self.seeds[:1])
        ]

    def command(self, overrides: Mapping[str, Any], config: Path | None = None) -> str:
        """The command that makes the same study again, run where the files are."""
        parts = [f"--stream {_quoted(stream.text())}" for stream in self.streams]
        parts += [f"--method {_quoted(method)}" for method in _grouped([method.text for method in self.methods])]
        parts.append(f"--seeds {','.join(map(str, self.seeds))}")
        parts += [f"--config {_quoted(config.name)}"] if config else []
        parts += [f"--set {_quoted(f'{key}={value}')}" for key, value in overrides.items()]
        return " \\\n  ".join(["stream-rec evaluate", *parts])


def parse_plan(streams: Sequence[str], methods: Sequence[str], seeds: str) -> Plan:
    """Raises SettingsError for anything that is not of the forms above, and for names that are not distinct."""
    specs = [parse_stream(text) for text in streams]
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"--stream: two streams are called {name!r}; tell them apart by name=…")
    return Plan(specs, parse_methods(methods), _seeds(seeds))


def parse_stream(text: str) -> StreamSpec:
    """One ``--stream``. Raises SettingsError where it is not of ``STREAM_FORM``."""
    log, *parts = [part.strip() for part in text.split(",")]
    given: dict[str, str] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not value and not (key in ("repeats", RERANK, OFF_POLICY) and not equals):
            raise SettingsError(f"--stream {text!r}: {part!r} is none of {STREAM_FORM}")
        if key in given:
            raise SettingsError(f"--stream {text!r}: {key} is given twice")
        given[key] = value
    if not log:
        raise SettingsError(f"--stream {text!r}: no file is named; expected is {STREAM_FORM}")
    limit, actions = given.pop("limit", None), given.pop("actions", ALL_ACTIONS)
    flags = [key for key in ("repeats", RERANK, OFF_POLICY) if key in given]
    for key in flags:
        if given.pop(key):
            raise SettingsError(f"--stream {text!r}: {key} takes no value")
    mode = next((key for key in flags if key != "repeats"), LIST)
    if RERANK in flags and OFF_POLICY in flags:
        raise SettingsError(f"--stream {text!r}: {RERANK} and {OFF_POLICY} do not go together")
    if actions and mode != OFF_POLICY:
        raise SettingsError(f"--stream {text!r}: actions belong to {OFF_POLICY}")
    if limit is not None and not (limit.isdecimal() and int(limit) > 0):
        raise SettingsError(f"--stream {text!r}: limit is {limit}; allowed is a whole number from 1")
    name, items = given.pop("name", _name_of(Path(log))), given.pop("items", None)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise SettingsError(f"--stream {text!r}: name is {name!r}; allowed are letters, digits and . _ -")
    item_columns = {key.removeprefix("items."): given.pop(key) for key in list(given) if key.startswith("items.")}
    overrides = {key: given.pop(key) for key in list(given) if "." in key}
    if item_columns and not items:
        raise SettingsError(f"--stream {text!r}: names columns of items, but no items=FILE")
    return StreamSpec(
        name=name,
        log=Path(log),
        items=Path(items) if items else None,
        allows_repeats=bool(flags),  # what is shown may be what somebody has had
        limit=int(limit) if limit else None,
        columns=given,
        item_columns=item_columns,
        mode=mode,
        actions=actions,
        overrides=overrides,
    )


def parse_methods(texts: Sequence[str]) -> list[MethodSpec]:
    """Several ``--method``, groups taken apart, each once. Raises SettingsError where one is not known."""
    return list(
        {spec.text: spec for text in texts for one in _members(text.strip()) for spec in (_method(one),)}.values()
    )


def _groups() -> dict[str, tuple[str, ...]]:
    families = {family: tuple(name for name, kind in BASELINES.items() if kind.family == family) for family in FAMILIES}
    encoders = tuple(f"model[model.encoder={name}]" for name in ENCODERS)
    return {"baselines": BASELINE_NAMES, **families, "encoders": encoders, "ablations": ABLATIONS}


def _members(text: str) -> Sequence[str]:
    return _groups().get(text, (text,))


def _grouped(texts: Sequence[str]) -> list[str]:
    """The shortest way to write these methods: with ``baselines`` where all of them are there."""
    if set(BASELINE_NAMES) <= set(texts):
        return [*(text for text in texts if text not in BASELINE_NAMES), "baselines"]
    return list(texts)


def _method(text: str) -> MethodSpec:
    if text in BASELINE_NAMES:
        return MethodSpec(text, baseline=text)
    match = re.fullmatch(r"model(?:\[(.*)\])?", text)
    if match is None:
        raise SettingsError(f"--method {text!r} is not known; allowed: {METHOD_FORM}")
    overrides: dict[str, str] = {}
    for part in _NEXT_KEY.split(match[1] or ""):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if part.strip() and not (key and equals):
            raise SettingsError(f"--method {text!r}: {part!r} is not of the form section.key=value")
        if key in overrides:
            raise SettingsError(f"--method {text!r}: {key} is given twice")
        if key:
            overrides[key] = value
    # In one order, so that the same settings are the same method however they were written.
    pairs = ",".join(f"{key}={overrides[key]}" for key in sorted(overrides))
    return MethodSpec(f"{MODEL}[{pairs}]" if pairs else MODEL, overrides=dict(sorted(overrides.items())))


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise SettingsError(f"--seeds {text!r}: allowed are whole numbers from 0 with commas between, such as 1,2")
    return list(dict.fromkeys(int(part) for part in parts))


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0]).strip("-") or "stream"


def _quoted(text: str) -> str:
    return f"'{text}'" if re.search(r"[^\w.,=:/@%+-]", text) else text
