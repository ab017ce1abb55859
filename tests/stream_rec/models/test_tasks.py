"""Heads on a shared body: averages that are known at once, losses against them, and what a list takes from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_rec.models.task_averages import CLIP, HALF_LIFE_EVENTS, MEMORY, SHRINK, RowAverages, TaskScales
from stream_rec.models.tasks import TaskHeads
from stream_rec.settings_tasks import TaskSettings

NAN = math.nan
HAPPENS_AND_VALUE = torch.tensor([False, True])


def heads(dimension: int = 4, **tasks: dict[str, Any]) -> TaskHeads:
    chosen = {name: TaskSettings.model_validate(task) for name, task in tasks.items()}
    return TaskHeads(chosen, dimension, max_items=9, max_users=9)


def nobody(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def observed(*batches: list[list[float]]) -> TaskScales:
    scales = TaskScales(HAPPENS_AND_VALUE)
    for batch in batches:
        scales.observe(torch.tensor(batch))
    return scales


# -- averages ------------------------------------------------------------------------------------------------------


def test_the_first_batches_count_as_in_a_plain_mean() -> None:
    rng = np.random.default_rng(0)
    values, said = rng.normal(7.0, 3.0, 300), rng.random(300) < 0.3
    labels = np.stack([rng.random(300) < 0.1, np.where(said, values, NAN)], 1)
    scales = observed(*(labels[start : start + 20].tolist() for start in range(0, 300, 20)))
    state = scales.state()
    assert state["mean"].tolist() == pytest.approx([labels[:, 0].mean(), values[said].mean()], rel=0.01)
    assert state["variance"][1].item() == pytest.approx(values[said].var(), rel=0.02)
    assert scales.chance()[0].item() == pytest.approx((labels[:, 0].sum() + 0.5) / 301, rel=0.02)


def test_averages_follow_the_stream_by_the_tasks_own_events() -> None:
    """A task that says nothing for a day has forgotten nothing."""
    scales = observed([[0.0, 10.0]] * 1_000)
    for _ in range(int(HALF_LIFE_EVENTS) // 1_000):
        scales.observe(torch.tensor([[1.0, NAN]] * 1_000))
    happens, value = scales.state()["mean"].tolist()
    assert happens > 0.95
    assert value == 10.0
    for _ in range(int(HALF_LIFE_EVENTS) // 1_000 * 8):
        scales.observe(torch.tensor([[0.0, 20.0]] * 1_000))
    happens, value = scales.state()["mean"].tolist()
    assert happens < 0.05
    assert value > 19.5


def test_what_has_never_happened_has_a_small_chance_and_what_was_never_said_is_even() -> None:
    assert observed([[NAN, NAN]]).chance()[0].item() == 0.5
    assert observed([[0.0, NAN]] * 999).chance()[0].item() == pytest.approx(0.5 / 1_000)
    assert observed([[1.0, NAN]] * 999).chance()[0].item() == pytest.approx(1 - 0.5 / 1_000)
    assert torch.isfinite(observed([[NAN, NAN]]).log_odds()).all()


def test_values_are_standardised_and_clipped_and_what_happens_is_left_alone() -> None:
    scales = observed([[1.0, 2.0], [0.0, 6.0]])
    standard = scales.standardised(torch.tensor([[1.0, 6.0], [0.0, 1e9], [1.0, -1e9]])).tolist()
    assert standard == [[1.0, pytest.approx(1.0, rel=1e-4)], [0.0, CLIP], [1.0, -CLIP]]


def test_values_that_are_all_alike_or_beyond_reason_give_no_noise() -> None:
    alike = observed([[0.0, 3e7]] * 7, [[0.0, 3e7 + 2]] * 9)
    assert alike.standardised(torch.tensor([[0.0, 3e7]])).abs().max() < 0.01
    absurd = observed([[0.0, 1e15], [0.0, -1e15]])
    assert absurd.standardised(torch.tensor([[0.0, 1e15]]))[0, 1].item() == pytest.approx(1.0)


def test_averages_survive_a_restart() -> None:
    scales, again = observed([[1.0, 2.0], [0.0, 6.0]]), TaskScales(HAPPENS_AND_VALUE)
    again.load_state(scales.state())
    for each in (scales, again):
        each.observe(torch.tensor([[0.0, 3.0]]))
    assert {name: value.tolist() for name, value in scales.state().items()} == {
        name: value.tolist() for name, value in again.state().items()
    }


# -- averages of rows ----------------------------------------------------------------------------------------------


def test_a_rows_average_is_shrunk_towards_everybodys() -> None:
    scales = observed([[1.0, 10.0], [0.0, 20.0], [0.0, 12.0], [0.0, 18.0]])
    rows = RowAverages(5, 2, torch.device("cpu"))
    rows.observe(torch.tensor([3, 3, 2, 3]), torch.tensor([[1.0, 20.0], [1.0, NAN], [0.0, NAN], [0.0, 20.0]]))
    offsets_RT = rows.offsets(torch.tensor([[3, 2], [1, 0]]), scales)
    chance, mean, deviation = 1.5 / 5, 15.0, math.sqrt(17.0)

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    expected = [
        [log_odds((2 + SHRINK * chance) / (3 + SHRINK)) - log_odds(chance), 2 * (20 - mean) / (2 + SHRINK) / deviation],
        [log_odds(SHRINK * chance / (1 + SHRINK)) - log_odds(chance), 0.0],
    ]
    assert offsets_RT[0].tolist() == [pytest.approx(row, rel=1e-4) for row in expected]
    assert offsets_RT[1].abs().max() < 1e-6


def test_rows_follow_their_newest_events_and_row_0_is_nobody() -> None:
    rows = RowAverages(3, 1, torch.device("cpu"))
    for label in (0.0, 1.0):
        for _ in range(int(5 * MEMORY) // 100):
            rows.observe(torch.tensor([1, 0]).repeat(100), torch.full((200, 1), label))
    state = rows.state(3)
    assert state["counts"][:, 0].tolist() == [0.0, pytest.approx(MEMORY), 0.0]
    assert state["sums"][1, 0].item() > 0.98 * MEMORY
    rows.forget(torch.tensor([1]))
    assert rows.state(3)["counts"].abs().sum().item() == 0.0


def test_averages_are_said_before_anything_is_learnt() -> None:
    both = heads(4, a={}, b={"kind": "value"})
    labels_BT = torch.tensor([[1.0, 5.0]] * 4 + [[0.0, 1.0]] * 4)
    both.scales.observe(labels_BT)
    items_B = torch.tensor([1] * 4 + [2] * 4)
    both.observe(labels_BT, torch.tensor([3] * 4 + [0] * 4), items_B)
    scores_BKT = both(torch.zeros(2, 4), torch.zeros(2, 2, 4), torch.tensor([0, 3]), torch.tensor([[1, 2]] * 2))
    assert torch.equal(scores_BKT[1] - scores_BKT[0], both.users.offsets(torch.tensor([3, 3]), both.scales))
    assert (scores_BKT[0, 0] > 0.2).all()
    assert (scores_BKT[0, 1] < -0.2).all()


# -- heads ---------------------------------------------------------------------------------------------------------


def test_a_score_is_bilinear_in_query_and_item_with_what_each_says_alone() -> None:
    both = heads(3, a={}, b={"kind": "value"})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        both.weight.copy_(torch.randn(both.weight.shape, generator=generator))
        both.bias.copy_(torch.randn(both.bias.shape, generator=generator))
    query_BD, vectors_BKD = torch.randn(2, 3, generator=generator), torch.randn(2, 5, 3, generator=generator)
    scores_BKT = both(query_BD, vectors_BKD, nobody(2), nobody(2, 5))
    for b, k, t in np.ndindex(2, 5, 2):
        map_WD, bias_W = both.weight.view(2, 4, 3)[t], both.bias.view(2, 4)[t]
        expected = (map_WD @ query_BD[b] + bias_W) @ torch.cat([vectors_BKD[b, k], torch.ones(1)])
        assert scores_BKT[b, k, t].item() == pytest.approx(expected.item(), rel=1e-5)


def test_at_the_start_the_average_is_said_and_costs_what_a_constant_costs() -> None:
    both = heads(4, a={}, b={"kind": "value"})
    labels_BT = torch.tensor([[1.0, 1.0], [0.0, 5.0], [0.0, 9.0], [0.0, NAN]])
    both.scales.observe(labels_BT)
    scores_BT = both(torch.randn(4, 4), torch.randn(4, 1, 4), nobody(4), nobody(4, 1))[:, 0]
    losses_BT = both.losses(scores_BT, labels_BT)
    assert torch.isfinite(losses_BT).all()
    chance = 1.5 / 5
    expected = -(math.log(chance) + 3 * math.log(1 - chance)) / 4
    assert losses_BT[:, 0].mean().item() == pytest.approx(expected)
    assert losses_BT[:3, 1].mean().item() == pytest.approx(0.5, rel=1e-4)
    entropy = -(chance * math.log(chance) + (1 - chance) * math.log(1 - chance))
    assert both.scales.constant_loss().tolist() == pytest.approx([entropy, 0.5])


def test_a_promise_is_a_chance() -> None:
    """That it happens; that a value of variance one about what is expected comes out above the average, 0."""
    both = heads(4, a={}, b={"kind": "value"})
    both.scales.observe(torch.tensor([[1.0, 2.0], *[[0.0, 4.0]] * 9]))
    scores_BKT = torch.tensor([[[0.0, 0.0], [2.0, 1.0], [-2.0, -1.0]]])
    happens, value = both.promise(scores_BKT)[0].T.tolist()
    odds = 1.5 / 9.5
    assert happens == pytest.approx([odds * math.exp(s) / (1 + odds * math.exp(s)) for s in (0, 2, -2)])
    assert value == pytest.approx([0.5, 0.8413, 0.1587], abs=1e-4)


def worth_of(scores_BKT: Tensor, *weights: float) -> list[float]:
    tasks = heads(4, **{f"t{n}": {"weight": weight, "kind": "value"} for n, weight in enumerate(weights)})
    return tasks.log_worth(scores_BKT)[0].exp().tolist()


def test_taking_an_item_is_worth_one_and_each_task_adds_its_weighted_promise() -> None:
    scores_BKT = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert worth_of(scores_BKT, 0.0, 0.0) == [1.0, 1.0]
    assert worth_of(scores_BKT, 4.0, 0.0) == pytest.approx([1 + 4 * 0.5, 1 + 4 * 0.8413], abs=1e-3)
    assert worth_of(scores_BKT, 4.0, 2.0) == pytest.approx([1 + 2 + 2 * 0.8413, 1 + 4 * 0.8413 + 1], abs=1e-3)


def test_whether_a_list_needs_them_is_known_beforehand() -> None:
    assert not heads(4, a={}, b={}).is_weighted
    assert heads(4, a={}, b={"weight": 0.1}).is_weighted
