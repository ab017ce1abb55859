"""Batches of a table to events and items: a row becomes a record of the wire's types or a reasoned rejection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from consumers import file_columns
from consumers.decode import Decoder, Fault
from consumers.file_columns import EVENT_COLUMNS, ITEM_COLUMNS, Times, resolve_columns
from consumers.file_formats import BATCH_ROWS, Batch, JsonLinesTable, Table
from stream_rec.config import DecodeSettings
from stream_rec.records import Event, Item, Origin, Rejected

# A recorded log has no log time of its own; with "none" the same file gives the same events on any day.
_NO_LOG_TIME_MS = -1
_WIRE_FIELDS = ("user_id", "item_id", "type", "timestamp")


class WireReader:
    """JSON lines in the format of the wire."""

    def __init__(self, name: str, partition: int, table: JsonLinesTable, decoder: Decoder) -> None:
        self._name = name
        self._partition = partition
        self._table = table
        self._decoder = decoder

    def read(self, first_row: int) -> Iterator[list[Event | Rejected]]:
        lines = self._table.lines(first_row)
        decode, name, partition = self._decoder.event, self._name, self._partition
        while chunk := list(islice(lines, BATCH_ROWS)):
            yield [
                decode(None, line, [], Origin(name, partition, row), _NO_LOG_TIME_MS)
                for row, line in enumerate(chunk, first_row)
            ]
            first_row += len(chunk)


class EventReader:
    """A table whose columns are fields of an event."""

    def __init__(
        self, path: Path, partition: int, table: Table, mapping: Mapping[str, str], settings: DecodeSettings
    ) -> None:
        self._name = path.name
        self._partition = partition
        self._table = table
        self._decoder = Decoder(settings)
        self._num_context_fields = settings.max_context_fields
        found = resolve_columns(path, table.columns, EVENT_COLUMNS, ("user_id", "item_id", "timestamp"), mapping)
        self._found = found
        self._default_type = "rating" if found.get("value") == "rating" else "view"
        # `ts` beside `ts_ms` is the same moment again, not context.
        left_out = {*found.values(), *(EVENT_COLUMNS["timestamp"] if "timestamp" not in mapping else ())}
        self._context_names = [name for name in table.columns if name not in left_out]
        # Units and types are decided once, from the first rows, so that they cannot change within a file.
        sample = next(table.batches(), Batch(0, {name: [] for name in table.columns}, {}))
        time_column = found["timestamp"]
        self._times: Times = file_columns.times(
            path, time_column, sample.columns[time_column], in_ms=time_column in table.time_columns
        )
        self._numeric_text: frozenset[str] = frozenset()
        if not table.typed:
            self._numeric_text = file_columns.numeric_text({name: sample.columns[name] for name in self._context_names})

    def read(self, first_row: int) -> Iterator[list[Event | Rejected]]:
        for batch in self._table.batches(first_row):
            yield self._events(batch, first_row)
            first_row += batch.num_rows

    def _events(self, batch: Batch, first_row: int) -> list[Event | Rejected]:
        columns, found = batch.columns, self._found
        faults: dict[int, Fault] = {index: (row.reason, row.detail) for index, row in batch.broken.items()}
        nulls: list[Any] = [None] * batch.num_rows
        users = file_columns.ids("user_id", columns[found["user_id"]], faults, required=True)
        items = file_columns.ids("item_id", columns[found["item_id"]], faults, required=True)
        types: list[Any] = [self._default_type] * batch.num_rows
        if "type" in found:
            types = file_columns.ids("type", columns[found["type"]], faults, required=True)
        moments_ms = self._times(columns[found["timestamp"]], faults)
        values = file_columns.numbers("value", columns[found["value"]], faults) if "value" in found else nulls
        event_ids, session_ids = (
            file_columns.ids(field, columns[found[field]], faults, required=False) if field in found else nulls
            for field in ("event_id", "session_id")
        )
        events: list[Event | Rejected] = list(
            map(Event, users, items, types, moments_ms, event_ids, session_ids, values, self._contexts(batch))
        )
        if "impressions" in found:
            shown = file_columns.id_lists("impressions", columns[found["impressions"]], faults)
            prices = file_columns.number_lists(columns[found["prices"]] if "prices" in found else nulls)
            events = list(map(_with_shown, events, shown, prices))
        check = self._decoder.event_fault
        for index, event in enumerate(events):
            assert isinstance(event, Event)
            fault = faults.get(index) or check(event, _NO_LOG_TIME_MS)
            if fault is not None:
                origin = Origin(self._name, self._partition, first_row + index)
                events[index] = rejected_row(batch, index, fault, origin)
            elif event.impressions:
                events[index] = self._decoder.bounded(event)
        return events

    def _contexts(self, batch: Batch) -> list[dict[str, Any]]:
        contexts = file_columns.fields(self._context_names, batch.columns, self._numeric_text, batch.num_rows)
        inner = file_columns.nested(batch.columns.get("context"))
        if inner is not None:
            contexts = [{**of_row, **context} for of_row, context in zip(inner, contexts, strict=True)]
        limit = self._num_context_fields
        if inner is not None or len(self._context_names) > limit:
            contexts = [dict(islice(context.items(), limit)) for context in contexts]
        return contexts


def _with_shown(event: Event | Rejected, impressions: list[str], prices: list[float | None]) -> Event:
    assert isinstance(event, Event)
    return msgspec.structs.replace(event, impressions=impressions, prices=prices) if impressions else event


def items_of(
    batch: Batch, found: dict[str, str], names: list[str], numeric: frozenset[str], faults: dict[int, Fault]
) -> Iterator[Item]:
    """The items of a batch, in order; ``names`` are the columns that become attributes.

    Rows that cannot be used are in ``faults`` when this returns, their items are not to be taken.
    """
    nulls: list[Any] = [None] * batch.num_rows
    by_field = {field: batch.columns[found[field]] if field in found else nulls for field in ITEM_COLUMNS}
    attributes = file_columns.fields(names, batch.columns, numeric, batch.num_rows)
    inner = file_columns.nested(batch.columns.get("attributes"))
    if inner is not None:
        attributes = [{**of_row, **more} for of_row, more in zip(inner, attributes, strict=True)]
    return map(
        Item,
        file_columns.ids("item_id", by_field["item_id"], faults, required=True),
        file_columns.ids("title", by_field["title"], faults, required=False),
        file_columns.words(by_field["categories"]),
        file_columns.numbers("price", by_field["price"], faults),
        file_columns.words(by_field["tags"]),
        file_columns.booleans("available", by_field["available"], faults),
        attributes,
    )


def rejected_row(batch: Batch, index: int, fault: Fault, origin: Origin) -> Rejected:
    """A dead letter holds what stood in the file: the raw text where the format gave it, else the row as JSON."""
    broken = batch.broken.get(index)
    raw = None if broken is None else broken.raw
    if raw is None:
        row = {name: values[index] for name, values in batch.columns.items()}
        raw = json.dumps({name: value for name, value in row.items() if value is not None}, default=str).encode()
    return Rejected(*fault, None, raw, [], origin)


def is_wire_format(table: JsonLinesTable) -> bool:
    """All four wire fields there, and times that can only be whole milliseconds (after 1973, not seconds)."""
    if not all(name in table.columns for name in _WIRE_FIELDS):
        return False
    sample = next(table.batches(), None)
    moments = [moment for moment in sample.columns["timestamp"] if type(moment) is int] if sample is not None else []
    return bool(moments) and 1e11 <= max(map(abs, moments)) < 1e14
