"""Bytes to typed values: every reason reachable, nothing raises, a sound record passes unchanged."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.decode import MAX_TIMESTAMP_MS, Decoder
from stream_rec.config import DecodeSettings
from stream_rec.records import REASONS, Event, Item, ItemUpdate, Origin, Rejected

LOG_TIME_MS = 1_700_000_000_000
ORIGIN = Origin("events", 2, 41)
HEADERS = [("trace", b"\x01")]
DAY_MS = 86_400_000
DECODER = Decoder(
    DecodeSettings(max_bytes=4_096, max_id_length=40, max_future_ms=DAY_MS, max_context_fields=3, max_impressions=4)
)
SOUND = {"user_id": "u", "item_id": "i", "type": "view", "timestamp": LOG_TIME_MS}


def event_bytes(**changes: Any) -> bytes:
    return msgspec.json.encode({**SOUND, **changes})


def decode(value: bytes | None, key: bytes | None = b"u", log_timestamp_ms: int = LOG_TIME_MS) -> Event | Rejected:
    return DECODER.event(key, value, HEADERS, ORIGIN, log_timestamp_ms)


def decode_item(key: bytes | None, value: bytes | None) -> ItemUpdate | Rejected:
    return DECODER.item(key, value, HEADERS, ORIGIN, LOG_TIME_MS)


def without(field: str) -> bytes:
    return msgspec.json.encode({name: value for name, value in SOUND.items() if name != field})


BAD_EVENTS: list[tuple[str, bytes | None, str, str]] = [
    # name, value, reason, a word that the detail must hold
    ("tombstone", None, "tombstone", "null"),
    ("oversized", event_bytes(context={"x": "y" * 5_000}), "too_large", "decode.max_bytes"),
    ("latin-1", '{"user_id":"Zoë"}'.encode("latin-1"), "not_utf8", "0xeb"),
    ("utf-16 with mark", event_bytes().decode().encode("utf-16"), "not_utf8", "0xff"),
    ("utf-16 without mark", event_bytes().decode().encode("utf-16-le"), "not_json", "malformed"),
    ("bad byte in an unknown field", event_bytes()[:-1] + b',"x":"\xff"}', "not_utf8", "0xff"),
    ("surrogate as bytes", b'{"user_id":"\xed\xa0\x80"}', "not_utf8", "0xed"),
    ("byte order mark", b"\xef\xbb\xbf" + event_bytes(), "not_json", "byte order mark"),
    ("empty", b"", "not_json", "truncated"),
    ("blank", b" \n", "not_json", "truncated"),
    ("not JSON", b"user=1&item=2", "not_json", "malformed"),
    ("cut off", event_bytes()[:-5], "not_json", "truncated"),
    ("two documents", event_bytes() + event_bytes(), "not_json", "trailing"),
    ("lone high surrogate", event_bytes().replace(b'"u"', b'"\\ud800"'), "not_json", "surrogate"),
    ("lone low surrogate", event_bytes().replace(b'"u"', b'"\\udc00"'), "not_json", "surrogate"),
    ("raw null byte", event_bytes().replace(b'"u"', b'"u\x00"'), "not_json", "malformed"),
    ("NaN", event_bytes()[:-1] + b',"value":NaN}', "not_json", "malformed"),
    ("Infinity", event_bytes()[:-1] + b',"value":Infinity}', "not_json", "malformed"),
    ("value beyond a float", event_bytes()[:-1] + b',"value":1e999}', "wrong_shape", "$.value"),
    ("a list", b"[]", "wrong_shape", "object"),
    ("null", b"null", "wrong_shape", "object"),
    ("deep nesting", event_bytes()[:-1] + b',"x":' + b"[" * 1_900 + b"]" * 1_900 + b"}", "wrong_shape", "deeper"),
    ("no user", without("user_id"), "wrong_shape", "user_id"),
    ("no item", without("item_id"), "wrong_shape", "item_id"),
    ("no type", without("type"), "wrong_shape", "type"),
    ("no timestamp", without("timestamp"), "wrong_shape", "timestamp"),
    ("null user", event_bytes(user_id=None), "wrong_shape", "$.user_id"),
    ("empty user", event_bytes(user_id=""), "wrong_shape", "user_id"),
    ("empty item", event_bytes(item_id=""), "wrong_shape", "item_id"),
    ("empty type", event_bytes(type=""), "wrong_shape", "type"),
    ("boolean user", event_bytes(user_id=True), "wrong_shape", "$.user_id"),
    ("float user", event_bytes(user_id=4.5), "wrong_shape", "$.user_id"),
    ("list item", event_bytes(item_id=["i"]), "wrong_shape", "$.item_id"),
    ("integer type", event_bytes(type=3), "wrong_shape", "$.type"),
    ("impressions as text", event_bytes(impressions="a|b"), "wrong_shape", "$.impressions"),
    ("empty id shown", event_bytes(impressions=["a", ""]), "wrong_shape", "impressions[1] is empty"),
    ("long id shown", event_bytes(impressions=["x" * 41, "a"]), "bad_id", "impressions[0]"),
    ("bad id shown beyond the bound", event_bytes(impressions=[*"abcd", "\x07"]), "bad_id", "impressions[4]"),
    ("a price too few", event_bytes(impressions=["a", "b"], prices=[1]), "wrong_shape", "prices has 1 entries"),
    ("prices of nothing", event_bytes(prices=[1]), "wrong_shape", "impressions 0"),
    ("text as a price", event_bytes(impressions=["a"], prices=["1"]), "wrong_shape", "$.prices"),
    ("text timestamp", event_bytes(timestamp="2023-11-14"), "wrong_shape", "$.timestamp"),
    ("boolean timestamp", event_bytes(timestamp=True), "wrong_shape", "$.timestamp"),
    ("fractional timestamp", event_bytes(timestamp=1_700_000_000.25), "wrong_shape", "fraction"),
    ("text value", event_bytes(value="5"), "wrong_shape", "$.value"),
    ("list context", event_bytes(context=[1]), "wrong_shape", "$.context"),
    ("negative timestamp", event_bytes(timestamp=-1), "bad_timestamp", "-1"),
    ("far future", event_bytes(timestamp=LOG_TIME_MS + DAY_MS + 1), "bad_timestamp", "decode.max_future_ms"),
    ("huge timestamp", event_bytes()[:-1] + b',"timestamp":' + b"9" * 900 + b"}", "bad_timestamp", "99999"),
    ("blank user_id", event_bytes(user_id=" \t"), "wrong_shape", "user_id is empty"),
    ("float future", event_bytes(timestamp=1e300), "bad_timestamp", "decode.max_future_ms"),
    ("long user", event_bytes(user_id="u" * 41), "bad_id", "41 characters"),
    ("long integer item", event_bytes()[:-1] + b',"item_id":' + b"7" * 41 + b"}", "bad_id", "41 characters"),
    ("endless integer item", event_bytes()[:-1] + b',"item_id":' + b"7" * 3_900 + b"}", "bad_id", "3900 characters"),
    ("escaped null byte", event_bytes(user_id="u\x00"), "bad_id", "U+0000"),
    ("line feed", event_bytes(item_id="a\nb"), "bad_id", "U+000A"),
    ("delete", event_bytes(item_id="a\x7f"), "bad_id", "U+007F"),
    ("C1 control", event_bytes(item_id="a\x85"), "bad_id", "U+0085"),
    ("long type", event_bytes(type="v" * 41), "bad_id", "type"),
    ("control in the session", event_bytes(session_id="\x1b"), "bad_id", "session_id"),
    ("long event id", event_bytes(event_id="e" * 41), "bad_id", "event_id"),
]


@pytest.mark.parametrize(("value", "reason", "word"), [pytest.param(*row[1:], id=row[0]) for row in BAD_EVENTS])
def test_a_bad_event_is_rejected_with_its_reason_and_its_bytes(value: bytes | None, reason: str, word: str) -> None:
    result = decode(value)
    assert isinstance(result, Rejected)
    assert (result.reason, word in result.detail) == (reason, True), result.detail
    assert (result.key, result.value, result.headers, result.origin) == (b"u", value, HEADERS, ORIGIN)


def test_every_reason_is_reachable() -> None:
    assert {reason for _, _, reason, _ in BAD_EVENTS} == set(REASONS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"user_id": 42, "item_id": -7}, {"user_id": "42", "item_id": "-7"}),
        ({"session_id": 9, "event_id": 8}, {"session_id": "9", "event_id": "8"}),
        ({"timestamp": 1.5e12}, {"timestamp_ms": 1_500_000_000_000}),
        ({"timestamp": 0}, {"timestamp_ms": 0}),
        ({"timestamp": LOG_TIME_MS + DAY_MS}, {"timestamp_ms": LOG_TIME_MS + DAY_MS}),
        ({"value": 3}, {"value": 3.0}),
        ({"value": None, "session_id": None, "context": None}, {}),
        ({"unknown": {"deep": [1]}}, {}),
        ({"context": {"a": "x", "b": 2}}, {"context": {"a": "x", "b": 2.0}}),
        ({"context": {"a": True, "b": False, "c": None, "d": [1], "e": {}}}, {"context": {"a": 1.0, "b": 0.0}}),
        ({"context": {"a": 1, "b": 2, "c": 3, "d": 4}}, {"context": {"a": 1.0, "b": 2.0, "c": 3.0}}),
        ({"user_id": "Zoë 👩‍👩‍👧 \u00a0"}, {"user_id": "Zoë 👩‍👩‍👧 \u00a0"}),  # joiners and odd spaces are no controls
        ({"item_id": "i" * 40}, {"item_id": "i" * 40}),
    ],
)
def test_harmless_habits_are_understood(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    plain = Event(user_id="u", item_id="i", type="view", timestamp_ms=LOG_TIME_MS)
    assert decode(event_bytes(**changes)) == msgspec.structs.replace(plain, **expected)


def test_context_numbers_beyond_a_float_are_dropped() -> None:
    result = decode(event_bytes()[:-1] + b',"context":{"ok":1,"huge":' + b"9" * 400 + b',"flag":true}}')
    assert isinstance(result, Event)
    assert result.context == {"ok": 1.0, "flag": 1.0}


def test_of_a_duplicate_key_the_last_counts() -> None:
    result = decode(b'{"user_id":"first","user_id":"last","item_id":"i","type":"view","timestamp":1}')
    assert isinstance(result, Event)
    assert result.user_id == "last"


def test_the_key_counts_towards_the_size() -> None:
    result = decode(event_bytes(), key=b"k" * 4_096)
    assert isinstance(result, Rejected)
    assert result.reason == "too_large"


def test_without_a_log_time_only_the_end_of_histories_bounds_the_future() -> None:
    assert isinstance(decode(event_bytes(timestamp=MAX_TIMESTAMP_MS), log_timestamp_ms=-1), Event)
    late = decode(event_bytes(timestamp=MAX_TIMESTAMP_MS + 1), log_timestamp_ms=-1)
    assert isinstance(late, Rejected)
    assert late.reason == "bad_timestamp"


def test_a_log_time_beyond_the_end_of_histories_moves_no_bound() -> None:
    result = decode(event_bytes(timestamp=MAX_TIMESTAMP_MS + 1), log_timestamp_ms=2**62)
    assert isinstance(result, Rejected)
    assert result.reason == "bad_timestamp"


def test_min_timestamp_refuses_seconds_taken_for_milliseconds() -> None:
    strict = Decoder(DecodeSettings(min_timestamp_ms=1_000_000_000_000))
    result = strict.event(None, event_bytes(timestamp=1_700_000_000), [], ORIGIN, LOG_TIME_MS)
    assert isinstance(result, Rejected)
    assert (result.reason, "decode.min_timestamp_ms" in result.detail) == ("bad_timestamp", True)


def test_an_item_decodes_whole() -> None:
    item = Item("i", "Title", ["a", "b"], 9.5, ["t"], False, {"colour": "red", "weight": 2.0})
    assert decode_item(b"i", msgspec.json.encode(item)) == ItemUpdate("i", item)


def test_an_item_of_integers_and_nulls_decodes() -> None:
    value = b'{"item_id":7,"title":null,"categories":null,"tags":null,"available":null,"attributes":{"a":true,"b":[]}}'
    assert decode_item(b"7", value) == ItemUpdate("7", Item("7", attributes={"a": 1.0}))


def test_an_unavailable_item_stays_unavailable_on_the_lenient_path() -> None:
    result = decode_item(b"7", b'{"item_id":7,"available":false}')
    assert isinstance(result, ItemUpdate)
    assert result.item is not None
    assert not result.item.available


def test_a_null_value_on_items_is_a_tombstone() -> None:
    assert decode_item("ä".encode(), None) == ItemUpdate("ä", None)


def test_an_item_without_a_key_is_taken_by_its_value() -> None:
    assert decode_item(None, b'{"item_id":"i"}') == ItemUpdate("i", Item("i"))


@pytest.mark.parametrize(
    ("key", "value", "reason", "word"),
    [
        (None, None, "wrong_shape", "key"),
        (b"", None, "wrong_shape", "empty"),
        (b"\xff", None, "not_utf8", "0xff"),
        (b"a\x00", None, "bad_id", "U+0000"),
        (b"x" * 41, None, "bad_id", "41"),
        (b"x" * 5_000, None, "too_large", "5000"),
        (b"j", b'{"item_id":"i"}', "wrong_shape", "not the item_id"),
        (b"i", b'{"item_id":"i","price":"9"}', "wrong_shape", "$.price"),
        (b"i", b'{"item_id":"i","categories":"a|b"}', "wrong_shape", "$.categories"),
        (b"i", b'{"item_id":""}', "wrong_shape", "empty"),
        (b"i", b"{", "not_json", "truncated"),
        (b"i", b'{"item_id":"\xff"}', "not_utf8", "0xff"),
    ],
)
def test_a_bad_item_is_rejected(key: bytes | None, value: bytes | None, reason: str, word: str) -> None:
    result = decode_item(key, value)
    assert isinstance(result, Rejected)
    assert (result.reason, word in result.detail) == (reason, True), result.detail
    assert (result.key, result.value) == (key, value)


# A loaded machine must not fail a test of values.
unhurried = settings(deadline=None)

ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
fields = st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False))
sound_events = st.builds(
    Event,
    user_id=ids,
    item_id=ids,
    type=ids,
    timestamp_ms=st.integers(0, LOG_TIME_MS + DAY_MS),
    event_id=st.none() | ids,
    session_id=st.none() | ids,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    context=fields.map(lambda context: dict(list(context.items())[:3])),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(sound_events)
def test_a_sound_event_decodes_to_itself(event: Event) -> None:
    assert decode(msgspec.json.encode(event)) == event


@unhurried
@given(st.binary(max_size=200), st.none() | st.binary(max_size=50), st.integers(-(2**63), 2**63 - 1))
def test_arbitrary_bytes_never_raise(value: bytes, key: bytes | None, log_timestamp_ms: int) -> None:
    assert isinstance(decode(value, key, log_timestamp_ms), Event | Rejected)
    assert isinstance(decode_item(key, value), ItemUpdate | Rejected)
    assert isinstance(decode_item(key, None), ItemUpdate | Rejected)


@unhurried
@given(sound_events, st.integers(min_value=0), st.binary(max_size=4), st.integers(0, 6))
def test_a_mutated_event_never_raises(event: Event, where: int, inserted: bytes, num_cut: int) -> None:
    value = msgspec.json.encode(event)
    at = where % (len(value) + 1)
    result = decode(value[:at] + inserted + value[at + num_cut :])
    assert isinstance(result, Event) or result.reason in REASONS


@unhurried
@given(st.sampled_from([*SOUND, "event_id", "session_id", "value", "context"]), anything)
def test_any_json_in_any_field_gives_an_event_that_can_be_encoded_or_a_rejection(field: str, value: Any) -> None:
    result = decode(event_bytes(**{field: value}))
    if isinstance(result, Event):
        # What is accepted must survive the way to the sink: no surrogate, NaN or overflow may be left in it.
        assert decode(msgspec.json.encode(result)) == result
    else:
        assert result.reason in REASONS


@unhurried
@given(st.sampled_from([*Item.__struct_encode_fields__]), anything)
def test_any_json_in_any_item_field_never_raises(field: str, value: Any) -> None:
    result = decode_item(None, msgspec.json.encode({"item_id": "i", field: value}))
    assert isinstance(result, ItemUpdate) or result.reason in REASONS


def test_what_was_shown_is_kept_in_its_order_up_to_the_bound() -> None:
    event = decode(event_bytes(impressions=["b", "a", "b"], prices=[1, None, 2.5]))
    assert isinstance(event, Event)
    assert (event.impressions, event.prices) == (["b", "a", "b"], [1.0, None, 2.5])
    loose = decode(event_bytes(impressions=[7, "a"], prices=None))
    assert isinstance(loose, Event)
    assert (loose.impressions, loose.prices) == (["7", "a"], [])
    long = decode(event_bytes(impressions=list("abcde"), prices=[1, 2, 3, 4, 5]))
    assert isinstance(long, Event)
    assert (long.impressions, long.prices) == (list("abcd"), [1.0, 2.0, 3.0, 4.0])
