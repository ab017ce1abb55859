"""Given lists put in order: learnt from what was taken, never worse than the simple parts, the same when resumed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from stream_rec.learning.learner import Learner
from stream_rec.records import Event
from stream_rec.state.moments import Moments
from stream_rec.state.shown import ShownList, shown_with
from tests.stream_rec.device_guards import OneDevice, no_waiting
from tests.stream_rec.tiny_worlds import START_MS, batches, differing, learn, small_settings

NUM_ITEMS = 30
Choose = Callable[[random.Random, list[str], list[float]], int]


def make_learner(device: str = "cpu") -> Learner:
    return Learner(
        small_settings(
            worker={"device": device},
            learning={"order_shown": True, "replay_events": 512},
            state={"num_exposure_buckets": 4_096},
            decode={"max_impressions": 8},
        )
    )


def pages(num_events: int, choose: Choose, seed: int = 0) -> list[Event]:
    """Pages of six items with prices; ``choose`` says which place is taken, or -1 for none."""
    rng = random.Random(seed)
    events = []
    for number in range(num_events):
        items = [f"i{n}" for n in rng.sample(range(NUM_ITEMS), 6)]
        prices: list[float] = [float(rng.randint(10, 99)) for _ in items]
        place = choose(rng, items, prices)
        kind, item = ("click", items[place]) if place >= 0 else ("impression", items[0])
        events.append(
            Event(f"u{rng.randrange(40)}", item, kind, START_MS + 1_000 * number, impressions=items, prices=[*prices])
        )
    return events


def hits(learner: Learner, events: Sequence[Event]) -> float:
    """Share of the takes that stood first in the list of just before, while learning from them; the last half's."""
    first = []
    for batch in batches(events):
        moments = learner.enter(batch)
        shown = [(event, items) for event, items in zip(batch, entered(learner, batch, moments), strict=True)]
        first += [float(items[0] == event.item_id) for event, items in shown if event.type == "click"]
        learner.learn(moments)
    last = first[len(first) // 2 :]
    return sum(last) / len(last)


def entered(learner: Learner, batch: Sequence[Event], moments: Moments) -> list[list[str]]:
    return learner.rerank_entered(moments, [shown_with(event, 1.0) for event in batch])


def by_place(rng: random.Random, items: list[str], prices: list[float]) -> int:
    return 0 if rng.random() < 0.8 else rng.randrange(6)


def cheapest(rng: random.Random, items: list[str], prices: list[float]) -> int:
    return min(range(6), key=prices.__getitem__) if rng.random() < 0.8 else rng.randrange(6)


def liked(rng: random.Random, items: list[str], prices: list[float]) -> int:
    """Those of the lowest number, whatever it costs and wherever it stands."""
    return min(range(6), key=lambda place: int(items[place][1:])) if rng.random() < 0.8 else rng.randrange(6)


@pytest.mark.parametrize(("choose", "least"), [(by_place, 0.75), (cheapest, 0.7), (liked, 0.5)])
def test_whatever_decides_is_found(choose: Choose, least: float) -> None:
    """The best possible is .83 each time, by chance .17."""
    assert hits(make_learner(), pages(1_300, choose)) > least


def test_the_floor_holds_while_little_is_learnt() -> None:
    """From the first page on nothing is worse than the order shown."""
    learner = make_learner()
    (batch,) = batches(pages(64, by_place))
    assert all(items == event.impressions for event, items in zip(batch, learner.rerank(batch), strict=True))


def test_a_log_of_single_items_tells_what_is_taken_where_places_do_not_matter() -> None:
    """Good items stand at places where little is taken: by their clicks alone they are worse than the bad ones."""
    rng, learner = random.Random(3), make_learner()
    likely = {1: 0.6, 5: 0.05}
    log = []
    for number in range(4_000):
        item = rng.randrange(10)
        place = rng.choice([1, 5, 5, 5]) if item < 5 else rng.choice([1, 1, 1, 5])
        kind = "click" if rng.random() < likely[place] * (1.5 if item < 5 else 0.75) else "impression"
        at_ms = START_MS + 1_000 * number
        log.append(Event("u", f"i{item}", kind, at_ms, impressions=[f"i{item}"], context={"position": float(place)}))
    learn(learner, log)
    taken = [sum(e.type == "click" for e in log if (int(e.item_id[1:]) < 5) is good) for good in (True, False)]
    assert taken[0] < taken[1]
    items = [f"i{n}" for n in (9, 3, 7, 0, 5, 1, 8, 2, 6, 4)]
    asked = ShownList(items, [0] * 10, [None] * 10)
    ordered = learner.rerank_entered(learner.memory.looking(log[-1:]), [asked])[0]
    assert sorted(ordered) == sorted(items)
    assert {int(item[1:]) for item in ordered[:5]} == {0, 1, 2, 3, 4}


def test_looking_changes_nothing_and_unknown_items_get_no_row() -> None:
    learner = make_learner()
    learn(learner, pages(200, cheapest))
    before, num_items = learner.state(), len(learner.memory.items)
    request = Event("nobody", "x", "impression", START_MS, impressions=["x", "i1", "y"], prices=[5.0, 9.0, 1.0])
    assert sorted(learner.rerank([request])[0]) == ["i1", "x", "y"]
    assert not differing(before, learner.state())
    assert len(learner.memory.items) == num_items


def test_resumed_equals_uninterrupted() -> None:
    events = pages(600, liked)
    learner, resumed = make_learner(), make_learner()
    learn(learner, events[:320])
    resumed.load_state(learner.state())
    for one in (learner, resumed):
        learn(one, events[320:])
    assert not differing(learner.state(), resumed.state())
    assert learner.rerank(events[-20:]) == resumed.rerank(events[-20:])


def test_what_is_switched_off_keeps_and_learns_nothing() -> None:
    learner = Learner(small_settings(learning={"impressions": "off"}))
    moments = learner.enter(pages(64, liked))
    assert moments.shown is None
    assert learner.ordering is None


def test_law_8_a_whole_step_runs_on_the_configured_device() -> None:
    learner = make_learner("meta")
    with OneDevice():
        for batch in batches(pages(128, liked)):
            moments = learner.enter(batch)
            look = learner.ranker.look(moments)
            assert learner.ordering
            assert moments.shown
            known = learner.ranker.look_at(moments.shown.rows_BK, moments, look)
            assert learner.ordering.scores(moments, moments.shown, known).shape == (64, 6)
            learner.trainer.learn_from_shown(moments.shown, known[1], learner.batch)
            learner.ordering.learn(moments, moments.shown, known, learner.batch)
            learner.batch += 1


def test_law_7_it_never_waits_for_the_device() -> None:
    learner = make_learner()
    for batch in batches(pages(192, liked)):
        with no_waiting():
            moments = learner.enter(batch)
            look = learner.ranker.look(moments)
            assert learner.ordering
            assert moments.shown
            known = learner.ranker.look_at(moments.shown.rows_BK, moments, look)
            learner.ordering.scores(moments, moments.shown, known)
            learner.trainer.learn_from_shown(moments.shown, known[1], learner.batch)
            learner.ordering.learn(moments, moments.shown, known, learner.batch)
        learner.batch += 1
