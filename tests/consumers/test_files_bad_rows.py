"""What cannot be read is named: a broken file by an error, a bad row by a rejection in its place."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers import file_columns
from consumers.files import open_log
from stream_rec.errors import InputFileError
from stream_rec.records import REASONS, Event, Origin, Rejected
from tests.consumers.written_files import (
    TWO_EVENTS,
    events_of,
    parquet_file,
    rows_of,
    text_file,
    write_two_events,
)


def corrupt_parquet(path: Path) -> Path:
    parquet_file(path, {"user_id": ["u"] * 50_000, "item_id": ["i"] * 50_000, "timestamp": list(range(50_000))})
    data = bytearray(path.read_bytes())
    data[100:5_000] = b"\xff" * 4_900
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("missing.csv", None, "no such file"),
        ("empty.csv", b"", "empty"),
        ("log.xlsx", b"x", ".parquet, .csv"),
        ("log", b"x", ".parquet, .csv"),
        ("log.gz", b"x", ".parquet, .csv"),
        ("text.parquet", b"user_id,item_id", "cannot be read"),
        ("text.csv.gz", b"user_id", "cannot be read"),
        ("twice.csv", b"user_id,user_id\n1,2\n", "'user_id'"),
        ("list.jsonl", b"[1]\n", "no JSON object"),
        ("notime.csv", b"user_id,item_id,timestamp\nu,i,yesterday\n", "yesterday"),
        ("endless.csv", b"x" * 1_100_000, "first line"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputFileError) as failed:
        rows_of(open_log(path))
    assert words in str(failed.value)
    assert str(path) in str(failed.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="folder"):
        open_log(tmp_path)


def test_a_file_that_breaks_off_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(("user_id,item_id,timestamp\n" + "u,i,1\n" * 100_000).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFileError, match=r"cut\.csv\.gz: cannot be read"):
        rows_of(open_log(tmp_path / "cut.csv.gz"))
    with pytest.raises(InputFileError, match=r"bad\.parquet: cannot be read"):
        rows_of(open_log(corrupt_parquet(tmp_path / "bad.parquet")))


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_two_events(tmp_path, "log.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputFileError, match=r"pip install 'stream-rec\[files\]'"):
        open_log(path)
    assert events_of(write_two_events(tmp_path, "log.csv")) == TWO_EVENTS


BAD_CSV_ROWS = [
    ("u,i,1", "wrong_shape", "3 fields, expected 4"),
    ("u,i,1,2,3", "wrong_shape", "5 fields, expected 4"),
    (",i,1,2", "wrong_shape", "user_id is null"),
    ("u,,1,2", "wrong_shape", "item_id is null"),
    ("u,i,,2", "wrong_shape", "timestamp is None"),
    ("u,i,soon,2", "wrong_shape", "'soon'"),
    ("u,i,-5,2", "bad_timestamp", "-5000"),
    ("u,i,999999999999999,2", "bad_timestamp", "September 2069"),
    ("u,i,1,lots", "wrong_shape", "'lots'"),
    ("u,i,1,inf", "wrong_shape", "'inf'"),
    ("u\x00,i,1,2", "bad_id", "U+0000"),
    ("u" * 300 + ",i,1,2", "bad_id", "300 characters"),
]


def test_bad_csv_rows_are_rejected_in_their_place_and_stop_nothing(tmp_path: Path) -> None:
    lines = ["user_id,item_id,timestamp,value", "u,i,1,2"]
    for bad, _, _ in BAD_CSV_ROWS:
        lines += [bad, "u,i,1,2"]
    path = text_file(tmp_path / "log.csv", "\n".join(lines).encode() + b"\nZo\xeb,i,1,2\nu,i,1,2\n")
    rows = rows_of(open_log(path, partition=3))
    assert len(rows) == 2 * len(BAD_CSV_ROWS) + 3
    assert all(isinstance(row, Event) for row in rows[::2])
    expected = [*BAD_CSV_ROWS, ("Zo\udceb,i,1,2", "not_utf8", "no UTF-8")]
    for offset, (text, reason, word) in zip(range(1, len(rows), 2), expected, strict=True):
        row = rows[offset]
        assert isinstance(row, Rejected)
        assert (row.reason, word in row.detail, row.origin) == (reason, True, Origin("log.csv", 3, offset)), row.detail
        assert row.value is not None
        fields = [field for field in text.split(",") if field]
        raw = row.value.decode(errors="surrogateescape")
        assert all(field in raw or json.dumps(field)[1:-1] in raw for field in fields)


def test_bad_json_lines_are_rejected_in_their_place(tmp_path: Path) -> None:
    good = b'{"user_id":1,"item_id":2,"ts":3}'
    bad = {
        b"{": "not_json",
        b"[1]": "wrong_shape",
        b'{"user_id":"\xff"}': "not_utf8",
        b"[" * 5_000: "wrong_shape",
        b'{"user_id":"' + b"x" * 1_500_000 + b'"}': "too_large",
        b'{"user_id":true,"item_id":2,"ts":3}': "wrong_shape",
        b'{"user_id":1,"item_id":[2],"ts":3}': "wrong_shape",
        b'{"user_id":1,"item_id":2,"ts":true}': "wrong_shape",
        b'{"user_id":1,"item_id":2,"ts":{}}': "wrong_shape",
        b'{"user_id":"","item_id":2,"ts":3}': "wrong_shape",
        b"{}": "wrong_shape",
    }
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n\n".join(line for pair in bad for line in (good, pair)) + b"\n" + good)
    rows = rows_of(open_log(path))
    assert [row.reason for row in rows if isinstance(row, Rejected)] == list(bad.values())
    assert all(isinstance(row, Event) for row in rows[::2])
    assert len(rows) == 2 * len(bad) + 1


def test_bad_wire_lines_are_rejected_as_from_kafka(tmp_path: Path) -> None:
    good = msgspec.json.encode(TWO_EVENTS[0])
    huge = good.replace(b'"tv"', b'"' + b"t" * 1_500_000 + b'"')
    path = text_file(tmp_path / "log.jsonl", b"\n".join([good, b"{", huge, good.replace(b'"7"', b"null"), good]))
    rows = rows_of(open_log(path))
    assert [row.reason if isinstance(row, Rejected) else row for row in rows] == [
        TWO_EVENTS[0],
        "not_json",
        "too_large",
        "wrong_shape",
        TWO_EVENTS[0],
    ]


def test_invalid_text_in_parquet_is_rejected_in_its_place(tmp_path: Path) -> None:
    users = pa.Array.from_buffers(pa.binary(), 2, pa.array([b"ok", b"\xff\xfe"]).buffers())
    path = parquet_file(tmp_path / "log.parquet", {"user_id": users, "item_id": ["i", "i"], "timestamp": [1, 2]})
    first, second = rows_of(open_log(path))
    assert isinstance(first, Event)
    assert isinstance(second, Rejected)
    assert second.reason == "not_utf8"


def test_an_unclosed_quote_costs_rows_but_does_not_end_the_file(tmp_path: Path) -> None:
    lines = ["user_id,item_id,timestamp", "u,i,1", 'u,"broken,2', *["u,i,3"] * 60_000]
    rows = rows_of(open_log(text_file(tmp_path / "log.csv", "\n".join(lines))))
    assert isinstance(rows[0], Event)
    assert isinstance(rows[1], Rejected)
    assert isinstance(rows[-1], Event)


def test_text_among_numbers_stays_text_and_never_becomes_nan() -> None:
    columns = {"n": ["1", "nan", "2", "x", None, "9007199254740993"], "m": ["1", "2", "inf", "4", "5", "6"]}
    rows = file_columns.fields(["n", "m"], columns, frozenset({"n", "m"}), 6)
    assert rows == [
        {"n": 1.0, "m": 1.0},
        {"n": "nan", "m": 2.0},
        {"n": 2.0, "m": "inf"},
        {"n": "x", "m": 4.0},
        {"m": 5.0},
        {"n": "9007199254740993", "m": 6.0},
    ]


def outcome(path: Path) -> tuple[list[Event | Rejected], str | None]:
    try:
        return rows_of(open_log(path)), None
    except InputFileError as error:
        return [], str(error)


@given(st.sampled_from(["log.csv", "log.tsv", "log.jsonl", "u.data", "log.csv.gz"]), st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_bytes_are_events_rejections_or_a_named_error(name: str, data: bytes) -> None:
    separator = b"\t" if name != "log.csv" else b","
    header = separator.join([b"user_id", b"item_id", b"timestamp"]) + b"\nu" + separator + b"i" + separator + b"1\n"
    with TemporaryDirectory() as folder:
        for content in (data, header + data, b'{"user_id":1,"item_id":2,"ts":3}\n' + data):
            path = text_file(Path(folder) / name, content)
            rows, error = outcome(path)
            assert error is None or str(path) in error
            for row in rows:
                assert isinstance(row, Event) or row.reason in REASONS
                if isinstance(row, Event):
                    msgspec.json.encode(row)  # no surrogate may be left in anything that is accepted
