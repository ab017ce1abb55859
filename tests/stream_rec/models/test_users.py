"""The users' vectors: zero for whoever is new or unknown, learnt from his events, gone with his row."""

from __future__ import annotations

import pytest
import torch

from stream_rec.learning.learner import Learner
from stream_rec.records import Event
from tests.stream_rec.tiny_worlds import START_MS, cycle, differing, learn, small_settings

over_all_or_a_sample = pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])


def vector(learner: Learner, user: str) -> torch.Tensor:
    return learner.network.user_in.weight_IW[learner.memory.users.row(user)]


@over_all_or_a_sample
def test_who_acts_is_learnt_and_nobody_else(full_softmax_max_items: int) -> None:
    learner = Learner(small_settings(learning={"full_softmax_max_items": full_softmax_max_items}))
    learn(learner, cycle(640, num_users=10))
    before = learner.network.user_in.weight_IW.clone()
    learn(learner, [Event(f"u{n % 3}", f"i{n % 20}", "click", START_MS + 10**6 + n) for n in range(64)])
    changed = (learner.network.user_in.weight_IW != before).any(1)
    acting = {learner.memory.users.row(f"u{n}") for n in range(3)}
    assert {row for row, has in enumerate(changed.tolist()) if has} == acting


def test_users_who_are_unknown_stay_nobody() -> None:
    """They wait for admission, so all their events are of row 0: what they do must not become everybody's start."""
    learner = Learner(small_settings(state={"admit_user_after": 1_000}))
    learn(learner, cycle(320))
    assert len(learner.memory.users) == 0
    assert not learner.network.user_in.weight_IW.any()


def test_a_new_owner_of_a_row_starts_from_nothing() -> None:
    learner = Learner(small_settings(state={"max_users": 4}))
    learn(learner, cycle(256, num_users=4))
    row = learner.memory.users.row("u1")
    assert vector(learner, "u1").any()
    learner.network.user_in.accumulator_I[row] = 7.0
    for n in range(64):
        moments = learner.enter([Event(f"new {n}", "i1", "click", START_MS + 10**6 + n)])
        if learner.memory.users.row(f"new {n}") == row:
            break
        learner.learn(moments)
    assert learner.memory.users.row(f"new {n}") == row
    assert not vector(learner, f"new {n}").any()
    assert learner.network.user_in.accumulator_I[row] == pytest.approx(0.3)


def test_vectors_are_in_the_snapshot() -> None:
    learner = Learner(small_settings())
    learn(learner, cycle(256, num_users=12))
    state = learner.state()
    assert state["network"]["user_in"]["weight"].shape == (13, 16)
    resumed = Learner(small_settings())
    resumed.load_state(state)
    assert torch.equal(vector(resumed, "u3"), vector(learner, "u3"))
    assert vector(resumed, "u3").any()
    assert differing(state, resumed.state()) == []
