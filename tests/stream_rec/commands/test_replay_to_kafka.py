"""``stream-rec replay --to-kafka`` on a real broker: the log and the catalogue as they are in the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_rec.__main__ import main
from stream_rec.config import KafkaSettings, TopicsSettings
from tests.consumers.written_files import json_lines, text_file
from tests.kafka_records import records_of

pytestmark = pytest.mark.kafka


@pytest.fixture
def options(kafka_settings: KafkaSettings, kafka_topics: TopicsSettings) -> list[str]:
    pairs = {
        "kafka.bootstrap_servers": json.dumps(kafka_settings.bootstrap_servers),
        "topics.events.name": kafka_topics.events.name,
        "topics.events.partitions": "2",
        "topics.items.name": kafka_topics.items.name,
        "topics.recommendations.name": kafka_topics.recommendations.name,
        "topics.dead_letters.name": kafka_topics.dead_letters.name,
        "topics.journal.name": kafka_topics.journal.name,
    }
    return [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]


def test_a_log_and_its_catalogue_arrive_whole_in_order_and_by_user(
    tmp_path: Path,
    options: list[str],
    kafka_settings: KafkaSettings,
    kafka_topics: TopicsSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = [
        {"user_id": f"u{n % 11}", "item_id": f"i{n}", "type": "view", "timestamp": 1_500_000_000_000 + n}
        for n in range(500)
    ]
    log = json_lines(tmp_path / "log.jsonl", [*sent[:100], {**sent[0], "user_id": ""}, *sent[100:]])
    items = text_file(tmp_path / "items.csv", "item_id,title,price\n1,Shoe,9.5\n2,Hat,3\n")

    assert main(["replay", str(log), "--to-kafka", "-q", "--items", str(items), "--limit", "401", *options]) == 0

    read = records_of(kafka_settings, kafka_topics.events.name)
    events = [json.loads(record.value) for record in read]
    by_user = {user: [e["item_id"] for e in events if e["user_id"] == user] for user in {e["user_id"] for e in events}}
    assert by_user == {f"u{u}": [row["item_id"] for row in sent[:400] if row["user_id"] == f"u{u}"] for u in range(11)}
    assert {(record.key, e["user_id"].encode()) for record, e in zip(read, events, strict=True)} == {
        (f"u{u}".encode(), f"u{u}".encode()) for u in range(11)
    }
    partition_of = {(e["user_id"], record.partition) for record, e in zip(read, events, strict=True)}
    assert len(partition_of) == 11
    assert {e["timestamp"] for e in events} == {row["timestamp"] for row in sent[:400]}
    titles = [json.loads(record.value)["title"] for record in records_of(kafka_settings, kafka_topics.items.name)]
    assert titles == ["Shoe", "Hat"]
    assert "1 rows could not be used" in capsys.readouterr().err
