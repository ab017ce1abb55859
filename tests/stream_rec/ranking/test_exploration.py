"""Exploration: the chances that are logged are the chances there were, new items get their share, and nothing moves."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.config import Settings
from stream_rec.evaluation.protocol import under_protocol
from stream_rec.learning.learner import Learner
from stream_rec.ranking.exploration import Exploration, Place, compose
from stream_rec.records import EXPLORED, Event, ItemUpdate, RankedItem
from tests.stream_rec.tiny_worlds import START_MS, attributes, differing, learn, small_settings

SHARE = 0.3
BEST = [7, 3, 9, 1]  # 3 and 1 are new as well
NEW = [3, 4, 5, 1]
CHANCES = np.array([0.5, 0.2, 0.2, 0.1])


def composed(seed: int, best: list[int] = BEST, new: list[int] = NEW, chance_N: np.ndarray = CHANCES) -> list[Place]:
    rng = np.random.Generator(np.random.Philox(seed))
    return compose(best, new, {row: n for n, row in enumerate(new)}, chance_N, SHARE, rng)


# -- propensities --------------------------------------------------------------------------------------------------


def test_what_stands_at_a_place_is_as_frequent_as_its_propensity_says_given_the_places_above() -> None:
    """Every prefix that came up often: each item after it within five standard errors of its logged chance."""
    followed: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    logged: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for seed in range(8_000):
        rows: tuple[int, ...] = ()
        for place in composed(seed):
            followed[rows][place.row] += 1
            assert logged[rows].setdefault(place.row, place.propensity) == pytest.approx(place.propensity)
            rows = (*rows, place.row)
        assert len(set(rows)) == len(BEST)
    checked = 0
    for prefix, counts in followed.items():
        num = counts.total()
        if num < 400:
            continue
        checked += 1
        for row, chance in logged[prefix].items():
            assert counts[row] / num == pytest.approx(chance, abs=5 * (chance * (1 - chance) / num) ** 0.5 + 1e-9), (
                prefix
            )
        if len(counts) == len({*NEW, *BEST} - set(prefix)):
            assert sum(logged[prefix].values()) == pytest.approx(1.0)
    assert checked > 10


def test_the_chance_of_a_place_is_the_mixture_of_best_and_draw() -> None:
    first = {place.row: place.propensity for place in (composed(seed)[0] for seed in range(300))}
    assert first == pytest.approx({7: 0.7, 3: 0.3 * 0.5, 4: 0.3 * 0.2, 5: 0.3 * 0.2, 1: 0.3 * 0.1})


@settings(deadline=None, max_examples=100)
@given(
    best=st.lists(st.integers(1, 12), unique=True, max_size=6),
    new=st.lists(st.integers(1, 12), unique=True, max_size=6),
    weights=st.lists(st.sampled_from([0.0, 1e-12, 1.0, 5.0]), min_size=6, max_size=6),
    seed=st.integers(0, 1_000),
)
def test_lists_stay_whole_whatever_is_new(best: list[int], new: list[int], weights: list[float], seed: int) -> None:
    chance_N = np.array(weights[: len(new)])
    chance_N = chance_N / chance_N.sum() if chance_N.sum() > 0 else chance_N
    places = composed(seed, best, new, chance_N)
    rows = [place.row for place in places]
    assert len(rows) == len(set(rows)) == len(best)
    assert all(0 < place.propensity <= 1 + 1e-9 for place in places)
    assert all(chance_N[new.index(place.row)] > 0 for place in places if place.is_drawn)
    kept = [row for row in best if row in rows]
    assert [place.row for place in places if not place.is_drawn] == [r for r in kept if not _drawn(r, places)]
    if not chance_N.any():
        assert [(place.row, place.propensity) for place in places] == [(row, 1.0) for row in best]


def _drawn(row: int, places: list[Place]) -> bool:
    return any(place.row == row and place.is_drawn for place in places)


def test_half_of_a_draw_is_fair_and_half_follows_the_score() -> None:
    score_BN = torch.tensor([[0.0, 2.0, float("-inf")], [float("-inf")] * 3], device=torch.device("cpu"))
    chance_BN = Exploration(Settings()).chances(score_BN)
    likely = np.exp(2.0) / (1 + np.exp(2.0))
    assert chance_BN[0].tolist() == pytest.approx([0.25 + 0.5 * (1 - likely), 0.25 + 0.5 * likely, 0.0], rel=1e-6)
    assert not chance_BN[1].any()


# -- in the learner ------------------------------------------------------------------------------------------------


def shop(num_events: int, *, start: int = 0, seed: int = 0) -> list[Event]:
    """Everybody takes any of twenty items; nobody comes twice."""
    rng = random.Random(f"{seed} {start}")
    return [
        Event(f"u{start + n}", f"i{rng.randrange(20)}", "click", START_MS + 1000 * (start + n))
        for n in range(num_events)
    ]


def exploring(**ranking: float) -> Learner:
    """After 640 events on twenty items; ten more are in the catalogue, without attributes of their own."""
    settings_ = small_settings(
        ranking={"explore_share": 0.2, "explore_until_events": 20.0} | ranking, state={"max_users": 4_000}
    )
    learner = Learner(settings_)
    learner.update_catalogue(attributes(20))
    learn(learner, shop(640))
    learner.update_catalogue([ItemUpdate(f"new{n}", None) for n in range(2)])  # gone before it came
    learner.update_catalogue([_bare(f"new{n}") for n in range(2, 12)])
    return learner


def _bare(item_id: str) -> ItemUpdate:
    (update,) = attributes(1)
    assert update.item is not None
    return ItemUpdate(item_id, type(update.item)(item_id))


def lists_over(learner: Learner, num_batches: int) -> list[list[RankedItem]]:
    """Lists for many strangers, none of whom is learnt from: only the batch number goes on."""
    lists = []
    for _ in range(num_batches):
        lists += learner.rank(shop(64, start=10_000))
        learner.batch += 1
    return lists


def test_each_new_item_gets_its_share_and_the_share_is_as_set() -> None:
    lists = lists_over(exploring(), 40)
    places = [item for ranked in lists for item in ranked]
    shown = Counter(item.item_id for item in places if EXPLORED in item.reasons)
    assert set(shown) == {f"new{n}" for n in range(2, 12)}
    assert sum(shown.values()) / len(places) == pytest.approx(0.2, abs=0.02)
    fair = 0.5 * 0.2 * len(places) / 10  # the half of a draw that looks at no score
    assert min(shown.values()) > 0.8 * fair
    for ranked in lists:
        assert [item.rank for item in ranked] == list(range(1, 11))
        assert all(isinstance(item.propensity, float) and 0 < item.propensity <= 1 for item in ranked)


def test_what_is_known_well_enough_or_long_enough_is_not_new() -> None:
    by_events = lists_over(exploring(explore_until_events=1e9), 4)
    drawn = {item.item_id for ranked in by_events for item in ranked if EXPLORED in item.reasons}
    assert {"i0", "i7", "new3"} <= drawn
    by_age = lists_over(exploring(explore_until_events=1e9, explore_items_younger_than_s=1.0), 4)
    assert {item.item_id for ranked in by_age for item in ranked if EXPLORED in item.reasons} <= {
        f"new{n}" for n in range(2, 12)
    }


def test_without_exploration_lists_are_the_best_and_say_nothing_of_chances() -> None:
    learner = exploring(explore_share=0.0)
    newest = shop(8, start=20_000)
    plain = learner.rank(newest)
    ranked = learner.ranker.rank(learner.memory.looking(newest), 10)
    assert [[learner.memory.items.row(item.item_id) for item in each] for each in plain] == ranked.rows_BK.tolist()
    assert not any(isinstance(item.propensity, float) for each in plain for item in each)


def test_law_2_drawing_changes_nothing_and_the_same_batch_draws_the_same() -> None:
    learner = exploring()
    before = learner.state()
    newest = shop(64, start=20_000)
    first = learner.rank(newest)
    assert learner.rank(newest) == first
    assert differing(before, learner.state()) == []
    learner.batch += 1
    assert learner.rank(newest) != first


def test_law_5_a_resumed_learner_draws_as_an_uninterrupted_one() -> None:
    learner = exploring()
    resumed = exploring()
    resumed.load_state(learner.state())
    batch = shop(64, start=640)
    for one in (learner, resumed):
        learn(one, batch)
    assert learner.rank(batch) == resumed.rank(batch)


def test_exams_leave_it_out_unless_asked() -> None:
    settings_ = small_settings(ranking={"explore_share": 0.2})
    assert under_protocol(settings_, allow_repeats=False).ranking.explore_share == 0.0
    assert under_protocol(settings_, allow_repeats=False, explore=True).ranking.explore_share == 0.2
    learner = exploring()
    entered = learner.rank_entered(learner.enter(shop(64, start=640)))
    learner_without = exploring(explore_share=0.0)
    assert entered == learner_without.rank_entered(learner_without.enter(shop(64, start=640)))


def num_until_found(share: float, seed: int) -> int:
    """Batches until a good new item, of which nothing is known, stands among the first three of the earned places.

    Who is shown it takes it; whoever is not takes what he always took.
    """
    learner = exploring(explore_share=share, explore_until_events=80.0)
    rng = random.Random(seed)
    good = "new5"
    for batch in range(25):
        start = 1_000 + 64 * batch
        visitors = shop(64, start=start, seed=seed)
        lists = learner.rank(visitors)
        earned = [[item.item_id for item in ranked[:3] if EXPLORED not in item.reasons] for ranked in lists]
        if sum(good in each for each in earned) > 32:
            return batch
        taken = []
        for event, ranked in zip(visitors, lists, strict=True):
            sees = good in {item.item_id for item in ranked[:5]}
            taken.append(
                Event(
                    event.user_id, good if sees and rng.random() < 0.9 else event.item_id, "click", event.timestamp_ms
                )
            )
        learn(learner, taken)
    return 25


def test_a_good_new_item_without_attributes_is_found_sooner_than_without_exploration() -> None:
    assert num_until_found(0.4, seed=1) + 5 < num_until_found(0.0, seed=1)
