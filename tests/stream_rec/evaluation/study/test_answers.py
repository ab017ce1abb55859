"""A run's file: what was written is what is read, and only where it was made with the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_rec.errors import StreamRecError
from stream_rec.evaluation.study.answers import Answers, Question, RunFacts, RunResult, read_result, write_result

FACTS = RunFacts(num_events=9, num_burn_in=1, num_rejected=0, cpu_s=1.5, wall_s=2.5, spread={"coverage@10": 0.25})


def some_answers() -> Answers:
    answers = Answers()
    answers.append(Question(1_700_000_000_000, 3, 2, 1, 7), 5)
    answers.append(Question(1_700_000_000_001, 4, 0, 0, 0), 0)
    return answers


def test_what_is_written_is_read(tmp_path: Path):
    path, made_with = tmp_path / "deep" / "run.answers", {"seed": 1, "exam": {"list": [1, 2]}}
    write_result(path, RunResult(made_with, FACTS, some_answers().table()))
    result = read_result(path, made_with)
    assert result is not None
    assert (result.made_with, result.facts) == (made_with, FACTS)
    assert result.answers.rank_E.tolist() == [5, 0]
    assert result.answers.timestamp_ms.tolist() == [1_700_000_000_000, 1_700_000_000_001]
    assert result.answers.questions_digest() == some_answers().table().questions_digest()
    assert list(path.parent.iterdir()) == [path]


def test_what_was_made_with_something_else_is_not_there(tmp_path: Path):
    path = tmp_path / "run.answers"
    write_result(path, RunResult({"seed": 1}, FACTS, some_answers().table()))
    assert read_result(path, {"seed": 2}) is None
    assert read_result(tmp_path / "other.answers", {"seed": 1}) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_damaged_file_is_not_there(tmp_path: Path, share: float):
    path = tmp_path / "run.answers"
    write_result(path, RunResult({"seed": 1}, FACTS, some_answers().table()))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert read_result(path, {"seed": 1}) is None


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path):
    path = tmp_path / "run.answers"
    write_result(path, RunResult({"seed": 1}, FACTS, some_answers().table()))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        assert read_result(path, {"seed": 1}) is None


def test_other_questions_have_another_digest():
    one, other = some_answers(), some_answers()
    other.append(Question(1, 1, 1, 1, 1), 1)
    assert one.table().questions_digest() != other.table().questions_digest()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamRecError, match="cannot be written"):
        write_result(tmp_path / "file" / "run.answers", RunResult({}, FACTS, some_answers().table()))
