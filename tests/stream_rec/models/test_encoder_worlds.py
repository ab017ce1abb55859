"""Tiny worlds with a known right answer: each encoder, left to itself, learns what its architecture can."""

from __future__ import annotations

import random

import pytest

from stream_rec.learning.learner import Learner
from stream_rec.records import Event
from tests.stream_rec.models.encoder_alone import Alone
from tests.stream_rec.models.encoder_inputs import LEARNING, ORDERED, settings_of
from tests.stream_rec.tiny_worlds import START_MS, checkerboard, cycle, first_hits, learn_and_list, strides

over_all_or_a_sample = pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])

# Who looks at the newest item through more than a sum; mlp knows a user's stride by his vector.
TELLS_STRIDES = sorted(ORDERED | {"mlp"})
NUM_TASTES, NUM_PER_TASTE = 3, 12


def tastes(num_events: int, *, num_users: int = 60, seed: int = 0) -> list[Event]:
    """Users go from the front page to an item of their taste and back: the last item tells everybody the same.

    User u's items are t-0 … t-11 with t = u % 3, each as likely as the other.
    """
    rng = random.Random(seed)
    is_at_front = [False] * num_users
    events = []
    for n in range(num_events):
        user = rng.randrange(num_users)
        is_at_front[user] = not is_at_front[user]
        item = "front" if is_at_front[user] else f"{user % NUM_TASTES}-{rng.randrange(NUM_PER_TASTE)}"
        events.append(Event(f"u{user}", item, "click", START_MS + 1000 * n))
    return events


def share_of_own_taste(encoder: str) -> float:
    """Of the five best before a visit to an item, after 2,000 events."""
    alone, events = Alone(encoder), tastes(2_300)
    alone.learn(events[:2_000])
    right = [
        item.split("-")[0] == event.item_id.split("-")[0]
        for event, best in zip(events[2_000:], alone.best(events[2_000:], 6), strict=True)
        for item in [item for item in best if item != "front"][:5]
        if event.item_id != "front"
    ]
    assert len(right) > 500
    return sum(right) / len(right)


@pytest.mark.parametrize("encoder", LEARNING)
def test_what_a_user_likes_is_learnt(encoder: str) -> None:
    assert share_of_own_taste(encoder) >= 0.9


def strides_known(encoder: str) -> float:
    """HR@1 on 200 events after 2,600."""
    alone, events = Alone(encoder), strides(2_800)
    alone.learn(events[:2_600])
    newest = events[2_600:]
    assert sum(alone.losses[-4:]) < 0.5 * sum(alone.losses[:4])
    return sum(first_hits(newest, alone.best(newest))) / 200


@pytest.mark.parametrize("encoder", TELLS_STRIDES)
def test_a_step_that_takes_two_items_to_tell_is_learnt(encoder: str) -> None:
    """Who knows the last item alone is right one time in three."""
    assert strides_known(encoder) >= 0.9


@over_all_or_a_sample
def test_the_cycle_is_learnt(full_softmax_max_items: int) -> None:
    """After item i comes i + 1: from the second half on 95% of the first places are right."""
    learner = Learner(settings_of("attention", learning={"full_softmax_max_items": full_softmax_max_items}))
    events = cycle(1_000)
    hits = first_hits(events, learn_and_list(learner, events))
    assert sum(hits[500:]) / 500 >= 0.95


@over_all_or_a_sample
def test_the_checkerboard_is_learnt(full_softmax_max_items: int) -> None:
    """Even users get even items: from the second half on 95% of what is listed is of the right colour."""
    learner = Learner(settings_of("attention", learning={"full_softmax_max_items": full_softmax_max_items}))
    events = checkerboard(1_000)
    lists = learn_and_list(learner, events)[500:]
    right = [
        int(item[1:]) % 2 == int(event.user_id[1:]) % 2
        for event, ranked in zip(events[500:], lists, strict=True)
        for item in ranked
    ]
    assert len(right) == 500 * 10
    assert sum(right) / len(right) >= 0.95


@over_all_or_a_sample
@pytest.mark.parametrize("encoder", ["attention", "transformer", "bert"])
def test_a_learner_with_it_knows_the_strides(encoder: str, full_softmax_max_items: int) -> None:
    """With targets of the moment alone, of prefixes, and of hidden items: some of these are no column of a sample."""
    learning = {"full_softmax_max_items": full_softmax_max_items, "dense_rate": 0.005}
    learner = Learner(settings_of(encoder, learning=learning))
    events = strides(3_400)
    assert sum(first_hits(events, learn_and_list(learner, events))[3_200:]) / 200 >= 0.9
