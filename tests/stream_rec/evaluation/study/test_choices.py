"""Where an event brings the items that can be listed: which these are, who orders them, what that would have earned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stream_rec.config import StateSettings
from stream_rec.evaluation.baselines.base import Player, Scorer, Turn
from stream_rec.evaluation.baselines.registry import BASELINES, NEURAL, Bounds
from stream_rec.evaluation.study.choices import ONLY_HERE, TOP, LoggedActions, Shown, choosing_player, share_of
from stream_rec.evaluation.study.choosing import ChoosingLearner
from stream_rec.evaluation.study.exams import Examiner
from stream_rec.evaluation.study.gains import MAX_WEIGHT, gains_of
from stream_rec.evaluation.study.intervals import whole
from stream_rec.evaluation.study.plan import OFF_POLICY
from stream_rec.records import Event
from tests.stream_rec.tiny_worlds import small_settings

BOUNDS = Bounds(max_users=100, max_items=1_000)
STATE = StateSettings(max_users=100, max_items=100)


def shown(user: str, item: str, impressions: str, prices: Sequence[float | None] = (), at_ms: int = 1_000) -> Event:
    return Event(user, item, "click", at_ms, impressions=impressions.split("|"), prices=list(prices))


def drawn(action: str, propensity: float, reward: float, shelf: str = "a") -> Event:
    kind = "click" if reward else "view"
    return Event("u", action, kind, 1_000, value=reward, context={"propensity": propensity, "shelf": shelf})


def turn(event: Event, weight: float = 1.0) -> Turn:
    return Turn(event, weight, frozenset(), Shown().of(event, weight))


def test_what_is_shown_are_the_impressions_of_an_event_that_counts():
    choices = Shown()
    assert choices.of(shown("u", "b", "b|a|b|c"), 1.0) == ("b", "a", "c")
    assert choices.of(shown("u", "b", "b|a"), 0.0) is None
    assert choices.of(Event("u", "b", "view", 1), 1.0) is None


def test_logged_actions_are_those_that_were_drawn_before_on_the_same_shelf():
    choices = LoggedActions("shelf", 100)
    log = [drawn("x", 0.5, 0), drawn("y", 0.5, 0, shelf="b"), drawn("z", 0.5, 1), drawn("x", 0.5, 0)]
    found = []
    for event in log:
        found.append(choices.of(event, 0.0))
        choices.take(event)
    assert found == [None, None, ("x",), ("x", "z")]
    assert choices.of(Event("u", "x", "click", 1, context={"shelf": "a"}), 1.0) is None
    together = LoggedActions("", 100)
    for event in log:
        together.take(event)
    assert together.of(log[0], 0.0) == ("x", "y", "z")


def test_logged_actions_are_bounded():
    choices = LoggedActions("", 3)
    for number in range(10):
        choices.take(drawn(f"x{number}", 0.5, 0))
    assert choices.of(drawn("x", 0.5, 0), 0.0) == ("x7", "x8", "x9")


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_that_is_no_network_puts_all_of_the_items_in_order(name: str):
    if BASELINES[name].family == NEURAL:
        assert not isinstance(BASELINES[name].make(BOUNDS, 1), Scorer)
        return
    player = choosing_player(name, BOUNDS, 1)
    assert isinstance(player, Player)
    for number in range(30):
        event = shown(f"u{number % 3}", f"i{number % 5}", "i9|i1|i0|i3|i7|i4|i2")
        (items,) = player.play([turn(event)], 20)
        assert sorted(items) == sorted(["i9", "i1", "i0", "i3", "i7", "i4", "i2"])


def test_equals_stay_as_they_are_shown():
    player = choosing_player("popularity", BOUNDS, 1)
    events = [shown("u", "c", "a|b|c|d"), shown("u", "c", "a|b|c|d"), shown("u", "b", "d|a|b|c")]
    assert player.play([turn(event) for event in events], 20) == [
        ["a", "b", "c", "d"],
        ["c", "a", "b", "d"],
        ["c", "d", "a", "b"],
    ]


def test_an_event_that_weighs_nothing_is_shown_a_list_and_teaches_nothing():
    player = choosing_player("popularity", BOUNDS, 1)
    event = shown("u", "b", "a|b")
    silent = Turn(event, 0.0, frozenset(), ("a", "b"))
    assert player.play([silent, silent], 20) == [["a", "b"], ["a", "b"]]


def test_position_and_price_order_without_learning():
    event = shown("u", "c", "a|b|c|d", [30.0, 10.0, None, 10.0])
    assert ONLY_HERE["position-only"]().play([turn(event)], 20) == [["a", "b", "c", "d"]]
    assert ONLY_HERE["price-only"]().play([turn(event)], 20) == [["b", "d", "a", "c"]]


def test_all_places_of_a_shown_list_count():
    examiner = Examiner(STATE, {}, novel=False, burn_in_events=0, choices=Shown())
    names = [f"i{number}" for number in range(25)]
    log = [shown("u", names[24], "|".join(names)), shown("u", "other", "a|b"), Event("u", "i0", "view", 1)]
    examiner.examine(ONLY_HERE["position-only"](), log, 20)
    assert examiner.answers.table().rank_E.tolist() == [25]  # of the others one was not shown, one brings no choice
    assert examiner.num_observed == 3


def test_a_policy_draws_one_of_its_first_as_likely_as_the_other():
    items = [f"i{number}" for number in range(TOP + 5)]
    assert share_of(items, "i0", is_uniform=False) == share_of(items, f"i{TOP - 1}", is_uniform=False) == 1 / TOP
    assert share_of(items, f"i{TOP}", is_uniform=False) == 0
    assert share_of(items, f"i{TOP}", is_uniform=True) == 1 / (TOP + 5)
    assert share_of(["i0", "i1"], "i1", is_uniform=False) == 1 / 2


def off_policy_value(name: str, *, seed: int = 1) -> dict[str, float]:
    """Of 20 actions the first 5 earn .5 and the others .05; the log draws them unevenly, by known propensities."""
    rng = np.random.default_rng(seed)
    actions = [f"x{number}" for number in rng.permutation(20)]
    propensity_A = np.arange(10, 30) / np.arange(10, 30).sum()
    earns = dict.fromkeys([f"x{number}" for number in range(5)], 0.5)
    log = []
    for action in rng.choice(20, 6_000, p=propensity_A):
        reward = float(rng.random() < earns.get(actions[action], 0.05))
        log.append(drawn(actions[action], float(propensity_A[action]), reward))
    examiner = Examiner(
        STATE,
        {"view": 0.0},
        novel=False,
        burn_in_events=1_000,
        choices=LoggedActions("shelf", 100),
        is_uniform=name == "uniform",
    )
    player = choosing_player(name, BOUNDS, 1)
    for start in range(0, len(log), 100):
        examiner.examine(player, log[start : start + 100], 20)
    gains = gains_of(examiner.answers.table(), OFF_POLICY)
    return {metric: whole(gain) for metric, gain in gains.items()}


def test_the_estimates_are_near_what_the_policies_earn():
    uniform, popular = off_policy_value("uniform"), off_policy_value("popularity")
    true_uniform = (5 * 0.5 + 15 * 0.05) / 20
    true_popular = (5 * 0.5 + 5 * 0.05) / TOP  # the five are among the ten that were rewarded most often
    for estimate, truth in ((uniform, true_uniform), (popular, true_popular)):
        assert estimate["mean weight"] == pytest.approx(1.0, abs=0.1)
        assert estimate["snips"] == pytest.approx(truth, abs=0.03)
        assert estimate["ips"] == pytest.approx(truth, abs=0.05)


def test_no_event_counts_for_more_than_the_greatest_weight():
    examiner = Examiner(STATE, {"view": 0.0}, novel=False, burn_in_events=0, choices=LoggedActions("", 9))
    examiner.examine(ONLY_HERE["uniform"](), [drawn("x", 0.5, 0), drawn("x", 1e-9, 1)], 20)
    assert whole(gains_of(examiner.answers.table(), OFF_POLICY)["ips"]) == MAX_WEIGHT


def test_the_learner_lists_the_choices_as_they_are_shown_and_learns_to_choose():
    settings = small_settings(ranking={"exclude_seen": False, "unseen_items": False}, learning={"order_shown": True})
    learner = ChoosingLearner(settings, Shown())
    impressions = [f"i{number}" for number in (3, 1, 4, 0, 2)]
    lists = []
    for batch in range(60):
        taken = "i2" if batch else "i0"
        events = [shown(f"u{n}", taken, "|".join(impressions), at_ms=1_000 * (8 * batch + n)) for n in range(8)]
        events.append(Event("v", f"other{batch % 9}", "view", 1_000 * (8 * batch + 8)))
        moments = learner.enter(events)
        lists.append(learner.rank_entered(moments)[:8])
        learner.learn(moments)
    assert lists[0][0] == impressions
    assert all(sorted(items) == sorted(impressions) for batch in lists for items in batch)
    assert {items[0] for items in lists[-1]} == {"i2"}


def test_the_learner_orders_logged_actions_by_what_draws_have_told() -> None:
    """Every event of a log of draws is one item shown, taken or not; before any draw there is nothing to order."""
    settings = small_settings(
        ranking={"exclude_seen": False, "unseen_items": False},
        learning={"order_shown": True, "event_weights": {"view": 0.0}},
    )
    learner, rng = ChoosingLearner(settings, LoggedActions("shelf", 100)), np.random.default_rng(3)
    for _ in range(30):
        actions = rng.integers(0, 8, 100)
        batch = [drawn(f"x{a}", 1 / 8, float(rng.random() < (0.5 if a >= 6 else 0.05))) for a in actions]
        moments = learner.enter(batch)
        lists = learner.rank_entered(moments)
        learner.learn(moments)
    assert sorted(lists[-1]) == [f"x{a}" for a in range(8)]
    assert set(lists[-1][:2]) == {"x6", "x7"}
