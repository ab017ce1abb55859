"""Topics read from beginning to end, as an outsider reads them."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream_rec.config import KafkaSettings

WAIT_S = 60.0


def records_of(kafka: KafkaSettings, topic: str) -> list[Any]:
    """Every committed record, partition by partition, in the order of the log."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed")
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    assert partitions, f"there is no topic {topic}"
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found: dict[TopicPartition, list[Any]] = {partition: [] for partition in partitions}
    deadline_s = time.monotonic() + WAIT_S
    # Positions and not counts: markers of transactions have offsets, too.
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        assert time.monotonic() < deadline_s, f"{topic} cannot be read to its end"
        for partition, fetched in consumer.poll(timeout_ms=500).items():
            found[partition] += fetched
    consumer.close()
    return [record for partition in partitions for record in found[partition]]
