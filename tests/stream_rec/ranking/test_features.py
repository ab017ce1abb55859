"""What the second stage reads of candidates, against plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from stream_rec.learning.learner import Learner
from stream_rec.ranking.candidates import places
from stream_rec.ranking.distances import distances
from stream_rec.ranking.features import candidate_features
from stream_rec.records import Event, Item, ItemUpdate
from stream_rec.state.catalogue import NOWHERE, place_of
from tests.stream_rec.tiny_worlds import START_MS, learn, small_settings

PLACES = {"a": (40.70, -74.00), "b": (40.70, -74.01), "c": (40.80, -74.00), "far": (51.50, 0.0)}
STEPS = [("u", "a"), ("v", "far"), ("u", "b"), ("u", "a"), ("w", "c"), ("w", "nowhere")]
# Places of the last features in a row, in the order in which ``candidate_features`` has them.
COUNT, LAG, GAP, HOUR, LAST_ALIKE, ALIKE, AWAY, NEAREST, DISTRICT, CORNER = range(-10, 0)


def km_between(one: str, other: str) -> float:
    (north, east), (other_north, other_east) = PLACES[one], PLACES[other]
    half_chord = (
        math.sin(math.radians(other_north - north) / 2) ** 2
        + math.cos(math.radians(north))
        * math.cos(math.radians(other_north))
        * math.sin(math.radians(other_east - east) / 2) ** 2
    )
    return 2 * 6_371.0 * math.sqrt(half_chord)


def features_of(user: str, items: list[str]) -> dict[str, list[float]]:
    """Item → features as ``user`` sees them, an hour after STEPS, ten minutes apart each."""
    learner = Learner(small_settings(ranking={"exclude_seen": False}))
    updates = [
        ItemUpdate(name, Item(name, categories=["x" if name < "c" else "y"], attributes={"lat": lat, "lon": lon}))
        for name, (lat, lon) in PLACES.items()
    ]
    learner.update_catalogue([*updates, ItemUpdate("nowhere", Item("nowhere", categories=["x"]))])
    learn(learner, [Event(who, item, "click", START_MS + 600_000 * n) for n, (who, item) in enumerate(STEPS)], size=1)
    looking = learner.memory.looking([Event(user, "?", "click", START_MS + 600_000 * 3 + 3_600_000)])
    look = learner.ranker.look(looking)
    rows_BK = torch.tensor([[learner.memory.items.row(item) for item in items]], device=torch.device("cpu"))
    nothing_BK = torch.zeros(rows_BK.shape, device=torch.device("cpu"))
    counts_HI = learner.memory.statistics.popularity.counts_HI[:, : learner.memory.num_item_rows]
    place_BI = places(rows_BK, counts_HI.shape[1])
    shares_BKS = look.evidence.shares_at(counts_HI, rows_BK, place_BI)
    away = distances(learner.memory, looking, rows_BK)
    features_BKF = candidate_features(
        learner.memory, looking, rows_BK, place_BI, shares_BKS, nothing_BK, nothing_BK, away
    )
    assert features_BKF.shape[2] == learner.network.second_stage.num_features
    return dict(zip(items, features_BKF[0].tolist(), strict=True))


def test_the_users_own_past_with_a_candidate() -> None:
    found = features_of("u", ["a", "b", "c"])
    assert found["a"][COUNT] == pytest.approx(math.log(3))
    assert found["a"][LAG] == 1.0  # the newest
    assert found["a"][GAP] == pytest.approx(16 - math.log1p(3_600))
    assert found["a"][HOUR] == pytest.approx(math.cos(2 * math.pi / 24))
    assert (found["b"][COUNT], found["b"][LAG]) == (pytest.approx(math.log(2)), 0.5)
    assert found["c"][COUNT : HOUR + 1] == [0.0, 0.0, 0.0, 0.0]


def test_attributes_shared_with_the_last_item_and_with_the_history() -> None:
    """Of categories only; position and attributes of numbers differ for each."""
    found = features_of("u", ["b", "c", "nowhere"])
    assert found["nowhere"][LAST_ALIKE] == pytest.approx(1.0)  # it has one attribute, and the last item has it
    assert 0 < found["b"][LAST_ALIKE] < 1
    assert found["c"][LAST_ALIKE] < found["b"][LAST_ALIKE]
    assert found["b"][ALIKE] > found["c"][ALIKE]


def test_distances_to_the_last_item_and_to_the_usual_places() -> None:
    found = features_of("u", ["a", "b", "c", "far", "nowhere"])
    for item in ("b", "c", "far"):
        assert math.expm1(found[item][AWAY]) == pytest.approx(km_between("a", item), rel=0.01, abs=0.002)
    assert found["a"][AWAY] == pytest.approx(0.0, abs=0.01)
    assert found["b"][NEAREST] == pytest.approx(0.0, abs=0.01)  # he has been there
    assert math.expm1(found["c"][NEAREST]) == pytest.approx(km_between("a", "c"), rel=0.01)
    weights = [("a", 1.0), ("b", 0.5**0.5), ("a", 3**-0.5)]
    usual = sum(weight * math.exp(-km_between(item, "c") / 3.0) for item, weight in weights)
    assert found["c"][DISTRICT] == pytest.approx(math.log(usual), abs=0.02)
    assert found["a"][CORNER] > found["b"][CORNER] > found["c"][CORNER] >= found["far"][CORNER]
    assert found["nowhere"][AWAY] == pytest.approx(math.log1p(20_000), rel=1e-4)


@pytest.mark.parametrize(
    "attributes", [{}, {"lat": 1.0}, {"lat": "north", "lon": 2.0}, {"lat": 91.0, "lon": 2.0}], ids=str
)
def test_an_item_without_a_place_is_nowhere(attributes: dict[str, str | float]) -> None:
    assert place_of(Item("i", attributes=attributes)) == NOWHERE
