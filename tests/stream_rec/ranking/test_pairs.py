"""Statistics of a candidate and a past interaction, against plain Python."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from stream_rec.learning.learner import Learner
from stream_rec.models.history_attention import PAIRS
from stream_rec.ranking.distances import DISTRICT_KM
from stream_rec.records import Event, Item, ItemUpdate
from tests.stream_rec.tiny_worlds import START_MS, learn, small_settings

CPU = torch.device("cpu")
STEPS = [("u", "a"), ("v", "a"), ("v", "b"), ("w", "b"), ("w", "c"), ("w", "a"), ("x", "a"), ("x", "c"), ("u", "d")]
PLACES = {"a": (40.70, -74.00), "b": (40.70, -74.01), "c": (40.80, -74.00)}
STEP_S = 600


def told() -> tuple[dict[str, dict[str, list[float]]], torch.Tensor]:
    """Candidate → statistic → by lag, as u sees it, who had a and then d; and what his past was like."""
    learner = Learner(
        small_settings(
            ranking={"exclude_seen": False},
            state={"knn_half_life_s": 1e12, "rule_half_life_s": 1e12},
        )
    )
    updates = [ItemUpdate(name, Item(name, attributes={"lat": lat, "lon": lon})) for name, (lat, lon) in PLACES.items()]
    learner.update_catalogue(updates)
    events = [Event(who, item, "click", START_MS + 1_000 * STEP_S * n) for n, (who, item) in enumerate(STEPS)]
    learn(learner, events, size=1)
    looking = learner.memory.looking([Event("u", "?", "click", START_MS + 1_000 * STEP_S * 9)])
    look = learner.ranker.look(looking)
    rows = look.rows_BK[0].tolist()
    pairs = look.candidates.pairs_BKP[0].split_with_sizes(list(PAIRS.values()), dim=1)
    found = {
        item: {
            name: part[rows.index(learner.memory.items.row(item))].tolist()
            for name, part in zip(PAIRS, pairs, strict=True)
        }
        for item in "abcd"
    }
    return found, look.candidates.past_BNY[0]


def test_roots_of_cosines_with_each_past_item() -> None:
    found, _ = told()
    mass = Counter(item for _, item in STEPS)
    together = {("a", "b"): 2, ("a", "c"): 2, ("a", "d"): 1}  # pairs of a user's items, both ways
    for item in "bc":
        cosine = together["a", item] / math.sqrt(mass["a"] * mass[item])
        assert found[item]["cosine"][:3] == pytest.approx([0.0, math.sqrt(cosine), 0.0], rel=1e-4)
    assert found["a"]["cosine"][0] == pytest.approx((mass["a"] * mass["d"]) ** -0.25, rel=1e-4)


def test_roots_of_the_shares_of_what_follows_each_past_item() -> None:
    found, _ = told()
    # a was followed by b (v), by c (x) and by d (u), each the next one.
    for item in "bcd":
        assert found[item]["rule"][:3] == pytest.approx([0.0, math.sqrt(1 / 3), 0.0], rel=1e-4)


def test_nearness_of_places_and_likeness_of_vectors() -> None:
    found, _ = told()
    assert found["a"]["near"][:3] == pytest.approx([0.0, 1.0, 0.0], abs=1e-3)  # d is nowhere
    km = 6_371.0 * math.radians(0.01) * math.cos(math.radians(40.7))
    assert found["b"]["near"][1] == pytest.approx(math.exp(-km / DISTRICT_KM), rel=1e-2)
    assert found["a"]["vectors"][1] == pytest.approx(1.0, abs=1e-5)
    assert found["d"]["vectors"][0] == pytest.approx(1.0, abs=1e-5)
    assert found["a"]["vectors"][2:] == [0.0] * 18


def test_what_the_past_was_like() -> None:
    _, past_NY = told()
    newest, oldest = past_NY[0].tolist(), past_NY[1].tolist()
    assert newest[0] == pytest.approx(math.log1p(STEP_S) / 12)
    assert oldest[0] == pytest.approx(math.log1p(9 * STEP_S) / 12)
    assert oldest[2] == pytest.approx(math.log1p(4) / 6)
    hour = 2 * math.pi * 9 * STEP_S / 86_400
    assert oldest[3:5] == pytest.approx([math.cos(hour), math.exp(4 * (math.cos(hour) - 1))], rel=1e-4)
