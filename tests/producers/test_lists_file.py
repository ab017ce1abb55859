"""``--out``: one line an event in log order, and never a partial file in the place of a whole one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producers.lists_file import ListsFile
from stream_rec.errors import SettingsError, StreamRecError
from stream_rec.records import Event

EVENTS = [Event("ü", 'i"1', "view", 5, value=1.0, context={"a": "b"}), Event("v", "i2", "buy", 4)]


def test_one_json_line_an_event_in_order(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    with ListsFile(path) as out:
        out.write(EVENTS, [["x", "y"], []])
        out.write([], [])
        out.write(EVENTS[:1], [["ß"]])
        assert out.num_written == 3
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"user_id": "ü", "item_id": 'i"1', "type": "view", "timestamp": 5, "items": ["x", "y"]},
        {"user_id": "v", "item_id": "i2", "type": "buy", "timestamp": 4, "items": []},
        {"user_id": "ü", "item_id": 'i"1', "type": "view", "timestamp": 5, "items": ["ß"]},
    ]
    assert list(json.loads(lines[0])) == ["user_id", "item_id", "type", "timestamp", "items"]


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_text("of an earlier run")
    out = ListsFile(path)
    out.write(EVENTS, [[], []])
    assert path.read_text() == "of an earlier run"
    out.close()
    out.close()
    assert len(path.read_text().splitlines()) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["lists.jsonl"]


def test_an_exception_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"

    def interrupted() -> None:
        with ListsFile(path) as out:
            out.write(EVENTS, [[], []])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.name for file in tmp_path.iterdir()] == ["lists.jsonl.partial"]


def test_without_events_the_file_is_empty(tmp_path: Path) -> None:
    ListsFile(tmp_path / "lists.jsonl").close()
    assert (tmp_path / "lists.jsonl").read_bytes() == b""


def test_every_event_needs_its_list(tmp_path: Path) -> None:
    with ListsFile(tmp_path / "lists.jsonl") as out:
        with pytest.raises(ValueError, match="shorter"):
            out.write(EVENTS, [[]])
        assert out.num_written == 0


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing/lists\.jsonl: cannot be written: No such file"):
        ListsFile(tmp_path / "missing" / "lists.jsonl")
    with pytest.raises(SettingsError, match="is a folder"):
        ListsFile(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_an_error_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    (tmp_path / "lists.jsonl.partial").symlink_to("/dev/full")
    out = ListsFile(path)
    out.write(EVENTS, [[], []])
    with pytest.raises(StreamRecError, match=r"lists\.jsonl: cannot be completed: No space left"):
        out.close()
    assert not path.exists()
    out = ListsFile(path)
    with pytest.raises(StreamRecError, match="No space left"):
        out.write(EVENTS[:1], [["x" * 2_000_000]])
    out.close()
    assert not path.exists()
