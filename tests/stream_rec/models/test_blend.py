"""The weight of the network's logit is what has proved best lately, for each length of history."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_rec.models.blend import HALF_LIFE_EVENTS, WEIGHTS, Blend
from tests.stream_rec.tiny_worlds import differing

CPU = torch.device("cpu")
NUM_ITEMS = 60
LENGTHS = {"none": 0, "short": 4, "long": 5}


def observe(
    blend: Blend,
    length: int,
    *,
    target_place: int,
    residual_of_target: float,
    num_moments: int = 16,
    judged: bool = True,
) -> None:
    """Moments whose target is ``target_place`` from the best by statistics and has this logit; others have 0."""
    base_BI = -torch.arange(NUM_ITEMS).float().expand(num_moments, -1).clone() * 0.1
    residual_BI = torch.zeros(num_moments, NUM_ITEMS)
    residual_BI[:, target_place] = residual_of_target
    blend.observe(
        base_BI,
        residual_BI,
        torch.full((num_moments,), target_place),
        torch.full((num_moments,), judged),
        torch.full((num_moments,), length),
    )


def weights(blend: Blend) -> list[float]:
    """By class: none, short, long."""
    picked: Tensor = blend.weight(torch.tensor(list(LENGTHS.values())))
    return [round(weight, 3) for weight in picked.tolist()]


def test_the_network_weighs_nothing_until_it_has_proved_itself() -> None:
    assert weights(Blend(CPU)) == [0.0, 0.0, 0.0]


def test_it_rises_where_the_network_helps_and_stays_at_0_where_it_hurts() -> None:
    blend = Blend(CPU)
    observe(blend, LENGTHS["none"], target_place=3, residual_of_target=-4.0)
    observe(blend, LENGTHS["short"], target_place=15, residual_of_target=1.8)
    observe(blend, LENGTHS["long"], target_place=15, residual_of_target=30.0)
    # 30 lifts the target to the top even at a fifth: of equals the least is taken.
    assert weights(blend) == [0.0, 1.0, 0.2]


@pytest.mark.parametrize(("length", "others"), [(0, (1, 4, 5, 50)), (1, (0, 5, 50)), (4, (0, 5, 50)), (5, (0, 4))])
def test_classes_of_history_are_judged_apart(length: int, others: tuple[int, ...]) -> None:
    blend = Blend(CPU)
    observe(blend, length, target_place=15, residual_of_target=1.8)
    assert blend.weight(torch.tensor([length])).tolist() == [1.0]
    assert blend.weight(torch.tensor(others)).tolist() == [0.0] * len(others)


def test_a_network_that_turns_bad_is_left_out_again() -> None:
    blend = Blend(CPU)
    observe(blend, 9, target_place=15, residual_of_target=1.8, num_moments=50)
    assert weights(blend)[2] == 1.0
    observe(blend, 9, target_place=0, residual_of_target=-3.0, num_moments=50)
    assert weights(blend)[2] == 0.0


def test_ties_count_against_the_weight_that_makes_them() -> None:
    """A network of zeros over statistics of zeros ranks nothing: the target is last, not first."""
    blend = Blend(CPU)
    flat_BI = torch.zeros(4, NUM_ITEMS)
    everything = (torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.bool), torch.full((4,), 9))
    blend.observe(flat_BI, flat_BI, *everything)
    assert not blend.state()["ndcg"].any()
    better_BI = flat_BI.clone()
    better_BI[:, 0] = 1.0
    blend.observe(flat_BI, better_BI, *everything)
    assert blend.state()["ndcg"][2].tolist() == [0.0, 4.0, 4.0, 4.0]


def test_the_gain_is_ndcg_at_20() -> None:
    for place in (0, 7, 19, 20):
        blend = Blend(CPU)
        observe(blend, 0, target_place=place, residual_of_target=0.0, num_moments=1)
        expected = 1 / math.log2(place + 2) if place < 20 else 0.0
        assert blend.state()["ndcg"][0].tolist() == pytest.approx([expected] * len(WEIGHTS))


def test_what_is_not_judged_or_may_not_be_listed_says_nothing() -> None:
    blend = Blend(CPU)
    observe(blend, 9, target_place=15, residual_of_target=1.8, judged=False)
    base_BI = torch.zeros(1, NUM_ITEMS)
    base_BI[0, 5] = -math.inf
    one = torch.ones(1, dtype=torch.bool)
    blend.observe(base_BI, torch.ones(1, NUM_ITEMS), torch.tensor([5]), one, torch.tensor([9]))
    assert not blend.state()["ndcg"].any()


def test_items_that_may_not_be_listed_stand_before_nobody() -> None:
    blend = Blend(CPU)
    base_BI = torch.full((1, NUM_ITEMS), -math.inf)
    base_BI[0, 5] = -3.0
    residual_BI = torch.full((1, NUM_ITEMS), 100.0)
    residual_BI[0, 5] = 0.0
    one = torch.ones(1, dtype=torch.bool)
    blend.observe(base_BI, residual_BI, torch.tensor([5]), one, torch.tensor([9]))
    assert blend.state()["ndcg"][2].tolist() == [1.0] * len(WEIGHTS)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_network_that_says_nan_gains_nothing(everywhere: bool) -> None:
    blend = Blend(CPU)
    base_BI = -torch.arange(NUM_ITEMS).float()[None]
    residual_BI = torch.full((1, NUM_ITEMS), math.nan)
    if not everywhere:
        residual_BI[0, 1:] = 0.0
    one = torch.ones(1, dtype=torch.bool)
    blend.observe(base_BI, residual_BI, torch.tensor([0]), one, torch.tensor([9]))
    assert blend.state()["ndcg"].tolist() == [[0.0] * len(WEIGHTS)] * 3


def test_old_evidence_halves_in_its_half_life() -> None:
    blend = Blend(CPU)
    observe(blend, 0, target_place=0, residual_of_target=0.0, num_moments=100)
    for _ in range(10):
        observe(blend, 9, target_place=0, residual_of_target=0.0, num_moments=int(HALF_LIFE_EVENTS) // 10)
    assert blend.state()["ndcg"][0].tolist() == pytest.approx([50.0] * len(WEIGHTS), rel=1e-3)


def test_a_restored_blend_judges_as_the_first() -> None:
    first, second = Blend(CPU), Blend(CPU)
    observe(first, 9, target_place=15, residual_of_target=1.8)
    state = first.state()
    second.load_state(state)
    assert weights(second) == weights(first)
    observe(first, 9, target_place=0, residual_of_target=-3.0)
    assert differing(state, second.state()) == []  # a copy, not a view
