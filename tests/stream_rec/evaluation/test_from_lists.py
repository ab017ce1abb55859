"""The recount of a lists file by hand, and what it says about files that are none."""

import json
from math import log2

import pytest

from stream_rec.errors import InputFileError
from stream_rec.evaluation.from_lists import metrics_from_lists


def write(path, *lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def line(user, item, items, kind="click"):
    return {"user_id": user, "item_id": item, "type": kind, "timestamp": 0, "items": items}


def test_by_hand(tmp_path):
    twelfth = [f"x{n}" for n in range(11)] + ["a"]
    path = write(
        tmp_path / "lists.jsonl",
        line("u", "a", ["a"]),  # never seen before: a miss
        line("v", "a", ["b", "a"]),  # rank 2
        line("v", "a", ["a"]),  # not new to v
        line("v", "b", ["b"], kind="impression"),  # weighs nothing
        line("w", "a", twelfth),  # rank 12
    )
    metrics = metrics_from_lists(path, novel=True, burn_in_fraction=0, event_weights={"impression": 0.0})
    assert metrics == {
        "hr@10": pytest.approx(1 / 3),
        "hr@20": pytest.approx(2 / 3),
        "ndcg@10": pytest.approx(1 / log2(3) / 3),
        "mrr@20": pytest.approx((1 / 2 + 1 / 12) / 3),
        "coverage@10": 1.0,
        "personalisation@10": pytest.approx(1 - 1 / 3 / 10),  # of three pairs one shares one item of ten
    }
    repeats = metrics_from_lists(path, novel=False, burn_in_fraction=0, event_weights={"impression": 0.0})
    assert repeats["hr@10"] == pytest.approx(2 / 4)


def test_burn_in_is_a_share_of_the_lines(tmp_path):
    path = write(tmp_path / "lists.jsonl", line("u", "a", []), line("v", "a", ["a"]))
    assert metrics_from_lists(path, novel=True, burn_in_fraction=0.5, event_weights={})["hr@10"] == 1.0
    with pytest.raises(ValueError, match="burn_in_fraction is 2"):
        metrics_from_lists(path, novel=True, burn_in_fraction=2, event_weights={})


def test_an_empty_file_scores_nothing(tmp_path):
    metrics = metrics_from_lists(write(tmp_path / "lists.jsonl"), novel=True, event_weights={})
    assert set(metrics.values()) == {0.0}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{not json", "line 2: no JSON"),
        ("[]", "line 2: no object"),
        ({"user_id": "u", "item_id": 3, "type": "click", "items": []}, "line 2: item_id is 3"),
        ({"user_id": "u", "item_id": "a", "type": "click"}, "line 2: items is None"),
        ({"user_id": "u", "item_id": "a", "type": "click", "items": ["a", 1]}, "line 2: items is"),
    ],
)
def test_a_line_that_replay_does_not_write_is_named(tmp_path, bad, message):
    path = write(tmp_path / "lists.jsonl", line("u", "a", []), bad)
    with pytest.raises(InputFileError, match=message) as raised:
        metrics_from_lists(path, novel=True, event_weights={})
    assert str(path) in str(raised.value)
    assert "expected is" in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"nowhere\.jsonl cannot be read"):
        metrics_from_lists(tmp_path / "nowhere.jsonl", novel=True, event_weights={})
