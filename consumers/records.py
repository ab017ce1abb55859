"""What kafka-python's records need before the decoder may see them, and what to do with one that it cannot read."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.errors import CorruptRecordError

from stream_rec.records import Origin, Rejected


def decode_args(record: Any, origin: Origin) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]], Origin, int]:
    """Key, value, headers, origin and log time (ms) of a ConsumerRecord, as ``Decoder.event`` takes them.

    A header may be null on the wire; it becomes empty, so that a dead letter can be sent with it.
    """
    headers = [(key, value if value is not None else b"") for key, value in record.headers]
    return record.key, record.value, headers, origin, record.timestamp


def skip_unreadable(consumer: KafkaConsumer, error: CorruptRecordError) -> Rejected:
    """Step over the record that kafka-python has just failed on, and the rejection that stands for it.

    kafka-python decodes the names of headers as UTF-8 while it iterates; one that is not, which librdkafka lets
    anybody send, raises out of ``poll`` and leaves an exhausted iterator in place, over which the next ``poll``
    would spin for ever. Only the seek drops it. The bytes are not to be had; the origin says where they lie.
    Any other damage is the disk's or the network's, not the sender's: ``error`` is raised again.
    """
    cause = error.__context__
    if not isinstance(cause, UnicodeDecodeError):
        raise error
    broken = consumer._fetcher._next_partition_records
    partition, offset = broken.topic_partition, broken.next_fetch_offset
    consumer.seek(partition, offset + 1)
    return Rejected(
        reason="not_utf8",
        detail=f"the name of a header is no UTF-8 ({cause.reason} at byte {cause.start}); the record was not read",
        key=None,
        value=None,
        headers=[],
        origin=Origin(partition.topic, partition.partition, offset),
    )


def unreadable_is_next(consumer: KafkaConsumer) -> bool:
    """Whether the next ``poll`` will raise for a record that this one could not read.

    Pausing before it does would make kafka-python forget the error but not the exhausted iterator.
    """
    return consumer._fetcher._next_in_line_exception_metadata is not None
