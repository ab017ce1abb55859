"""The metrics of a replay, recomputed from its ``lists.jsonl`` alone.

A second opinion: written from the definitions, event by event, and sharing no code with ``prequential``, so that a
mistake in one of them shows as a difference between the two. It bounds nothing: equal as long as no bound was reached.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stream_rec.errors import InputFileError

EXPECTED = '{"user_id": str, "item_id": str, "type": str, "timestamp": int, "items": [str, …]}'


def metrics_from_lists(
    path: Path | str,
    *,
    novel: bool,
    burn_in_fraction: float = 0.1,
    burn_in_events: int | None = None,
    event_weights: Mapping[str, float],
) -> dict[str, float]:
    """HR@10, HR@20, NDCG@10, MRR@20, coverage@10 and personalisation@10 of the lists in the file.

    ``novel`` scores only events on items that are new to the user (what ``ranking.exclude_seen`` means); the first
    ``burn_in_fraction`` of the lines is not scored, or the first ``burn_in_events`` where these are given: a log with
    rows that could not be used has fewer lines than rows, and the report tells ``num_burn_in``. Types that weigh 0 in
    ``event_weights`` are left out altogether.
    Raises InputFileError where the file cannot be read or a line is not what ``replay --out`` writes, and ValueError
    for a fraction outside 0 to 1.
    """
    if not 0 <= burn_in_fraction <= 1:
        raise ValueError(f"burn_in_fraction is {burn_in_fraction}; allowed is 0 to 1")
    path = Path(path)
    burn_in = burn_in_events
    if burn_in is None:
        burn_in = int(burn_in_fraction * sum(1 for _ in _lines(path)))

    items_in_stream: set[str] = set()
    items_of_user: dict[str, set[str]] = defaultdict(set)
    listed: Counter[str] = Counter()
    num_lists = num_scored = hits_10 = hits_20 = 0
    gain_10 = reciprocal_20 = 0.0

    for index, line in enumerate(_lines(path)):
        if event_weights.get(line["type"], 1.0) == 0:
            continue
        user, item, items = line["user_id"], line["item_id"], line["items"]
        if index >= burn_in and not (novel and item in items_of_user[user]):
            num_scored += 1
            if items:
                num_lists += 1
                listed.update(items[:10])
            if item in items_in_stream and item in items[:20]:
                rank = items.index(item) + 1
                hits_20 += 1
                reciprocal_20 += 1 / rank
                if rank <= 10:
                    hits_10 += 1
                    gain_10 += 1 / math.log2(rank + 1)
        items_in_stream.add(item)
        items_of_user[user].add(item)

    # Two lists drawn at random share, of ten places, the sum over items of the chance that both hold it.
    num_pairs = num_lists * (num_lists - 1) / 2
    num_shared = sum(math.comb(count, 2) for count in listed.values())
    return {
        "hr@10": hits_10 / max(num_scored, 1),
        "hr@20": hits_20 / max(num_scored, 1),
        "ndcg@10": gain_10 / max(num_scored, 1),
        "mrr@20": reciprocal_20 / max(num_scored, 1),
        "coverage@10": len(items_in_stream.intersection(listed)) / max(len(items_in_stream), 1),
        "personalisation@10": 1 - num_shared / num_pairs / 10 if num_pairs else 0.0,
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    # Read twice rather than held: a long replay's lists are larger than memory.
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                yield _parsed(text, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path} cannot be read: {error}") from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputFileError(f"{where}: no JSON ({error}); expected is {EXPECTED}") from error
    if not isinstance(line, dict):
        raise InputFileError(f"{where}: no object; expected is {EXPECTED}")
    for name in ("user_id", "item_id", "type"):
        if not isinstance(line.get(name), str):
            raise InputFileError(f"{where}: {name} is {line.get(name)!r}; expected is {EXPECTED}")
    items = line.get("items")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InputFileError(f"{where}: items is {items!r}; expected is {EXPECTED}")
    return line
