"""What the network hands its encoder."""

from __future__ import annotations

import torch

from stream_rec.learning.learner import Learner
from stream_rec.records import Event
from tests.stream_rec.tiny_worlds import START_MS, cycle, learn, small_settings


def test_the_encoder_reads_the_newest_of_the_interactions_that_are_kept() -> None:
    learner = Learner(small_settings(state={"history_length": 12}, model={"history_length": 3}))
    learn(learner, cycle(200))
    steps = {"short": "345", "long": "123451111345"}
    events = [
        Event(user, f"i{item}", "click", START_MS + 10**6 + 1_000 * (n - len(items)))
        for user, items in steps.items()
        for n, item in enumerate(items)
    ]
    learn(learner, events)
    moments = learner.memory.looking([Event(user, "?", "click", START_MS + 10**6 + 5_000) for user in steps])
    assert moments.history.lengths_B.tolist() == [3, 12]
    learner.network.user_in.weight_IW.zero_()  # two users: only what they have read may tell them apart
    vectors_ID = learner.network.item_in.weight_IW
    with torch.no_grad():
        short_D, long_D = learner.network.encoder(learner.network.inputs(moments, vectors_ID, moments.history.items_BN))
        moments.history.items_BN[1, 2] = moments.history.items_BN[1, 4]
        other_D = learner.network.encoder(learner.network.inputs(moments, vectors_ID, moments.history.items_BN))[1]
    torch.testing.assert_close(short_D, long_D)
    assert not torch.allclose(other_D, long_D)
