"""What every optimiser must do, row-wise or dense, whatever its name. All are checked in one go."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from stream_rec.config import LearningSettings
from stream_rec.learning.optimisers import DenseOptimiser, RowOptimiser, make_dense_optimiser, make_row_optimiser
from stream_rec.learning.optimisers.registry import DENSE_OPTIMISERS, ROW_OPTIMISERS
from stream_rec.models.items import RowTable
from tests.stream_rec.device_guards import OneDevice, no_waiting
from tests.stream_rec.tiny_worlds import differing

CPU, META = torch.device("cpu"), torch.device("meta")
SOUND, UNSOUND = torch.tensor(True), torch.tensor(False)
over_rows = pytest.mark.parametrize("name", ROW_OPTIMISERS)
over_dense = pytest.mark.parametrize("name", DENSE_OPTIMISERS)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made_table(num_rows: int = 10, width: int = 4) -> RowTable:
    table = RowTable(num_rows, width, std=1.0, accumulator_start=0.3, device=CPU)
    table.reset(torch.arange(num_rows), torch.Generator().manual_seed(0))
    return table


def row_optimiser(name: str, **settings: Any) -> RowOptimiser:
    return make_row_optimiser(LearningSettings.model_validate({"row_optimiser": name} | settings))


def dense_optimiser(name: str, module: nn.Module, weight_decay: float = 0.1) -> DenseOptimiser:
    return make_dense_optimiser(
        LearningSettings.model_validate({"dense_optimiser": name}), module, weight_decay=weight_decay
    )


def made_module(device: torch.device = CPU) -> nn.Module:
    with torch.random.fork_rng(), device:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 2))


# -- rows ----------------------------------------------------------------------------------------------------------


def season(optimiser: RowOptimiser, table: RowTable, *, first: int = 0, num_steps: int = 5) -> None:
    """Steps that touch some rows below 8 each."""
    for step in range(first, first + num_steps):
        rows = torch.randperm(7, generator=torch.Generator().manual_seed(step))[:4] + 1
        optimiser.step(table, rows, some(4, table.weight_IW.shape[1], seed=step), SOUND, rate=0.05)


TORCH_ROWS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "adagrad": lambda rows: torch.optim.Adagrad(rows, lr=0.05, eps=0.0, initial_accumulator_value=0.3),
    "sgd": lambda rows: torch.optim.SGD(rows, lr=0.05),
    "adam": lambda rows: torch.optim.Adam(rows, lr=0.05),
    "rmsprop": lambda rows: torch.optim.RMSprop(rows, lr=0.05),
}


def test_every_row_optimiser_has_its_reference() -> None:
    assert TORCH_ROWS.keys() == ROW_OPTIMISERS.keys()


@pytest.mark.parametrize(("name", "width"), [*((name, 1) for name in ROW_OPTIMISERS), ("sgd", 3), ("adam", 3)])
def test_each_row_moves_as_under_an_optimiser_of_torch_that_has_it_alone(name: str, width: int) -> None:
    """Row-wise ones where a mean over the row is the number itself. A row that is not touched takes no step there."""
    table = made_table(width=width)
    rows = [table.weight_IW[row].clone().requires_grad_() for row in range(10)]
    references = [TORCH_ROWS[name]([row]) for row in rows]
    optimiser = row_optimiser(name, row_accumulator_half_life_steps=1e12)
    for step in range(40):
        touched = torch.randperm(10, generator=torch.Generator().manual_seed(step))[:4].sort().values
        gradients = some(4, width, seed=step) * 10.0 ** (step % 4 - 2)
        optimiser.step(table, touched, gradients, SOUND, rate=0.05)
        for row, gradient in zip(touched.tolist(), gradients, strict=True):
            rows[row].grad = gradient
            references[row].step()
    expected = torch.stack(rows).detach()
    assert (expected - made_table(width=width).weight_IW).abs().min() > 1e-3
    torch.testing.assert_close(table.weight_IW, expected, rtol=1e-6, atol=1e-6)


@over_rows
def test_rows_learn(name: str) -> None:
    """A row is pulled to its target, from gradients that come in turns."""
    table, target = made_table(), some(10, 4, seed=7)
    rate = 0.2 if name == "adagrad" else 0.05
    before = (table.weight_IW - target).square().mean()
    for step in range(300):
        rows = torch.tensor([1, 2, 3] if step % 2 else [3, 4, 5])
        row_optimiser(name).step(table, rows, table.weight_IW[rows] - target[rows], SOUND, rate=rate)
    after = (table.weight_IW - target)[1:6].square().mean()
    assert after < 0.05 * before


@over_rows
def test_rows_that_are_not_named_or_have_no_gradient_stay_bit_for_bit(name: str) -> None:
    table, optimiser = made_table(), row_optimiser(name, row_l2=0.1)
    season(optimiser, table)
    before = table.state(10)
    gradients = some(6, 4)
    gradients[[1, 4]] = 0.0
    gradients[5] = -0.0
    optimiser.step(table, torch.tensor([2, 3, 5, 7, 8, 9]), gradients, SOUND, rate=0.05)
    after = table.state(10)
    for left, right in zip(leaves(before), leaves(after), strict=True):
        changed = (left != right).reshape(10, -1).any(1).nonzero()[:, 0].tolist()
        assert changed == [2, 5, 7] or (changed == [] and name in ("sgd", "adam", "rmsprop"))
    assert not torch.equal(before["weight"], after["weight"])


def leaves(state: dict[str, Any]) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(state)[0] if isinstance(leaf, Tensor)]


@over_rows
@pytest.mark.parametrize("rows", [torch.tensor([1, 2, 3]), slice(1, 4)], ids=["numbers", "slice"])
def test_an_unsound_row_step_changes_nothing_whatever_its_gradient(name: str, rows: Tensor | slice) -> None:
    table, optimiser = made_table(), row_optimiser(name, row_l2=0.1)
    season(optimiser, table)
    before = table.state(10)
    gradients = some(3, 4)
    gradients[0, 1], gradients[1, 2] = math.nan, math.inf
    optimiser.step(table, rows, gradients, UNSOUND, rate=0.05)
    assert differing(before, table.state(10)) == []


@over_rows
def test_fillers_are_row_0_whatever_stands_in_them(name: str) -> None:
    filled, plain, optimiser = made_table(), made_table(), row_optimiser(name, row_l2=0.1)
    for step in range(3):
        gradients = some(3, 4, seed=step)
        padded = torch.cat([gradients, some(4, 4, seed=9)])
        optimiser.step(filled, torch.tensor([0, 3, 5, 0, 0, 0, 0]), padded, SOUND, rate=0.05)
        optimiser.step(plain, torch.tensor([0, 3, 5]), gradients, SOUND, rate=0.05)
    assert differing(filled.state(10), plain.state(10)) == []


@over_rows
def test_rows_by_slice_are_the_same_as_by_number(name: str) -> None:
    by_slice, by_number, optimiser = made_table(), made_table(), row_optimiser(name, row_l2=0.1)
    for step in range(3):
        optimiser.step(by_slice, slice(0, 8), some(8, 4, seed=step), SOUND, rate=0.05)
        optimiser.step(by_number, torch.arange(8), some(8, 4, seed=step), SOUND, rate=0.05)
    assert differing(by_slice.state(10), by_number.state(10)) == []


@over_rows
def test_a_restored_table_goes_on_as_the_first_would(name: str) -> None:
    first, second = made_table(), RowTable(10, 4, std=1.0, accumulator_start=0.3, device=CPU)
    season(row_optimiser(name), first)
    second.load_state(first.state(10))
    for table in (first, second):
        season(row_optimiser(name), table, first=5)
    assert differing(first.state(10), second.state(10)) == []


@over_rows
def test_a_new_owner_of_a_row_inherits_nothing(name: str) -> None:
    used, fresh, optimiser = made_table(), made_table(), row_optimiser(name)
    season(optimiser, used)
    season(optimiser, fresh, num_steps=0)
    for table in (used, fresh):
        table.reset(torch.tensor([3, 4]), torch.Generator().manual_seed(8))
        for step in range(3):
            optimiser.step(table, torch.tensor([3, 4]), some(2, 4, seed=step), SOUND, rate=0.05)
    for left, right in zip(leaves(used.state(10)), leaves(fresh.state(10)), strict=True):
        assert torch.equal(left[3:5], right[3:5])


@over_rows
def test_l2_draws_the_touched_rows_to_zero(name: str) -> None:
    """As if the penalty stood in the loss: the gradient that it has is added before the algorithm sees it."""
    with_l2, by_hand = made_table(), made_table()
    rows = torch.tensor([1, 4])
    for step in range(5):
        gradients = some(2, 4, seed=step)
        penalty = 0.1 * by_hand.weight_IW[rows]
        row_optimiser(name, row_l2=0.1).step(with_l2, rows, gradients, SOUND, rate=0.05)
        row_optimiser(name).step(by_hand, rows, gradients + penalty, SOUND, rate=0.05)
    assert differing(with_l2.state(10), by_hand.state(10)) == []


class Work(TorchDispatchMode):
    """Counts the numbers that operations write; a view writes none."""

    def __init__(self) -> None:
        super().__init__()
        self.num_written = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("index_put_", "_index_put_impl_"):
            self.num_written += args[2].numel()
        elif not func.is_view:
            self.num_written += sum(leaf.numel() for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))
        return result


def work(name: str, num_rows_of_table: int, num_rows: int) -> int:
    table, optimiser = made_table(num_rows_of_table), row_optimiser(name, row_l2=0.1)
    season(optimiser, table)  # slots are made here, once
    with Work() as counted:
        optimiser.step(table, torch.arange(num_rows), some(num_rows, 4), SOUND, rate=0.05)
    return counted.num_written


@over_rows
def test_the_cost_of_a_step_follows_the_rows_and_not_the_table(name: str) -> None:
    assert work(name, 50, 40) == work(name, 5_000, 40)
    assert 1.8 < work(name, 50, 40) / work(name, 50, 20) < 2.2


@over_rows
def test_row_steps_run_without_waiting_and_on_any_device(name: str) -> None:
    optimiser = row_optimiser(name, row_l2=0.1)
    with no_waiting():
        season(optimiser, made_table())
    table = RowTable(10, 4, std=1.0, accumulator_start=0.3, device=META)
    with OneDevice():
        sound = torch.ones((), dtype=torch.bool, device=META)
        for rows in (torch.arange(3, device=META), slice(0, 3)):
            optimiser.step(table, rows, torch.zeros(3, 4, device=META), sound, rate=0.05)
        optimiser.soften(table, 10, 0.1)
    assert {leaf.device.type for leaf in leaves(table.state(10))} == {"meta"}


@over_rows
def test_a_rate_on_the_device_is_the_same_as_on_the_host(name: str) -> None:
    on_host, on_device = made_table(), made_table()
    for table, rate in ((on_host, 0.0625), (on_device, torch.tensor(0.0625))):
        row_optimiser(name).step(table, torch.arange(4), some(4, 4), SOUND, rate=rate)
    assert differing(on_host.state(10), on_device.state(10)) == []


@over_rows
def test_softening_moves_no_weight_and_only_lets_rows_move_further(name: str) -> None:
    table, optimiser = made_table(), row_optimiser(name)
    season(optimiser, table, num_steps=40)
    soft = made_table()
    soft.load_state(table.state(10))
    optimiser.soften(soft, 8, 0.1)
    assert torch.equal(soft.weight_IW, table.weight_IW)
    steps = []
    for one in (table, soft):
        before = one.weight_IW.clone()
        optimiser.step(one, torch.arange(1, 8), some(7, 4, seed=99), SOUND, rate=0.05)
        steps.append((one.weight_IW - before).abs()[1:8])
    if name == "adagrad":
        assert (steps[1] > 1.5 * steps[0]).all()
    else:
        assert torch.equal(*steps)


def test_softened_accumulators_stop_at_their_start_and_never_rise() -> None:
    table = made_table(5)
    table.accumulator_I.copy_(torch.tensor([9.0, 2.0, 0.3, 0.1, 9.0]))
    table.soften(4, 0.1)
    torch.testing.assert_close(table.accumulator_I, torch.tensor([0.9, 0.3, 0.3, 0.1, 9.0]))


# -- dense ---------------------------------------------------------------------------------------------------------

TORCH_DENSE: dict[str, Callable[[nn.Module, float], torch.optim.Optimizer]] = {
    "adamw": lambda module, decay: torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=decay),
    "adam": lambda module, decay: torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=decay),
    "sgd": lambda module, decay: torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=decay),
    "adagrad": lambda module, decay: torch.optim.Adagrad(module.parameters(), lr=0.01, weight_decay=decay),
    "rmsprop": lambda module, decay: torch.optim.RMSprop(module.parameters(), lr=0.01, weight_decay=decay),
}


def test_every_dense_optimiser_has_its_reference_save_lion() -> None:
    assert TORCH_DENSE.keys() | {"lion"} == DENSE_OPTIMISERS.keys()
    assert not hasattr(torch.optim, "Lion")  # once it has: compare


@pytest.mark.parametrize("name", TORCH_DENSE)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_dense_steps_are_those_of_torch(name: str, weight_decay: float) -> None:
    ours, theirs = made_module(), made_module()
    optimiser = dense_optimiser(name, ours, weight_decay)
    reference = TORCH_DENSE[name](theirs, weight_decay)
    for step in range(30):
        grad_P = some(optimiser.flat_P.numel(), seed=step) * 10.0 ** (step % 4 - 2)
        start = 0
        for parameter in theirs.parameters():
            parameter.grad = grad_P[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        optimiser.step(grad_P, SOUND, rate=0.01)
        reference.step()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in theirs.parameters()])
    first = torch.cat([parameter.detach().reshape(-1) for parameter in made_module().parameters()])
    assert (expected - first).abs().mean() > 0.01
    torch.testing.assert_close(optimiser.flat_P, expected, rtol=1e-6, atol=1e-6)


def test_lion_is_that_of_its_paper() -> None:
    """Algorithm 2 of Chen et al., number by number."""
    optimiser = dense_optimiser("lion", made_module(), 0.1)
    weights, momenta = optimiser.flat_P.tolist(), [0.0] * optimiser.flat_P.numel()
    for step in range(30):
        grad_P = some(len(weights), seed=step)
        for n, gradient in enumerate(grad_P.tolist()):
            sign = math.copysign(1.0, 0.9 * momenta[n] + 0.1 * gradient)
            weights[n] -= 0.01 * (sign + 0.1 * weights[n])
            momenta[n] = 0.99 * momenta[n] + 0.01 * gradient
        optimiser.step(grad_P, SOUND, rate=0.01)
    torch.testing.assert_close(optimiser.flat_P, torch.tensor(weights), rtol=1e-5, atol=1e-5)


@over_dense
def test_dense_parameters_learn(name: str) -> None:
    torch.manual_seed(0)
    module = nn.Linear(5, 1)
    optimiser = dense_optimiser(name, module, 0.0)
    inputs, target = some(64, 5), some(64, 5) @ torch.tensor([[1.0], [-1.0], [0.5], [0.0], [0.2]]) + 0.3

    def loss() -> Tensor:
        return (module(inputs) - target).square().mean()

    before = loss().item()
    for _ in range(300):
        gradients = torch.autograd.grad(loss(), optimiser.parameters)
        grad_P = torch.cat([gradient.reshape(-1) for gradient in gradients])
        optimiser.step(grad_P, SOUND, rate=0.1 if name == "adagrad" else 0.01)
    assert loss().item() < 0.02 * before


@over_dense
def test_an_unsound_dense_step_changes_nothing(name: str) -> None:
    optimiser = dense_optimiser(name, made_module())
    optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=0.1)
    before = optimiser.state()
    optimiser.step(torch.full_like(optimiser.flat_P, math.nan), UNSOUND, rate=0.1)
    assert differing(before, optimiser.state()) == []
    optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=0.1)
    assert sorted(differing(before, optimiser.state())) == sorted(before)


@over_dense
def test_a_restored_dense_optimiser_goes_on_as_the_first_would(name: str) -> None:
    first, second = dense_optimiser(name, made_module()), dense_optimiser(name, made_module())
    for step in range(3):
        first.step(some(first.flat_P.numel(), seed=step), SOUND, rate=0.1)
    second.load_state(first.state())
    for optimiser in (first, second):
        optimiser.step(some(first.flat_P.numel(), seed=9), SOUND, rate=0.1)
    assert differing(first.state(), second.state()) == []
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in second.parameters]), second.flat_P)


@over_dense
def test_dense_steps_run_without_waiting_and_on_any_device(name: str) -> None:
    optimiser = dense_optimiser(name, made_module())
    with no_waiting():
        optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=0.1)
    optimiser = dense_optimiser(name, made_module(META))
    with OneDevice():
        sound = torch.ones((), dtype=torch.bool, device=META)
        optimiser.step(torch.ones_like(optimiser.flat_P), sound, rate=0.1)
    assert {leaf.device.type for leaf in leaves(optimiser.state())} == {"meta"}


@over_dense
def test_a_step_writes_where_its_tensors_are(name: str) -> None:
    """A captured step finds parameters and moments at the addresses that it was captured with."""
    optimiser = dense_optimiser(name, made_module())
    slots = {slot: tensor.data_ptr() for slot, tensor in optimiser._slots.items()}
    address = optimiser.flat_P.data_ptr()
    optimiser.step(torch.ones_like(optimiser.flat_P), SOUND, rate=torch.tensor(0.1))
    assert {slot: tensor.data_ptr() for slot, tensor in optimiser._slots.items()} == slots
    assert optimiser.flat_P.data_ptr() == address


@over_dense
def test_the_state_of_another_algorithm_gives_its_parameters(name: str) -> None:
    """Moments that both know go over with their count; others begin anew, count and all."""
    adamw, other = dense_optimiser("adamw", made_module()), dense_optimiser(name, made_module())
    for step in range(3):
        adamw.step(some(adamw.flat_P.numel(), seed=step), SOUND, rate=0.1)
    other.load_state(adamw.state())
    assert torch.equal(other.flat_P, adamw.flat_P)
    shared = set(other.slots) <= {"mean", "square"}
    assert other.state()["num_steps"].item() == (3 if shared else 0)
