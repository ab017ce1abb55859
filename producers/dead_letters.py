"""A record that could not be used, as it is published: its own bytes, and headers that say why and whence.

Headers are the record's own, then ``stream_rec_reason`` (one of ``records.REASONS``), ``stream_rec_detail``,
``stream_rec_topic``, ``stream_rec_partition`` and ``stream_rec_offset``. Where it would be larger than a producer may
send, ``stream_rec_truncated`` names the parts that were cut (``value``, ``headers``, ``key``) and
``stream_rec_value_bytes``, ``stream_rec_headers_bytes``, ``stream_rec_key_bytes`` say how large they were.
"""

from __future__ import annotations

from typing import NamedTuple

from stream_rec.records import Rejected

# What a record costs beside the bytes of its parts: batch header, lengths, deltas.
OVERHEAD_BYTES = 256
OVERHEAD_OF_HEADER_BYTES = 10
MAX_DETAIL_CHARACTERS = 500

Headers = list[tuple[str, bytes]]


class DeadLetter(NamedTuple):
    """Key, value and headers as ``KafkaProducer.send`` takes them."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(rejected: Rejected, max_bytes: int) -> DeadLetter:
    """The record for ``dead-letters``, of at most ``max_bytes`` where that leaves room for the reasons (4 KiB does).

    Cut in this order, as far as needed: the value, the original headers as a whole, the key.
    """
    origin = rejected.origin
    why: Headers = [
        ("stream_rec_reason", rejected.reason.encode()),
        ("stream_rec_detail", rejected.detail[:MAX_DETAIL_CHARACTERS].encode("utf-8", "replace")),
        ("stream_rec_topic", origin.topic.encode()),
        ("stream_rec_partition", str(origin.partition).encode()),
        ("stream_rec_offset", str(origin.offset).encode()),
    ]
    key, value = rejected.key, rejected.value
    if key is None and value is None:
        # kafka-python refuses to send a record without either.
        value = b""
        why.append(("stream_rec_null_value", b"true"))
    whole = DeadLetter(key, value, [*rejected.headers, *why])
    if _num_bytes(whole) <= max_bytes:
        return whole
    return _cut(DeadLetter(key, value, rejected.headers), why, max_bytes)


def _cut(letter: DeadLetter, why: Headers, max_bytes: int) -> DeadLetter:
    key, value, headers = letter
    sizes = {"value": len(value or b""), "headers": _headers_bytes(headers), "key": len(key or b"")}
    said = {part: (f"stream_rec_{part}_bytes", str(size).encode()) for part, size in sizes.items()}
    # Room is kept for the longest of what is said about the cut.
    longest = [*why, *said.values(), ("stream_rec_truncated", ",".join(sizes).encode())]
    left = max_bytes - OVERHEAD_BYTES - _headers_bytes(longest)
    cut = ["value"] if value else []
    if sizes["headers"] + sizes["key"] > left:
        if headers:
            headers = []
            cut.append("headers")
        if sizes["key"] > left:
            key = (key or b"")[: max(0, left)]
            cut.append("key")
    left -= _headers_bytes(headers) + len(key or b"")
    value = value and value[: max(0, left)]
    truncated = ("stream_rec_truncated", ",".join(cut).encode())
    return DeadLetter(key, value, [*headers, *why, truncated, *(said[part] for part in cut)])


def _num_bytes(letter: DeadLetter) -> int:
    return OVERHEAD_BYTES + len(letter.key or b"") + len(letter.value or b"") + _headers_bytes(letter.headers)


def _headers_bytes(headers: Headers) -> int:
    return sum(len(name.encode()) + len(content) + OVERHEAD_OF_HEADER_BYTES for name, content in headers)
