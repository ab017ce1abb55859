"""The answers of one run: a row for every scored event, kept in a file with what it was made with.

Shapes: E scored events, in the order of the log.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rec.errors import StreamRecError

FORMAT = 1  # of the file; goes up when what the rows mean changes
CHECKSUM_BYTES = 32  # SHA-256 of what follows it, which is an .npz


class Question(NamedTuple):
    """What is known of a scored event just before it, for splits. Counts are of events that count."""

    timestamp_ms: int
    item_number: int  # of the items, in the order in which the stream first shows them
    history_length: int  # events of its user so far
    times_seen: int  # of its item so far
    item_age_events: int  # since the stream first showed the item; 0 where it has not


class Stake(NamedTuple):
    """Where an event was logged by a policy: what it needs to judge another one by it."""

    share: float  # how likely the judged policy is to do what was done
    propensity: float  # how likely the logging policy was
    reward: float


class Answers:
    """Grows by one row a scored event."""

    def __init__(self) -> None:
        self._ranks = array("B")
        self._questions = {name: array("q") for name in Question._fields}
        self._stakes = {name: array("d") for name in Stake._fields}

    def append(self, question: Question, rank: int, stake: Stake | None = None) -> None:
        """``rank`` is that of the item in the list, from 1 to 255; 0 for a miss. All events have a stake, or none."""
        self._ranks.append(rank)
        for column, value in zip(self._questions.values(), question, strict=True):
            column.append(value)
        for place, number in zip(self._stakes.values(), stake or (), strict=False):
            place.append(number)

    def table(self) -> AnswerTable:
        """A copy as arrays."""
        times, *counts = self._questions.values()
        columns = [np.array(column, dtype=np.int32) for column in counts]
        stakes = [np.array(column, dtype=np.float64) for column in self._stakes.values()]
        ranks, moments = np.array(self._ranks, dtype=np.uint8), np.array(times, dtype=np.int64)
        return AnswerTable._make([ranks, moments, *columns, *stakes])


class AnswerTable(NamedTuple):
    """Ranks, questions and stakes as arrays (E,); those of stakes are empty where there are none."""

    rank_E: NDArray[np.uint8]
    timestamp_ms: NDArray[np.int64]
    item_number: NDArray[np.int32]
    history_length: NDArray[np.int32]
    times_seen: NDArray[np.int32]
    item_age_events: NDArray[np.int32]
    share_E: NDArray[np.float64]
    propensity_E: NDArray[np.float64]
    reward_E: NDArray[np.float64]

    def questions_digest(self) -> str:
        """The same for two runs that were asked the same: only those can be compared event by event."""
        digest = hashlib.sha256()
        for name in (*Question._fields, "propensity_E", "reward_E"):
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class RunFacts:
    """How a run went: sizes in events, times in seconds, coverage and personalisation of its lists."""

    num_events: int
    num_burn_in: int
    num_rejected: int
    cpu_s: float
    wall_s: float
    spread: Mapping[str, float]


@dataclass(frozen=True)
class RunResult:
    """One finished run. ``made_with`` is everything that its answers depend on, as JSON values."""

    made_with: Mapping[str, Any]
    facts: RunFacts
    answers: AnswerTable


def digest_of(made_with: Mapping[str, Any]) -> str:
    """Differs where anything differs that the answers depend on."""
    text = json.dumps(made_with, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def write_result(path: Path, result: RunResult) -> None:
    """Write it whole or not at all. Raises StreamRecError where the disk refuses."""
    header = {"digest": digest_of(result.made_with), "made_with": result.made_with, "facts": asdict(result.facts)}
    packed = np.frombuffer(json.dumps(header, ensure_ascii=False, default=dict).encode(), dtype=np.uint8)
    body = io.BytesIO()
    np.savez_compressed(body, header=packed, **result.answers._asdict())
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(hashlib.sha256(body.getbuffer()).digest() + body.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StreamRecError(f"{path}: cannot be written: {error.strerror}") from error


def read_result(path: Path, made_with: Mapping[str, Any]) -> RunResult | None:
    """The result that was made with exactly this; None where there is none, or it is damaged or of something else."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # Checked before anything is read from it: a damaged archive fails in more ways than can be named.
    if hashlib.sha256(content[CHECKSUM_BYTES:]).digest() != content[:CHECKSUM_BYTES]:
        return None
    with np.load(io.BytesIO(content[CHECKSUM_BYTES:]), allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        if header["digest"] != digest_of(made_with):
            return None
        answers = AnswerTable(**{name: file[name] for name in AnswerTable._fields})
    return RunResult(header["made_with"], RunFacts(**header["facts"]), answers)
