"""What a dead letter keeps, for every size of everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.dead_letters import dead_letter
from stream_rec.records import Origin, Rejected

# What a record of format v2 costs at most beside its parts: batch header and varints.
RECORD_OVERHEAD_BYTES = 61 + 36
HEADER_OVERHEAD_BYTES = 10

sizes = st.one_of(st.none(), st.integers(0, 64), st.integers(0, 40_000))
headers = st.lists(
    st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.binary(max_size=5_000)), max_size=6
)


def num_bytes(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
    of_headers = sum(len(name.encode()) + len(content) + HEADER_OVERHEAD_BYTES for name, content in headers)
    return len(key or b"") + len(value or b"") + of_headers + RECORD_OVERHEAD_BYTES


@given(sizes, sizes, headers, st.text(max_size=5_000))
def test_a_dead_letter_fits_and_says_what_was_cut(
    key_bytes: int | None, value_bytes: int | None, headers: list[tuple[str, bytes]], detail: str
) -> None:
    key = None if key_bytes is None else b"k" * key_bytes
    value = None if value_bytes is None else b"v" * value_bytes
    rejected = Rejected("wrong_shape", detail, key, value, headers, Origin("events", 3, 2**40))
    max_bytes = 10_000

    letter = dead_letter(rejected, max_bytes)

    assert num_bytes(*letter) <= max_bytes
    assert letter.key is not None or letter.value is not None
    said = dict(letter.headers[-12:])
    assert said["stream_rec_reason"] == b"wrong_shape"
    assert (said["stream_rec_topic"], said["stream_rec_partition"]) == (b"events", b"3")
    assert said["stream_rec_offset"] == str(2**40).encode()
    cut = said.get("stream_rec_truncated", b"").decode().split(",")
    for part, before, after in (("key", key, letter.key), ("value", value, letter.value)):
        if part in cut:
            assert before is not None
            assert after is not None
            assert before.startswith(after)
            assert said[f"stream_rec_{part}_bytes"] == str(len(before)).encode()
        elif "stream_rec_null_value" not in said:
            assert after == before
    assert ("headers" in cut) == (letter.headers[: len(headers)] != headers)


@given(st.binary(max_size=200), st.binary(max_size=5_000), headers)
def test_what_fits_is_untouched(key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    letter = dead_letter(Rejected("not_json", "", key, value, headers, Origin("t", 0, 0)), 1_000_000)

    assert (letter.key, letter.value, letter.headers[: len(headers)]) == (key, value, headers)
    assert [name for name, _ in letter.headers[len(headers) :]] == [
        f"stream_rec_{name}" for name in ("reason", "detail", "topic", "partition", "offset")
    ]
