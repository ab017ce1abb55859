"""What was shown and not taken teaches the second stage, and what is taken for its place alone does not mislead it."""

from __future__ import annotations

import random

import pytest
import torch

from stream_rec.learning.learner import Learner
from stream_rec.records import Event, Item, ItemUpdate
from tests.stream_rec.tiny_worlds import START_MS, batches, small_settings

NUM_ITEMS, NUM_KINDS = 40, 4


def likes(user_id: str, item_id: str) -> bool:
    return int(user_id[1:]) % NUM_KINDS == int(item_id[1:]) % NUM_KINDS


def misleading(num_events: int, seed: int) -> list[Event]:
    """Everybody likes one kind of items; pages of eight put low numbers first, and what stands first is taken most."""
    rng = random.Random(seed)
    events = []
    for number in range(num_events):
        user = f"u{rng.randrange(40)}"
        drawn = rng.sample(range(NUM_ITEMS), 8)
        items = [f"i{n}" for n in sorted(drawn, key=lambda n: n + rng.uniform(0, 30))]
        chances = [(0.6 if likes(user, item) else 0.1) / (place + 1) ** 1.5 for place, item in enumerate(items)]
        (taken,) = rng.choices(items, chances)
        events.append(Event(user, taken, "click", START_MS + 1_000 * number, impressions=items))
    return events


def taught(impressions: str, events: list[Event]) -> Learner:
    learner = Learner(small_settings(learning={"impressions": impressions, "replay_events": 256}))
    learner.update_catalogue([ItemUpdate(f"i{n}", Item(f"i{n}", categories=[f"c{n % 4}"])) for n in range(NUM_ITEMS)])
    for batch in batches(events, 32):
        learner.learn(learner.enter(batch))
    return learner


def share_liked(learner: Learner, events: list[Event]) -> float:
    """Of the second stage's first ten for everybody; the kind is a quarter of all."""
    newest = {event.user_id: event for event in events}
    look = learner.ranker.look(learner.memory.looking(list(newest.values())))
    top = look.rows_BK.gather(1, look.parts_BKP[:, :, 0].topk(10, dim=1).indices).tolist()
    liked = [likes(user, learner.memory.items.id(row)) for user, rows in zip(newest, top, strict=True) for row in rows]
    return sum(liked) / len(liked)


def test_what_people_like_is_found_better_where_places_are_accounted_for() -> None:
    events = misleading(3_000, seed=1)
    plain, debiased = (share_liked(taught(how, events), events) for how in ("plain", "debiased"))
    assert debiased > plain + 0.05
    assert debiased > 0.5


@pytest.mark.parametrize("impressions", ["plain", "debiased"])
def test_what_was_not_taken_is_learnt_from(impressions: str) -> None:
    """With it the second stage moves elsewhere than without."""
    events = misleading(256, seed=2)
    stages = [taught(how, events).trainer.state()["second_stage"]["optimiser"] for how in ("off", impressions)]
    assert not torch.equal(*(stage["parameters"] for stage in stages))
    assert stages[1]["num_steps"] == stages[0]["num_steps"] + len(events) / 32


def test_without_impressions_nothing_is_different() -> None:
    events = [Event(e.user_id, e.item_id, e.type, e.timestamp_ms) for e in misleading(256, seed=2)]
    stages = [taught(how, events).trainer.state()["second_stage"]["optimiser"] for how in ("off", "debiased")]
    assert torch.equal(*(stage["parameters"] for stage in stages))
