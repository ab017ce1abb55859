"""Poison in loss, gradient or parameters: the step is left out whole, counted, and the next sound one works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from stream_rec.learning import trainer
from stream_rec.learning.learner import Learner
from tests.stream_rec.tiny_worlds import attributes, cycle, differing, learn, rich, small_settings

over_all_or_a_sample = pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])

# Where the gradients of a step lie: tables of items, users and attributes, then encoder, then gate.
PARTS = {"item_in": 0, "item_out": 1, "user_in": 2, "attribute_in": 3, "attribute_out": 4, "encoder": 5, "gate": -1}


def seasoned(full_softmax_max_items: int = 1_000) -> Learner:
    learner = Learner(small_settings(learning={"full_softmax_max_items": full_softmax_max_items}))
    learner.update_catalogue(attributes(20))
    learn(learner, cycle(256))
    return learner


def learnt(learner: Learner) -> dict[str, Any]:
    """Parameters, accumulators, Adam's moments and step counts."""
    state = learner.state()
    return {"network": state["network"], "encoder": state["trainer"]["encoder"], "gate": state["trainer"]["gate"]}


def check_left_out_and_recovers(learner: Learner, before: dict[str, Any], loss: float) -> None:
    """``loss`` is what the poisoned step returned; the next step is sound."""
    assert math.isnan(loss)
    assert learner.num_skipped == 1
    assert differing(before, learnt(learner)) == []
    blend = learner.blend.state()["ndcg"]
    assert torch.isfinite(blend).all()


def check_next_step_is_sound(learner: Learner) -> None:
    before = learnt(learner)
    steps = before["encoder"]["num_steps"].item()
    assert math.isfinite(learner.learn(learner.enter(cycle(64, seed=5))))
    assert learner.num_skipped == 1
    after = learnt(learner)
    changed = differing(before, after)
    assert {name.split(".")[0] for name in changed} == {"network", "encoder", "gate"}
    assert after["encoder"]["num_steps"].item() == steps + 1
    assert all(torch.isfinite(after[part]["parameters"]).all() for part in ("encoder", "gate"))


@over_all_or_a_sample
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", PARTS)
def test_a_poisoned_gradient_leaves_the_step_out(
    part: str, poison: float, full_softmax_max_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = seasoned(full_softmax_max_items)
    before = learnt(learner)
    grad = torch.autograd.grad

    def poisoned(loss: Tensor, parameters: Sequence[Tensor], **options: Any) -> list[Tensor]:
        gradients = list(grad(loss, parameters, **options))
        gradients[PARTS[part]].reshape(-1)[-1] = poison  # one number among thousands
        return gradients

    monkeypatch.setattr(torch.autograd, "grad", poisoned)
    loss = learner.learn(learner.enter(cycle(64, seed=4)))
    monkeypatch.undo()
    check_left_out_and_recovers(learner, before, loss)
    check_next_step_is_sound(learner)


@over_all_or_a_sample
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_poisoned_loss_leaves_the_step_out(
    poison: float, full_softmax_max_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss alone: its gradients stay finite."""
    learner = seasoned(full_softmax_max_items)
    before = learnt(learner)
    softmax_loss = trainer.softmax_loss
    monkeypatch.setattr(trainer, "softmax_loss", lambda *arguments: softmax_loss(*arguments) + poison)
    loss = learner.learn(learner.enter(cycle(64, seed=4)))
    monkeypatch.undo()
    check_left_out_and_recovers(learner, before, loss)
    check_next_step_is_sound(learner)


@over_all_or_a_sample
@pytest.mark.parametrize("table", ["item_in", "item_out", "user_in", "attribute_in", "attribute_out"])
def test_a_poisoned_row_spreads_to_no_other(table: str, full_softmax_max_items: int) -> None:
    """A bit flipped in memory, say. All lists may suffer, but no other parameter does; a repaired row works again."""
    learner = seasoned(full_softmax_max_items)
    weights = getattr(learner.network, table).weight_IW
    sound = weights[3, 2].clone()
    weights[3, 2] = math.nan
    before = learnt(learner)
    loss = learner.learn(learner.enter(cycle(64, seed=4)))
    check_left_out_and_recovers(learner, before, loss)
    weights[3, 2] = sound
    check_next_step_is_sound(learner)


def test_a_step_left_out_still_counts_its_events_in_statistics_and_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happened has happened: only the gradient is thrown away."""
    poisoned, sound = seasoned(), seasoned()
    softmax_loss = trainer.softmax_loss
    batch = cycle(64, seed=4)
    sound.learn(sound.enter(batch))
    monkeypatch.setattr(trainer, "softmax_loss", lambda *arguments: softmax_loss(*arguments) * math.nan)
    poisoned.learn(poisoned.enter(batch))
    assert poisoned.batch == sound.batch
    assert differing(poisoned.memory.state(), sound.memory.state()) == []
    assert differing(poisoned.trainer.sampler.state(), sound.trainer.sampler.state()) == []


def test_a_batch_in_which_nothing_counts_changes_no_row() -> None:
    learner = seasoned()
    before = learner.network.state(21, 41, learner.memory.catalogue.num_features)
    impressions = [event for event in rich(400) if event.type == "impression"][:64]
    assert learner.learn(learner.enter(impressions)) == 0.0
    assert learner.num_skipped == 0
    assert differing(before, learner.network.state(21, 41, learner.memory.catalogue.num_features)) == []


def test_rates_warm_up_and_stay() -> None:
    learner = Learner(small_settings(learning={"warmup_steps": 9, "dense_rate": 0.01}))
    rates = [learner.trainer.rates(batch) for batch in range(12)]
    assert [r["encoder"] for r in rates] == pytest.approx([0.001 * n for n in range(1, 11)] + [0.01] * 2)
    assert {r["gate"] for r in rates} == {0.01}
    assert {r["rows"] for r in rates} == {0.05}
