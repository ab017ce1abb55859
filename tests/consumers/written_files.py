"""Small files of every format, written by the tests that read them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.files import FileLog, open_log
from stream_rec.records import Event, Rejected

TIME_MS = 1_506_853_787_690


def rows_of(log: FileLog, first_row: int = 0) -> list[Event | Rejected]:
    return [row for _, rows in log.chunks(first_row) for row in rows]


def events_of(path: Path, mapping: dict[str, str] | None = None) -> list[Event]:
    rows = rows_of(open_log(path, mapping))
    assert all(isinstance(row, Event) for row in rows), [row for row in rows if isinstance(row, Rejected)][:3]
    return [row for row in rows if isinstance(row, Event)]


def text_file(path: Path, text: str | bytes) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def parquet_file(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def json_lines(path: Path, objects: Iterable[dict[str, Any]]) -> Path:
    return text_file(path, "".join(json.dumps(row) + "\n" for row in objects))


# The same two rows in every format: context of each kind, a null value, a null session.
TWO_EVENTS = [
    Event("7", "a|1", "view", TIME_MS, None, "s", None, {"device": "tv", "lat": 1.5, "n": 3.0, "zip": "00501"}),
    Event("8", "ß", "buy", TIME_MS, None, None, 2.5, {"lat": -2.0, "n": 4.0, "zip": "10115"}),
]
CSV = (
    "user_id,item_id,event,ts_ms,ts,value,session_id,device,lat,n,zip\n"
    f'7,"a|1",view,{TIME_MS},1506853787,,s,tv,1.5,3,00501\n'
    f"8,ß,buy,{TIME_MS},1506853787,2.5,,,-2.0,4,10115\n"
)


def write_two_events(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        columns = {
            "user_id": [7, 8],
            "item_id": ["a|1", "ß"],
            "event": ["view", "buy"],
            "ts_ms": [TIME_MS] * 2,
            "ts": [TIME_MS // 1000] * 2,
            "value": [None, 2.5],
            "session_id": ["s", None],
            "device": pa.array(["tv", None]).dictionary_encode(),
            "lat": [1.5, -2.0],
            "n": pa.array([3, 4], pa.int8()),
            "zip": ["00501", "10115"],
        }
        return parquet_file(path, columns)
    if ".wire." in name:
        return text_file(path, b"\n".join(map(msgspec.json.encode, TWO_EVENTS)))
    if "json" in name:
        flat = [
            {
                "user_id": int(event.user_id),
                "item_id": event.item_id,
                "event": event.type,
                "ts_ms": event.timestamp_ms,
                "ts": event.timestamp_ms // 1000,
                "value": event.value,
                "session_id": event.session_id,
                **event.context,
            }
            for event in TWO_EVENTS
        ]
        return json_lines(path, flat)
    text = CSV
    if ".semicolon." in name:
        text = text.replace(",", ";")
    if ".tsv" in name:
        text = text.replace(",", "\t")
    if ".windows." in name:
        text = "\ufeff" + text.replace("\n", "\r\n") + "\r\n"
    return text_file(path, text)
