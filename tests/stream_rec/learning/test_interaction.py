"""Encoders that weigh single candidates: what they say is learnt and reaches the second stage."""

from __future__ import annotations

import pytest
import torch

from stream_rec.learning.learner import Learner
from tests.stream_rec.tiny_worlds import batches, rich, small_settings


@pytest.mark.parametrize("encoder", ["din", "ncf"])
def test_what_is_said_of_history_and_candidate_is_learnt_and_weighed(encoder: str) -> None:
    learner = Learner(small_settings(model={"encoder": encoder}))
    tower = learner.network.encoder.get_submodule("to_logit" if encoder == "din" else "tower")
    before = [parameter.detach().clone() for parameter in tower.parameters()]
    steps = list(batches(rich(200), 40))
    for events in steps[:-1]:
        learner.learn(learner.enter(events))
    moved = [not torch.equal(old, new) for old, new in zip(before, tower.parameters(), strict=True)]
    assert all(moved)

    moments = learner.enter(steps[-1])
    look = learner.ranker.look(moments)
    vectors_BKD = look.vectors_BKD
    assert vectors_BKD is not None
    vectors_ID = look.catalogue.vectors_ID
    assert torch.equal(vectors_BKD, vectors_ID[look.rows_BK])
    with torch.no_grad():
        inputs = learner.network.inputs(moments, vectors_ID, moments.history.items_BN)
        said_BK = learner.network.encoder.interact(inputs, look.query_BD, vectors_BKD)
    outputs_BKW = look.catalogue.outputs_IW[look.rows_BK]
    by_query_BK = torch.einsum("bkd,bd->bk", outputs_BKW[..., :-1], look.query_BD) + outputs_BKW[..., -1]
    # The query's logits are centred over all items: a moment's differences are what can be compared.
    rest_BK = look.residual_BK - said_BK - by_query_BK
    is_real_BK = look.rows_BK > 0
    for rest_K, is_real_K in zip(rest_BK, is_real_BK, strict=True):
        assert torch.allclose(rest_K[is_real_K], rest_K[is_real_K][0], atol=1e-4)
    assert said_BK[is_real_BK].std() > 1e-4
