"""The encoder that is none: statistics and item biases, the same for whatever a history holds."""

from __future__ import annotations

import torch

from stream_rec.learning.learner import Learner
from tests.stream_rec.tiny_worlds import cycle, differing, first_hits, learn_and_list, small_settings, strides


def test_it_has_nothing_to_learn_and_counting_goes_on() -> None:
    learner = Learner(small_settings(model={"encoder": "none"}))
    assert sum(p.numel() for p in learner.network.encoder.parameters()) == 0
    events = cycle(1_000)
    hits = first_hits(events, learn_and_list(learner, events))
    assert sum(hits[500:]) / 500 >= 0.95
    assert learner.version.startswith("none-")


def test_it_does_not_know_what_counting_cannot_know() -> None:
    # The second stage puts the item-kNN and the last item together, and knows a little more.
    learner = Learner(small_settings(model={"encoder": "none"}, ranking={"second_stage": False}))
    events = strides(2_000)
    hits = first_hits(events, learn_and_list(learner, events))
    assert sum(hits[1_000:]) / 1_000 <= 0.5


def test_its_queries_are_zero_and_its_learner_resumes() -> None:
    settings = small_settings(model={"encoder": "none"})
    learner, resumed = Learner(settings), Learner(settings)
    learn_and_list(learner, cycle(256))
    resumed.load_state(learner.state())
    moments = learner.memory.looking(cycle(3))
    vectors_ID = learner.network.item_in.weight_IW
    assert not learner.network.encoder(learner.network.inputs(moments, vectors_ID, moments.history.items_BN)).any()
    assert not learner.network.user_in.weight_IW.any()
    one, other = learn_and_list(learner, cycle(128, seed=3)), learn_and_list(resumed, cycle(128, seed=3))
    assert one == other
    assert differing(learner.state(), resumed.state()) == []
    assert torch.isfinite(learner.network.item_out.weight_IW).all()
