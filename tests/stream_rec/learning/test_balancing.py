"""Several losses made one: each a mean over its own events, weighted so that a rare task gets its say."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.learning.balancing import LIMIT, UncertaintyBalance, task_means
from stream_rec.learning.optimisers import AdamW
from tests.stream_rec.device_guards import OneDevice, no_waiting

META = torch.device("meta")
SOUND = torch.tensor(True)


# -- means ---------------------------------------------------------------------------------------------------------


def test_a_tasks_loss_is_the_mean_over_its_own_events() -> None:
    losses_BT = torch.tensor([[1.0, math.nan], [2.0, 8.0], [math.inf, 7.0], [6.0, 4.0]])
    weights_BT = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [2.0, 0.5]])
    means_T, counts_T = task_means(losses_BT, weights_BT)
    assert means_T.tolist() == pytest.approx([(1 + 2 + 12) / 4, (8 + 2) / 1.5])
    assert counts_T.tolist() == [4.0, 1.5]


def test_a_task_without_events_has_no_loss_and_no_gradient() -> None:
    losses_BT = torch.ones(3, 2, requires_grad=True)
    means_T, counts_T = task_means(losses_BT, torch.tensor([[1.0, 0.0]] * 3))
    assert (means_T.tolist(), counts_T.tolist()) == ([1.0, 0.0], [3.0, 0.0])
    (gradient_BT,) = torch.autograd.grad(means_T.sum(), losses_BT)
    assert gradient_BT[:, 1].tolist() == [0.0, 0.0, 0.0]


def test_how_often_a_task_occurs_does_not_decide_its_loss() -> None:
    losses_BT = torch.full((1_000, 2), 3.0)
    weights_BT = torch.stack([torch.ones(1_000), (torch.arange(1_000) == 500).float()], 1)
    assert task_means(losses_BT, weights_BT)[0].tolist() == [3.0, 3.0]


# -- weights -------------------------------------------------------------------------------------------------------


def settled(losses: list[float], num_steps: int = 2_500) -> UncertaintyBalance:
    """Losses that stay as they are; only the weights learn."""
    balance = UncertaintyBalance(len(losses))
    optimiser = AdamW(balance, weight_decay=0.0)
    for _ in range(num_steps):
        gradients = torch.autograd.grad(
            balance(torch.tensor(losses), torch.ones(len(losses))), list(balance.parameters())
        )
        optimiser.step(torch.cat(gradients), SOUND, rate=0.02)
    return balance


def test_it_begins_with_all_alike() -> None:
    assert UncertaintyBalance(3).weights().tolist() == [1.0, 1.0, 1.0]


def test_at_rest_every_task_has_the_same_say_whatever_the_size_of_its_loss() -> None:
    losses = [6.0, 0.7, 0.1]
    weights = settled(losses).weights().tolist()
    assert weights == pytest.approx([1 / (2 * loss) for loss in losses], rel=0.02)


def test_weights_stay_within_their_bounds() -> None:
    weights = settled([1e9, 0.0], 4_000).weights().tolist()
    assert math.exp(-LIMIT) <= weights[0] < 1.1 * math.exp(-LIMIT)
    assert 0.9 * math.exp(LIMIT) < weights[1] <= math.exp(LIMIT)


def test_an_absent_task_changes_neither_the_loss_nor_anything_by_its_gradient() -> None:
    balance = UncertaintyBalance(3)
    losses_T = torch.tensor([1.0, 2.0, math.nan], requires_grad=True)
    counts_T = torch.tensor([5.0, 1.0, 0.0])
    loss = balance(losses_T, counts_T)
    assert loss.item() == 3.0
    of_losses_T, of_variances_T = torch.autograd.grad(loss, [losses_T, balance.raw_T])
    assert of_losses_T.tolist() == [1.0, 1.0, 0.0]
    assert of_variances_T.tolist() == [-0.5, -1.5, 0.0]


def test_importance_multiplies_what_a_task_has_to_say() -> None:
    balance = UncertaintyBalance(2)
    counts_T = torch.ones(2)
    loss = balance(torch.tensor([2.0, 3.0]), counts_T, importance_T=torch.tensor([0.5, 4.0]))
    assert loss.item() == 13.0


def test_it_never_waits_and_runs_on_any_device() -> None:
    losses_BT, weights_BT = torch.ones(4, 2), torch.ones(4, 2)
    with no_waiting():
        UncertaintyBalance(2)(*task_means(losses_BT, weights_BT))
    with OneDevice(), META:
        balance = UncertaintyBalance(2)
        loss = balance(*task_means(losses_BT.to(META), weights_BT.to(META)))
        gradients = torch.autograd.grad(loss, list(balance.parameters()))
    assert {gradients[0].device.type, loss.device.type} == {"meta"}


# -- a rare task ---------------------------------------------------------------------------------------------------

BATCH, NUM_STEPS, EVERY = 512, 1_250, 1_000
WIDTH, NUM_CLASSES = 16, 16
Way = Literal["alone", "naive", "balanced"]


class TwoHeads(nn.Module):
    """A body so narrow that the heads have to share it: who has no say finds nothing of his in it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, 4)
        self.common = nn.Linear(4, NUM_CLASSES)
        self.rare = nn.Linear(4, 2)

    def losses_BT(self, inputs_BD: Tensor, common_B: Tensor, rare_B: Tensor) -> Tensor:
        hidden_BH = torch.tanh(self.body(inputs_BD))
        heads = ((self.common(hidden_BH), common_B), (self.rare(hidden_BH), rare_B))
        return torch.stack([F.cross_entropy(logits, target, reduction="none") for logits, target in heads], 1)


