"""Learning against a sample of the items: the working set, the negatives, and the gradient they give."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stream_rec.learning.columns import Columns, choose_columns, distinct
from stream_rec.learning.learner import Learner
from stream_rec.learning.negatives import NUM_RECENT, NegativeSampler
from stream_rec.learning.objectives import mixture_loss, softmax_loss
from stream_rec.records import Event
from tests.stream_rec.tiny_worlds import START_MS, differing, learn, rich, small_settings

CPU = torch.device("cpu")


# -- the working set -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_distinct_finds_what_unique_finds(rows: list[int]) -> None:
    rows_X = torch.tensor([*rows, 0])
    rows_R, local_X = distinct(rows_X)
    expected_R, expected_X = torch.unique(rows_X, return_inverse=True)
    assert torch.equal(rows_R[: len(expected_R)], expected_R)
    assert torch.equal(local_X, expected_X)
    assert rows_R.shape == rows_X.shape  # static: the size must not depend on the data
    assert not rows_R[len(expected_R) :].any()


# -- negatives -----------------------------------------------------------------------------------------------------


def made_sampler(*, seed: int = 1, max_items: int = 50, num_uniform: int = 8, num_popular: int = 8) -> NegativeSampler:
    return NegativeSampler(max_items, num_uniform=num_uniform, num_popular=num_popular, seed=seed, device=CPU)


def test_the_same_counter_draws_the_same_and_another_draws_others() -> None:
    own = np.array([3, 5, 5])
    samplers = [made_sampler(), made_sampler(), made_sampler(seed=2)]
    for sampler in samplers:
        sampler.observe(np.arange(1, 40))
    (first, chance), (again, chance_again), (other_seed, _) = (s.draw(7, 50, own) for s in samplers)
    assert torch.equal(first, again)
    assert torch.equal(chance, chance_again)
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, samplers[0].draw(8, 50, own)[0])
    assert torch.equal(first, samplers[0].draw(7, 50, own)[0])  # draws change nothing


def test_columns_are_distinct_sorted_and_hold_row_0_and_the_batchs_own() -> None:
    columns, chances = made_sampler().draw(0, 50, np.array([49, 7, 7]))
    assert columns.tolist() == sorted(set(columns.tolist()))
    assert {0, 7, 49} <= set(columns.tolist())
    assert columns.dtype == torch.int64
    assert torch.isfinite(chances).all()
    assert (chances <= 0).all()


@pytest.mark.parametrize("num_rows", [1, 2])
def test_a_catalogue_of_no_or_one_item_can_be_drawn_from(num_rows: int) -> None:
    columns, chances = made_sampler().draw(0, num_rows, np.array([1]))
    assert columns.tolist() == [0, 1]
    assert torch.isfinite(chances).all()


def test_how_likely_an_item_is_drawn_is_said_rightly() -> None:
    """Over four thousand draws each item is in as many samples as its chances say."""
    sampler = made_sampler(max_items=30, num_uniform=6, num_popular=9)
    sampler.observe(np.repeat(np.arange(1, 31), np.arange(1, 31)))
    nothing = np.array([], dtype=np.int64)
    num_in, expected = np.zeros(31), np.zeros(31)
    for batch in range(4_000):
        columns, chances = sampler.draw(batch, 31, nothing)
        num_in[columns.numpy()] += 1
        # A chance is told for what was drawn only, so each is weighed by the inverse of itself.
        expected[columns.numpy()] += np.exp(-chances.numpy())
    np.testing.assert_allclose(expected[1:] / 4_000, 1.0, atol=0.12)
    assert num_in[30] > 2 * num_in[1]


def test_retired_rows_leave_and_their_next_owner_starts_unpopular() -> None:
    sampler = made_sampler(num_uniform=1, num_popular=40)
    sampler.observe(np.array([4] * 50 + [9] * 50))
    nothing = np.array([], dtype=np.int64)
    before = dict(zip(*(t.tolist() for t in sampler.draw(0, 50, np.array([4]))), strict=True))
    sampler.forget_items([4])
    drawn = [row for batch in range(50) for row in sampler.draw(batch, 3, nothing)[0].tolist()]
    assert 9 in drawn
    assert 4 not in drawn
    after = dict(zip(*(t.tolist() for t in sampler.draw(0, 50, np.array([4]))), strict=True))
    assert after[4] < before[4] - 1


def test_only_the_newest_events_are_popular() -> None:
    sampler = made_sampler(num_uniform=1, num_popular=64)
    sampler.observe(np.full(1_000, 3))
    for _ in range(4):
        sampler.observe(np.full(NUM_RECENT // 4, 5))
    drawn = {row for batch in range(20) for row in sampler.draw(batch, 2, np.array([1]))[0].tolist()}
    assert drawn == {0, 1, 5}


def test_a_batch_larger_than_the_ring_leaves_its_newest() -> None:
    sampler = made_sampler(num_uniform=1, num_popular=64)
    sampler.observe(np.concatenate([np.full(100, 3), np.full(NUM_RECENT, 5)]))
    assert set(sampler.draw(0, 2, np.array([1]))[0].tolist()) == {0, 1, 5}


def test_a_restored_sampler_draws_what_the_first_draws() -> None:
    first, second = made_sampler(), made_sampler()
    for _ in range(3):
        first.observe(np.arange(NUM_RECENT // 2) % 50)
    first.forget_items([7])
    second.load_state(first.state())
    for sampler in (first, second):
        sampler.observe(np.array([11, 12, 13]))
    for left, right in zip(first.draw(5, 51, np.array([3])), second.draw(5, 51, np.array([3])), strict=True):
        assert torch.equal(left[1:], right[1:])
    assert differing(first.state(), second.state()) == []


# -- the gradient --------------------------------------------------------------------------------------------------

NUM_ITEMS, NUM_BATCHES = 30, 250


def habits(num_events: int, seed: int) -> list[Event]:
    """A world at rest: whoever comes takes item i in proportion to 1 / i, whatever was before."""
    rng = random.Random(seed)
    items = rng.choices(range(1, NUM_ITEMS + 1), [1 / n for n in range(1, NUM_ITEMS + 1)], k=num_events)
    return [
        Event(f"u{rng.randrange(40)}", f"i{item}", "click", START_MS + 1_000 * n + seed) for n, item in enumerate(items)
    ]


def mean_output_gradient(state: dict[str, Any], full_softmax_max_items: int, *, corrected: bool = True) -> Tensor:
    """Mean over many batches of the gradient at the items' output rows, seen from one and the same state."""
    learning = {"num_uniform_negatives": 6, "num_popular_negatives": 6}
    learner = Learner(
        small_settings(
            model={"dimension": 8, "num_layers": 1},
            learning={"full_softmax_max_items": full_softmax_max_items, **learning},
        )
    )
    learner.load_state(state)
    total_RW = torch.zeros_like(learner.network.item_out.weight_IW[: learner.memory.num_item_rows])

    def collect(loss: Tensor, columns: Columns, gradients: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor]:
        rows = columns.rows if isinstance(columns.rows, Tensor) else torch.arange(len(gradients[1]))
        total_RW.index_add_(0, rows, gradients[1])
        return loss, torch.tensor(True)

    draw = learner.trainer.sampler.draw

    def uncorrected(*arguments: Any) -> tuple[Tensor, Tensor]:
        columns_C, correction_C = draw(*arguments)
        return columns_C, torch.zeros_like(correction_C)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner.trainer, "_apply", collect)
        if not corrected:
            patch.setattr(learner.trainer.sampler, "draw", uncorrected)
        for batch in range(NUM_BATCHES):
            moments = learner.enter(habits(8, seed=1_000 + batch))
            learner.trainer.step(moments, learner.ranker.look(moments), batch)
    return total_RW[1:] / NUM_BATCHES


