"""The optimisers against plain references."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stream_rec.learning.optimisers import AdamW
from stream_rec.learning.optimisers.adagrad import RowAdagrad
from stream_rec.models.items import RowTable
from tests.stream_rec.tiny_worlds import differing

CPU = torch.device("cpu")
SOUND, UNSOUND = torch.tensor(True), torch.tensor(False)


def filled_table(num_rows: int = 10, width: int = 4) -> RowTable:
    table = RowTable(num_rows, width, std=1.0, accumulator_start=0.3, device=CPU)
    table.reset(torch.arange(num_rows), torch.Generator().manual_seed(0))
    return table


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- row-wise Adagrad ----------------------------------------------------------------------------------------------


def plain_adagrad(
    weight: np.ndarray[Any, Any], accumulator: np.ndarray[Any, Any], row: int, gradient: np.ndarray[Any, Any]
) -> None:
    """One row, rate 0.05, accumulator kept by 0.9 at each touch."""
    accumulator[row] = 0.9 * accumulator[row] + np.mean(gradient**2)
    weight[row] -= 0.05 * gradient / math.sqrt(accumulator[row])


def test_row_wise_adagrad_equals_a_plain_reference() -> None:
    table = filled_table()
    weight, accumulator = table.weight_IW.double().numpy(), table.accumulator_I.double().numpy()
    for step in range(30):
        rows = torch.randperm(9, generator=torch.Generator().manual_seed(step))[:5] + 1
        gradients = some(5, 4, seed=step) * 10.0 ** (step % 4 - 2)
        RowAdagrad(retention=0.9).step(table, rows, gradients, SOUND, rate=0.05)
        for row, gradient in zip(rows.tolist(), gradients.double().numpy(), strict=True):
            plain_adagrad(weight, accumulator, row, gradient)
    np.testing.assert_allclose(table.weight_IW.numpy(), weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table.accumulator_I.numpy(), accumulator, rtol=1e-5)


def test_all_rows_as_a_slice_are_the_same_as_all_rows_by_number() -> None:
    by_slice, by_number = filled_table(), filled_table()
    for step in range(3):
        RowAdagrad(retention=0.99).step(by_slice, slice(0, 8), some(8, 4, seed=step), SOUND, rate=0.05)
        RowAdagrad(retention=0.99).step(by_number, torch.arange(8), some(8, 4, seed=step), SOUND, rate=0.05)
    assert differing(by_slice.state(10), by_number.state(10)) == []


def test_rows_without_gradient_stay_bit_for_bit_and_do_not_forget() -> None:
    """Not touched by decay either: an old item's accumulator is that of its last touch."""
    table = filled_table()
    before = table.state(10)
    gradients = some(6, 4)
    gradients[[1, 4]] = 0.0
    gradients[5] = -0.0
    RowAdagrad(retention=0.5).step(table, torch.tensor([2, 3, 5, 7, 8, 9]), gradients, SOUND, rate=0.05)
    after = table.state(10)
    moved = [row for row in range(10) if not torch.equal(before["weight"][row], after["weight"][row])]
    forgot = [row for row in range(10) if before["accumulator"][row] != after["accumulator"][row]]
    assert moved == forgot == [2, 5, 7]


def test_an_unsound_step_moves_no_row_whatever_its_gradient() -> None:
    table = filled_table()
    before = table.state(10)
    gradients = some(3, 4)
    gradients[0, 1], gradients[1, 2] = math.nan, math.inf
    RowAdagrad(retention=0.9).step(table, torch.tensor([1, 2, 3]), gradients, UNSOUND, rate=0.05)
    assert differing(before, table.state(10)) == []