def world(num: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, one of 16 classes for the common task, yes or no for the rare one; what decides is the same always."""
    drawn, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    classes_DC = 1.5 * torch.randn(WIDTH, NUM_CLASSES, generator=fixed)
    rare_D = 1.5 * torch.randn(WIDTH, generator=fixed)
    inputs_BD = torch.randn(num, WIDTH, generator=drawn)
    common_B = torch.multinomial(torch.softmax(inputs_BD @ classes_DC, 1), 1, generator=drawn)[:, 0]
    rare_B = (torch.rand(num, generator=drawn) < torch.sigmoid(inputs_BD @ rare_D)).long()
    return inputs_BD, common_B, rare_B


@cache
def trained(way: Way) -> list[float]:
    """Log-loss of both tasks on fresh data, after a stream in which one event in a thousand is of the rare one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = TwoHeads()
    balance = UncertaintyBalance(2)
    optimiser, of_balance = AdamW(model, weight_decay=0.0), AdamW(balance, weight_decay=0.0)
    stream = world(NUM_STEPS * BATCH, 5)
    is_rare = (torch.arange(NUM_STEPS * BATCH) % EVERY == EVERY // 2).float()
    for step in range(NUM_STEPS):
        here = slice(step * BATCH, (step + 1) * BATCH)
        weights_BT = torch.stack([torch.full((BATCH,), float(way != "alone")), is_rare[here]], 1)
        losses_BT = model.losses_BT(*(part[here] for part in stream))
        means_T, counts_T = task_means(losses_BT, weights_BT)
        loss = balance(means_T, counts_T) if way == "balanced" else means_T.sum()
        if way == "naive":
            loss = (losses_BT * weights_BT).sum() / BATCH
        parameters = [*optimiser.parameters, *of_balance.parameters]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        optimiser.step(torch.cat([g.reshape(-1) for g in gradients[:-1]]), SOUND, rate=0.005)
        of_balance.step(gradients[-1], SOUND, rate=0.01)
    with torch.no_grad():
        return model.losses_BT(*world(20_000, 99)).mean(0).tolist()


def test_a_task_of_one_event_in_a_thousand_is_not_starved() -> None:
    """With 640 events in all it gets near what it reaches alone; summed up with the common one it learns nothing."""
    alone, naive, balanced = (trained(way)[1] for way in ("alone", "naive", "balanced"))
    assert alone < 0.35 < 0.6 < naive
    assert balanced - alone < 0.1 * (naive - alone)


def test_the_common_task_pays_a_share_for_it_not_all() -> None:
    """They share four numbers; it knows nothing at log 16 = 2.77."""
    naive, balanced = trained("naive")[0], trained("balanced")[0]
    assert naive < 1.8
    assert balanced - naive < 0.4 * (math.log(NUM_CLASSES) - naive)