def test_the_sampled_gradient_is_in_expectation_close_to_the_full_one() -> None:
    """Without the correction it is not: what is sampled often would be pushed down too hard."""
    learner = Learner(small_settings(model={"dimension": 8, "num_layers": 1}))
    learn(learner, habits(640, seed=0))
    # A network that contradicts the statistics, so that there is something to correct.
    learner.network.item_out.weight_IW[: NUM_ITEMS + 1, -1] = torch.linspace(-1.5, 1.5, NUM_ITEMS + 1)
    state = learner.state()
    full_RW = mean_output_gradient(state, 1_000)
    sampled_RW = mean_output_gradient(state, 0)
    uncorrected_RW = mean_output_gradient(state, 0, corrected=False)

    def distance(gradient_RW: Tensor) -> float:
        return float((gradient_RW - full_RW).norm() / full_RW.norm())

    assert distance(sampled_RW) < 0.25
    assert distance(uncorrected_RW) > 0.75


def test_columns_point_back_at_rows_targets_and_histories() -> None:
    settings = small_settings(learning={"full_softmax_max_items": 0})
    learner = Learner(settings)
    learn(learner, rich(200))
    moments = learner.enter(rich(264)[200:])
    columns = choose_columns(moments, 3, learner.memory.num_item_rows, learner.trainer.sampler, 0, 999)
    assert isinstance(columns.rows, Tensor)
    assert isinstance(columns.items, Tensor)
    assert torch.equal(columns.rows[columns.items_BN], moments.history.items_BN)
    assert torch.equal(columns.items[columns.target_B], moments.item_B)
    assert torch.equal(columns.rows[columns.local_C], columns.items)
    assert columns.rows[0] == columns.items[0] == 0


# -- losses --------------------------------------------------------------------------------------------------------


def test_losses_are_weighted_means_and_weight_0_counts_for_nothing() -> None:
    logits_BC = torch.tensor([[0.0, 1.0, -math.inf], [2.0, 0.0, 1.0], [0.0, 0.0, -math.inf]])
    target_B, weight_B = torch.tensor([1, 0, 2]), torch.tensor([1.0, 3.0, 0.0])
    expected = (math.log(1 + math.exp(-1)) + 3 * math.log(1 + math.exp(-2) + math.exp(-1))) / 4
    assert softmax_loss(logits_BC, target_B, weight_B).item() == pytest.approx(expected)
    shares = mixture_loss(torch.tensor([0.25, 0.25, 0.0]), weight_B)
    assert shares.item() == pytest.approx(math.log(4))
    assert softmax_loss(logits_BC, target_B, torch.zeros(3)).item() == 0.0


def test_a_share_of_nothing_is_a_large_loss_and_not_an_infinite_one() -> None:
    loss = mixture_loss(torch.tensor([0.0]), torch.tensor([1.0]))
    assert 20 < loss.item() < 40
