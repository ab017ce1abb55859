"""Bytes to typed values: every record becomes an event, a change of the catalogue, or a reasoned rejection.

One strict msgspec call decodes the usual record. Only what that call refuses goes through a second, lenient one
that knows the harmless habits of real producers:

- ids (``user_id``, ``item_id``, ``event_id``, ``session_id``, those in ``impressions``) may be JSON integers and become
  their decimal string;
- ``timestamp`` may be a float with an integral value (JavaScript and Spark write 1.5068e12). A fraction is refused:
  it is the mark of seconds, which would put the event into January 1970;
- null in an optional field is the same as no field;
- in ``context`` and ``attributes`` booleans become 1.0 and 0.0, and null, nested and non-finite values are dropped;
- of ``impressions`` and ``prices`` what goes beyond ``decode.max_impressions`` is dropped, of the context's fields what
  goes beyond ``decode.max_context_fields``.

Everything else that is wrong with a known field is ``wrong_shape``; unknown fields are dropped. Of a duplicate key
the last one counts (RFC 8259 leaves that open). A lone surrogate, a byte order mark and NaN are no JSON.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from stream_rec.config import DecodeSettings
from stream_rec.records import Event, Item, ItemUpdate, Origin, Rejected

# The last second that a history can hold (32 bits from 2001 on): the bound for logs whose own time is missing. It does
# not depend on the day, so the same file gives the same events on any.
MAX_TIMESTAMP_MS = 3_147_483_647_999

_FORBIDDEN_IN_ID = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Fault = tuple[str, str]  # reason (one of REASONS), detail


class _LenientEvent(msgspec.Struct):
    user_id: str | int
    item_id: str | int
    type: str
    timestamp: int | float
    event_id: str | int | None = None
    session_id: str | int | None = None
    value: float | None = None
    context: dict[str, Any] | None = None
    impressions: list[str | int] | None = None
    prices: list[float | None] | None = None


class _LenientItem(msgspec.Struct):
    item_id: str | int
    title: str | None = None
    categories: list[str] | None = None
    price: float | None = None
    tags: list[str] | None = None
    available: bool | None = None
    attributes: dict[str, Any] | None = None


class Decoder:
    """Decodes the records of ``events`` and ``items``. Stateless between records, never raises for bad input."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._max_bytes = settings.max_bytes
        self._max_id_length = settings.max_id_length
        self._min_timestamp_ms = settings.min_timestamp_ms
        self._max_future_ms = settings.max_future_ms
        self._max_context_fields = settings.max_context_fields
        self._max_impressions = settings.max_impressions
        self._strict_event = msgspec.json.Decoder(Event).decode
        self._lenient_event = msgspec.json.Decoder(_LenientEvent).decode
        self._strict_item = msgspec.json.Decoder(Item).decode
        self._lenient_item = msgspec.json.Decoder(_LenientItem).decode

    def event(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        origin: Origin,
        log_timestamp_ms: int,
    ) -> Event | Rejected:
        """Decode one record of ``events``; the key is not read, ``user_id`` in the value counts.

        ``log_timestamp_ms`` is the record's own time in its log (ms since the epoch); negative means that it has
        none (Kafka's NO_TIMESTAMP), and then only September 2069 bounds the future.
        """
        if value is None:
            return Rejected("tombstone", "a null value on events means nothing", key, value, headers, origin)
        fault = self._bytes_fault(key, value)
        if fault is None:
            event = self._decode_event(value)
            if not isinstance(event, Event):
                fault = event
            else:
                fault = self.event_fault(event, log_timestamp_ms)
                if fault is None:
                    return self.bounded(event)
        return Rejected(*fault, key, value, headers, origin)

    def item(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        origin: Origin,
        log_timestamp_ms: int,
    ) -> ItemUpdate | Rejected:
        """Decode one record of ``items``: a null value says that the item named by the key is gone.

        A key, where there is one, must be the UTF-8 of ``item_id``: compaction goes by the key, so a record under
        another key would outlive its own tombstone.
        """
        fault = self._bytes_fault(key, value or b"")
        if fault is None:
            update = self._tombstone(key) if value is None else self._decode_item(key, value)
            if isinstance(update, ItemUpdate):
                return update
            fault = update
        return Rejected(*fault, key, value, headers, origin)

    def event_fault(self, event: Event, log_timestamp_ms: int) -> Fault | None:
        """What is wrong with an event of the right types, or None; all checks that look at values are here."""
        if not event.type:
            return "wrong_shape", "type is empty"
        timestamp_ms = event.timestamp_ms
        latest_ms = MAX_TIMESTAMP_MS
        if log_timestamp_ms >= 0:
            latest_ms = min(log_timestamp_ms + self._max_future_ms, MAX_TIMESTAMP_MS)
        if not self._min_timestamp_ms <= timestamp_ms <= latest_ms:
            upper = "September 2069, where histories end" if log_timestamp_ms < 0 else "log time + decode.max_future_ms"
            # A hostile integer can have thousands of digits; the detail travels in a header.
            return "bad_timestamp", (
                f"timestamp {str(timestamp_ms)[:24]} is not within {self._min_timestamp_ms} (decode.min_timestamp_ms)"
                f" and {latest_ms} ({upper})"
            )
        fault = self.id_fault("user_id", event.user_id) or self.id_fault("item_id", event.item_id)
        if fault is None:
            fault = self.id_fault("type", event.type)
        if fault is None and event.session_id:
            fault = self.id_fault("session_id", event.session_id)
        if fault is None and event.event_id:
            fault = self.id_fault("event_id", event.event_id)
        if fault is None and (event.impressions or event.prices):
            fault = self._shown_fault(event)
        return fault

    def bounded(self, event: Event) -> Event:
        """The event with no more context fields and impressions than are kept."""
        if len(event.context) > self._max_context_fields:
            event = msgspec.structs.replace(event, context=self._first_fields(event.context))
        if len(event.impressions) > self._max_impressions:
            first = slice(self._max_impressions)
            event = msgspec.structs.replace(event, impressions=event.impressions[first], prices=event.prices[first])
        return event

    def _shown_fault(self, event: Event) -> Fault | None:
        """Every id is looked at, those beyond the bound as well: half a list that is wrong is no list."""
        for place, item_id in enumerate(event.impressions):
            if fault := self.id_fault(f"impressions[{place}]", item_id):
                return fault
        num_shown, num_prices = len(event.impressions), len(event.prices)
        if num_prices not in (0, num_shown):
            return "wrong_shape", f"prices has {num_prices} entries, impressions {num_shown}"
        return None

    def id_fault(self, name: str, value: str) -> Fault | None:
        """What is wrong with an id, or None: empty or blank, too long, or with a control character or surrogate."""
        if not value or value.isspace():
            return "wrong_shape", f"{name} is empty"
        if len(value) > self._max_id_length:
            return "bad_id", (
                f"{name} has {len(value)} characters, allowed are {self._max_id_length} (decode.max_id_length)"
            )
        # isprintable is the quick answer for nearly every id; it also says no to emoji joiners and
        # private-use characters, which are allowed, so only the pattern decides.
        if not value.isprintable() and (found := _FORBIDDEN_IN_ID.search(value)):
            return "bad_id", f"{name} holds the control character U+{ord(found[0]):04X} at {found.start()}"
        return None

    def _bytes_fault(self, key: bytes | None, value: bytes) -> Fault | None:
        num_bytes = len(value) + (len(key) if key is not None else 0)
        if num_bytes > self._max_bytes:
            return "too_large", f"{num_bytes} bytes, allowed are {self._max_bytes} (decode.max_bytes)"
        # msgspec skips unknown fields without looking at their encoding: checked here so that the
        # answer does not depend on where in the record the bad byte lies.
        if not value.isascii():
            try:
                value.decode()
            except UnicodeDecodeError as error:
                return "not_utf8", f"byte 0x{value[error.start]:02x} at {error.start}: {error.reason}"
        return None

    def _decode_event(self, value: bytes) -> Event | Fault:
        try:
            return self._strict_event(value)
        except msgspec.ValidationError:
            pass
        except (msgspec.DecodeError, RecursionError) as error:
            return _json_fault(value, error)
        try:
            loose = self._lenient_event(value)
        except (msgspec.DecodeError, RecursionError) as error:
            return _json_fault(value, error)
        timestamp = loose.timestamp
        if isinstance(timestamp, float) and not timestamp.is_integer():
            return "wrong_shape", f"timestamp {timestamp!r} has a fraction, expected whole ms since the epoch"
        return Event(
            user_id=str(loose.user_id),
            item_id=str(loose.item_id),
            type=loose.type,
            timestamp_ms=int(timestamp),
            event_id=None if loose.event_id is None else str(loose.event_id),
            session_id=None if loose.session_id is None else str(loose.session_id),
            value=loose.value,
            context=flat_fields(loose.context or {}),
            impressions=list(map(str, loose.impressions or ())),
            prices=loose.prices or [],
        )

    def _decode_item(self, key: bytes | None, value: bytes) -> ItemUpdate | Fault:
        try:
            item = self._strict_item(value)
        except msgspec.ValidationError:
            try:
                item = _strict_from(self._lenient_item(value))
            except (msgspec.DecodeError, RecursionError) as error:
                return _json_fault(value, error)
        except (msgspec.DecodeError, RecursionError) as error:
            return _json_fault(value, error)
        fault = self.id_fault("item_id", item.item_id)
        if fault is not None:
            return fault
        if key is not None and key != item.item_id.encode():
            return "wrong_shape", f"the key {key[:64]!a} is not the item_id {item.item_id[:64]!a}"
        return ItemUpdate(item.item_id, item)

    def _tombstone(self, key: bytes | None) -> ItemUpdate | Fault:
        if key is None:
            return "wrong_shape", "a null value on items needs the item_id as its key"
        try:
            item_id = key.decode()
        except UnicodeDecodeError as error:
            return "not_utf8", f"key: byte 0x{key[error.start]:02x} at {error.start}: {error.reason}"
        return self.id_fault("item_id", item_id) or ItemUpdate(item_id, None)

    def _first_fields(self, context: dict[str, str | float]) -> dict[str, str | float]:
        return dict(islice(context.items(), self._max_context_fields))


def flat_fields(fields: Mapping[str, Any]) -> dict[str, str | float]:
    """The strings and finite numbers of a map, booleans as 1.0 and 0.0; all else is dropped."""
    flat: dict[str, str | float] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            flat[name] = value
        elif isinstance(value, (int, float)):
            try:
                number = float(value)
            except OverflowError:  # an integer beyond 1e308
                continue
            if math.isfinite(number):
                flat[name] = number
    return flat


def _strict_from(loose: _LenientItem) -> Item:
    return Item(
        item_id=str(loose.item_id),
        title=loose.title,
        categories=loose.categories or [],
        price=loose.price,
        tags=loose.tags or [],
        available=loose.available is not False,
        attributes=flat_fields(loose.attributes or {}),
    )


def _json_fault(value: bytes, error: Exception) -> Fault:
    if isinstance(error, RecursionError):
        return "wrong_shape", "nested deeper than any record of this schema"
    if isinstance(error, msgspec.ValidationError):
        return "wrong_shape", str(error)
    if value.startswith(b"\xef\xbb\xbf"):
        return "not_json", "starts with a byte order mark"
    return "not_json", str(error)