def test_fillers_write_to_row_0_what_its_own_gradient_says() -> None:
    """A working set is filled up with row 0; which of several writes to it stays must not matter."""
    filled, plain = filled_table(), filled_table()
    gradients = some(3, 4)
    padded = torch.cat([gradients, torch.zeros(4, 4)])
    RowAdagrad(retention=0.9).step(filled, torch.tensor([0, 3, 5, 0, 0, 0, 0]), padded, SOUND, rate=0.05)
    RowAdagrad(retention=0.9).step(plain, torch.tensor([0, 3, 5]), gradients, SOUND, rate=0.05)
    assert differing(filled.state(10), plain.state(10)) == []
    assert not torch.equal(filled.weight_IW[0], filled_table().weight_IW[0])


def test_an_accumulator_that_forgets_lets_an_old_row_move_again() -> None:
    """After a thousand touches a step is as large as after a hundred; without forgetting it shrinks for ever."""

    def last_step(num_touches: int, retention: float) -> float:
        table = filled_table(2, 1)
        for _ in range(num_touches):
            before = table.weight_IW[1].clone()
            RowAdagrad(retention=retention).step(table, torch.tensor([1]), torch.ones(1, 1), SOUND, rate=0.05)
        return float((before - table.weight_IW[1]).abs())

    assert last_step(1_000, 0.95) == pytest.approx(last_step(100, 0.95), rel=0.01)
    assert last_step(1_000, 1.0) < 0.4 * last_step(100, 1.0)


# -- AdamW ---------------------------------------------------------------------------------------------------------


def made_module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 2))


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_equals_torch_over_20_steps(weight_decay: float) -> None:
    ours, theirs = made_module(), made_module()
    optimiser = AdamW(ours, weight_decay=weight_decay)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.0, weight_decay=weight_decay)
    for step in range(20):
        rate = 0.01 * min(1.0, (step + 1) / 5)
        inputs = some(16, 5, seed=step)
        gradients = torch.autograd.grad(ours(inputs).square().sum(), optimiser.parameters)
        optimiser.step(flat(list(gradients)), SOUND, rate=rate)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        theirs(inputs).square().sum().backward()
        reference.step()
    expected = flat(list(theirs.parameters()))
    assert not torch.allclose(expected, flat(list(made_module().parameters())), atol=1e-2)
    assert torch.allclose(flat(list(ours.parameters())), expected, rtol=1e-4, atol=1e-6)


def test_the_modules_parameters_are_the_flat_copy() -> None:
    module = made_module()
    before = module(some(3, 5))
    optimiser = AdamW(module, weight_decay=0.0)
    assert torch.equal(module(some(3, 5)), before)
    optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=0.1)
    assert torch.equal(flat(list(module.parameters())), optimiser.flat_P)
    assert not torch.equal(module(some(3, 5)), before)


def test_an_unsound_adamw_step_leaves_parameters_moments_and_count_bit_for_bit() -> None:
    optimiser = AdamW(made_module(), weight_decay=0.1)
    optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=0.1)
    before = optimiser.state()
    optimiser.step(torch.full_like(optimiser.flat_P, math.nan), UNSOUND, rate=0.1)
    assert differing(before, optimiser.state()) == []
    optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=0.1)
    assert sorted(differing(before, optimiser.state())) == ["mean", "num_steps", "parameters", "square"]


def test_a_restored_adamw_goes_on_as_the_first_would() -> None:
    first, second = AdamW(made_module(), weight_decay=0.1), AdamW(made_module(), weight_decay=0.1)
    for step in range(3):
        first.step(some(len(first.flat_P), seed=step), SOUND, rate=0.1)
    second.load_state(first.state())
    for optimiser in (first, second):
        optimiser.step(some(len(first.flat_P), seed=9), SOUND, rate=0.1)
    assert differing(first.state(), second.state()) == []


def test_the_state_of_another_model_is_refused() -> None:
    small, large = AdamW(nn.Linear(2, 2), weight_decay=0.0), AdamW(nn.Linear(3, 3), weight_decay=0.0)
    with pytest.raises(ValueError, match="6 parameters where the model has 12"):
        large.load_state(small.state())
