"""Recorded logs: every format gives the same events, in file order."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.file_formats import BATCH_ROWS
from consumers.files import open_log
from stream_rec.config import DecodeSettings
from stream_rec.errors import InputFileError, SettingsError
from stream_rec.records import Event, Rejected
from tests.consumers.written_files import (
    TIME_MS,
    TWO_EVENTS,
    events_of,
    json_lines,
    parquet_file,
    rows_of,
    text_file,
    write_two_events,
)


@pytest.mark.parametrize(
    "name",
    [
        "log.parquet",
        "log.csv",
        "log.csv.gz",
        "log.semicolon.csv",
        "log.windows.csv",
        "log.tsv",
        "log.tsv.gz",
        "log.jsonl",
        "log.ndjson.gz",
        "log.wire.jsonl",
        "log.wire.jsonl.gz",
    ],
)
def test_every_format_gives_the_same_events(tmp_path: Path, name: str) -> None:
    path = write_two_events(tmp_path, name)
    assert events_of(path) == TWO_EVENTS
    assert open_log(path).num_rows in (2, 3)  # the Windows file ends in a blank line, which counts as a line
    assert rows_of(open_log(path), first_row=1) == TWO_EVENTS[1:]


def test_file_order_is_kept_through_ties_and_going_back(tmp_path: Path) -> None:
    moments = [30, 10, 10, 20]
    lines = [f"u{index},i{index},{moment}" for index, moment in enumerate(moments)]
    events = events_of(text_file(tmp_path / "log.csv", "\n".join(["user_id,item_id,timestamp", *lines])))
    assert [(event.user_id, event.timestamp_ms) for event in events] == [
        ("u0", 30_000),
        ("u1", 10_000),
        ("u2", 10_000),
        ("u3", 20_000),
    ]


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("1506853787", 1_506_853_787_000),
        ("1506853787.69", TIME_MS),
        ("1.50685378769e9", TIME_MS),
        ("1506853787690", TIME_MS),
        ("1506853787690123", TIME_MS),
        ("1506853787690123456", TIME_MS),
        ("2017-10-01T10:29:47.690Z", TIME_MS),
        ("2017-10-01 10:29:47.690", TIME_MS),
        ("2017-10-01T12:29:47.690+02:00", TIME_MS),
        ("2017-10-01", 1_506_816_000_000),
    ],
)
def test_units_of_time_are_told_by_magnitude_and_iso_text_is_read(tmp_path: Path, value: str, expected_ms: int) -> None:
    path = text_file(tmp_path / "log.csv", f"user_id,item_id,timestamp\nu,i,{value}\n")
    assert [event.timestamp_ms for event in events_of(path)] == [expected_ms]
    if not value.startswith("2017"):
        typed = json_lines(tmp_path / "log.jsonl", [{"user_id": "u", "item_id": "i", "timestamp": json.loads(value)}])
        assert [event.timestamp_ms for event in events_of(typed)] == [expected_ms]


def test_the_unit_is_decided_once_and_a_small_time_in_it_stays_in_it(tmp_path: Path) -> None:
    path = text_file(tmp_path / "log.csv", f"user_id,item_id,timestamp\nu,i,5000\nu,i,{TIME_MS}\n")
    assert [event.timestamp_ms for event in events_of(path)] == [5_000, TIME_MS]


def test_a_column_that_ends_in_ms_is_ms_at_any_magnitude(tmp_path: Path) -> None:
    path = text_file(tmp_path / "log.csv", "user_id,item_id,ts,ts_ms\nu,i,9,1234\n")
    events = events_of(path)
    assert [(event.timestamp_ms, event.context) for event in events] == [(1_234, {})]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2017, 10, 1, 10, 29, 47, 690_000, tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin")),
        pa.array([datetime(2017, 10, 1, 10, 29, 47, 690_000)], pa.timestamp("ns")),
        pa.array([datetime(2017, 10, 1, 10, 29, 47, 690_000)], pa.timestamp("ms")),
    ],
)
def test_arrow_timestamps_are_read(tmp_path: Path, column: pa.Array) -> None:
    path = parquet_file(tmp_path / "log.parquet", {"user_id": ["u"], "item_id": ["i"], "timestamp": column})
    assert [event.timestamp_ms for event in events_of(path)] == [TIME_MS]


def test_parquet_types_become_text_and_floats(tmp_path: Path) -> None:
    columns = {
        "user_id": pa.array([b"u", b"u"]),
        "item_id": [7.0, 8.0],
        "timestamp": [1, 2],
        "flag": [True, None],
        "day": [date(1970, 1, 2), None],
        "price": [Decimal("9.50"), None],
        "nan": [float("nan"), float("inf")],
        "huge": [2**60, 1],
        "tags": [["a", "b"], []],
        "numbers": [[1, 2], None],
        "deep": [[[1]], None],
        "struct": [{"a": 1}, None],
        "context": [{"inner": 5, "flag": False}, {"inner": None, "flag": None}],
        "empty": ["", "x"],
    }
    first, second = events_of(parquet_file(tmp_path / "log.parquet", columns))
    assert (first.user_id, first.item_id, first.type) == ("u", "7", "view")
    assert first.context == {
        "inner": 5.0,
        "flag": 1.0,  # the column of that name goes before the map's
        "day": 86_400_000.0,
        "price": 9.5,
        "huge": str(2**60),
        "tags": "a|b",
        "numbers": "1|2",
        "empty": "",
    }
    assert second.context == {"huge": 1.0, "empty": "x"}


def test_context_is_bounded(tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(5)]
    path = text_file(tmp_path / "log.csv", f"user_id,item_id,ts,{','.join(names)}\nu,i,1,,1,2,3,4\n")
    (event,) = rows_of(open_log(path, settings=DecodeSettings(max_context_fields=2)))
    assert isinstance(event, Event)
    assert event.context == {"c1": 1.0, "c2": 2.0}


def test_what_was_shown_is_a_list_or_text_with_bars_between(tmp_path: Path) -> None:
    text = text_file(
        tmp_path / "log.csv",
        "user_id,item_id,ts,impressions,prices\nu,i,1,i|7|j,9.5||x\nu,i,2,7,3\nu,i,3,,\nu,i,4,i|j|,\nu,i,5,i|j,1\n",
    )
    first, one, nothing, empty_id, short = rows_of(open_log(text, settings=DecodeSettings(max_impressions=2)))
    assert isinstance(first, Event)
    assert isinstance(one, Event)
    assert isinstance(nothing, Event)
    assert (first.impressions, first.prices, first.context) == (["i", "7"], [9.5, None], {})
    assert (one.impressions, one.prices) == (["7"], [3.0])
    assert (nothing.impressions, nothing.prices) == ([], [])
    assert isinstance(empty_id, Rejected)
    assert empty_id.reason == "wrong_shape"
    assert isinstance(short, Rejected)
    assert "prices has 1 entries, impressions 2" in short.detail
    columns = {"user_id": ["u"], "item_id": ["i"], "ts": [1], "shown": [[7, 8]], "cost": [[1, None]]}
    mapped = rows_of(
        open_log(parquet_file(tmp_path / "log.parquet", columns), {"impressions": "shown", "prices": "cost"})
    )
    assert isinstance(mapped[0], Event)
    assert (mapped[0].impressions, mapped[0].prices) == (["7", "8"], [1.0, None])


def test_movielens_files_are_recognised(tmp_path: Path) -> None:
    expected = [Event("196", "242", "rating", 881_250_949_000, value=3.0)]
    ratings = text_file(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n196,242,3.0,881250949\n")
    data = text_file(tmp_path / "u.data", "196\t242\t3\t881250949\n")
    assert events_of(ratings) == expected
    assert events_of(data) == expected
    assert open_log(data).num_rows == 1


def test_a_mapping_goes_before_recognised_names(tmp_path: Path) -> None:
    path = text_file(tmp_path / "log.csv", "visitorid,itemid,user_id,timestamp,event\n1,2,other,3,view\n")
    (event,) = events_of(path, {"user_id": "visitorid", "item_id": "itemid"})
    assert (event.user_id, event.item_id, event.context) == ("1", "2", {"user_id": "other"})


def test_a_mapping_works_for_json_lines_too(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "log.jsonl", [{"who": 1, "user_id": 9, "item_id": "i", "type": "t", "timestamp": 5}])
    (event,) = events_of(path, {"user_id": "who"})
    assert (event.user_id, event.timestamp_ms) == ("1", 5_000)


def test_a_missing_column_is_named_with_the_nearest_and_a_hint(tmp_path: Path) -> None:
    path = text_file(tmp_path / "log.csv", "visitorid,item_id,timestamp\n1,2,3\n")
    with pytest.raises(InputFileError) as missing:
        open_log(path)
    assert all(part in str(missing.value) for part in ("log.csv", "user_id", "visitorid, item_id", "--map user_id="))
    with pytest.raises(InputFileError) as mistyped:
        open_log(path, {"user_id": "visitor_id"})
    assert all(part in str(mistyped.value) for part in ("'visitor_id'", "nearest: 'visitorid'", "timestamp"))
    with pytest.raises(SettingsError) as unknown:
        open_log(path, {"usr_id": "visitorid"})
    assert all(part in str(unknown.value) for part in ("usr_id", "nearest: 'user_id'", "session_id"))


def test_reading_goes_in_bounded_chunks_and_can_begin_anywhere(tmp_path: Path) -> None:
    num_rows = 20_000
    columns = {
        "user_id": [f"u{index}" for index in range(num_rows)],
        "item_id": ["i"] * num_rows,
        "timestamp": [1] * num_rows,
    }
    log = open_log(parquet_file(tmp_path / "log.parquet", columns, row_group_size=6_000))
    assert log.num_rows == num_rows
    for first_row in (0, 1, 5_999, 6_000, 13_579, num_rows - 1, num_rows):
        seen = first_row
        for first, rows in log.chunks(first_row):
            assert (first, len(rows) <= BATCH_ROWS) == (seen, True)
            assert isinstance(rows[0], Event)
            assert rows[0].user_id == f"u{seen}"
            seen += len(rows)
        assert seen == num_rows


def test_a_log_with_a_header_only_has_no_events(tmp_path: Path) -> None:
    log = open_log(text_file(tmp_path / "log.csv", "user_id,item_id,timestamp\n"))
    assert (log.num_rows, rows_of(log)) == (0, [])


@pytest.mark.logs
@pytest.mark.parametrize(
    ("name", "num_rows"),
    [
        ("globo_u10", 298_449),
        ("ml100k", 100_000),
        ("deskdrop", 70_028),
        ("foursquare_nyc", 110_942),
        ("taobao_slice", 110_300),
        ("trivago", 25_186),
        ("obd", 60_000),
    ],
)
def test_real_logs_are_read_whole(event_logs: Path, name: str, num_rows: int) -> None:
    path = event_logs / f"{name}.parquet"
    assert open_log(path).num_rows == num_rows
    events = events_of(path)
    table = pq.read_table(path)
    assert [event.user_id for event in events] == table["user_id"].to_pylist()
    assert [event.item_id for event in events] == table["item_id"].to_pylist()
    assert [event.type for event in events] == table["event"].to_pylist()
    in_ms = "ts_ms" in table.column_names
    moments = table["ts_ms" if in_ms else "ts"].to_pylist()
    assert [event.timestamp_ms for event in events] == [moment if in_ms else moment * 1_000 for moment in moments]
