"""What only some encoders have: an interaction with candidates, further targets, a formula to be held to, a cost."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from stream_rec.learning.learner import Learner
from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.fm import FactorisationMachine
from stream_rec.models.reading import FACTOR_SCALE, USER_SHARE, gap_bucket, steps_between, taste
from stream_rec.models.recurrent import oldest_first
from tests.stream_rec.models.encoder_inputs import (
    DIMENSION,
    HISTORY,
    LEARNING,
    LENGTH,
    NUM_ROWS,
    littered,
    made,
    settings_of,
    some_inputs,
    with_hole,
)
from tests.stream_rec.tiny_worlds import batches, rich

INTERACTING = ["din", "ncf"]
ASKING_MORE = ["bert", "transformer"]
LENGTHS = [0, 1, 3, LENGTH, 5, 2, LENGTH, 4]


def some_candidates(num_moments: int, num_candidates: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_moments, num_candidates, DIMENSION, generator=generator)


def interaction(module: Encoder, inputs: Inputs, candidates_BKD: torch.Tensor) -> torch.Tensor:
    return module.interact(inputs, module(inputs), candidates_BKD)


# -- candidates and history together -------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", LEARNING)
def test_those_that_interact_are_known(encoder: str) -> None:
    module, inputs = made(encoder), some_inputs(LENGTHS)
    assert module.interacts == (encoder in INTERACTING)
    if module.interacts:
        assert interaction(module, inputs, some_candidates(len(LENGTHS), 3)).shape == (len(LENGTHS), 3)
    else:
        with pytest.raises(NotImplementedError):
            interaction(module, inputs, some_candidates(len(LENGTHS), 3))


@pytest.mark.parametrize("encoder", INTERACTING)
def test_a_candidate_is_judged_by_itself_and_by_what_is_there(encoder: str) -> None:
    module, candidates_BKD = made(encoder), some_candidates(3, 4)
    clean = with_hole([0, 3, LENGTH], 1, 1)
    logits_BK = interaction(module, clean, candidates_BKD)
    assert torch.isfinite(logits_BK).all()
    assert torch.equal(logits_BK, interaction(module, littered(clean), candidates_BKD))
    for place in range(4):
        alone_B1 = interaction(module, clean, candidates_BKD[:, place : place + 1])
        assert torch.allclose(alone_B1[:, 0], logits_BK[:, place], atol=1e-6)


@pytest.mark.parametrize("encoder", INTERACTING)
def test_an_interaction_learns_what_history_and_candidate_say_together(encoder: str) -> None:
    """A candidate is right where its first factor has the sign of the history's: no sum of two parts can say that."""
    module = made(encoder)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)

    def judged(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = some_inputs([LENGTH] * 64, seed)
        inputs.users_BD.zero_()
        candidates_BKD = some_candidates(64, 8, seed)
        right_BK = candidates_BKD[:, :, 0] * taste(inputs)[:, :1] > 0
        return interaction(module, inputs, candidates_BKD), right_BK.float()

    for seed in range(150):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(*judged(seed)).backward()
        optimiser.step()
    logits_BK, right_BK = judged(1_000)
    assert ((logits_BK > 0) == (right_BK > 0)).float().mean() >= 0.8


# -- further targets -----------------------------------------------------------------------------------------------


def extra(module: Encoder, inputs: Inputs, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws_BX = torch.rand(len(inputs.lengths_B), 4, generator=torch.Generator().manual_seed(seed))
    found = module.extra_targets(inputs, draws_BX)
    assert found is not None
    return found


@pytest.mark.parametrize("encoder", LEARNING)
def test_those_that_learn_from_more_positions_are_known(encoder: str) -> None:
    assert (made(encoder).extra_targets(some_inputs(LENGTHS), torch.zeros(8, 4)) is not None) == (
        encoder in ASKING_MORE
    )


@pytest.mark.parametrize("encoder", ASKING_MORE)
def test_further_targets_are_items_of_the_history_and_few(encoder: str) -> None:
    module, inputs = made(encoder), with_hole(LENGTHS, 6, 2)
    queries_ED, targets_E, weights_E = extra(module, inputs)
    assert queries_ED.shape == (len(targets_E), DIMENSION)
    assert len(targets_E) == len(weights_E) <= 4 * len(LENGTHS)
    assert torch.isfinite(queries_ED).all()
    assert set(weights_E.tolist()) == {0.0, 1.0}
    assert set(targets_E[weights_E > 0].tolist()) <= set(inputs.items_BN.flatten().tolist()) - {0}
    none, _, weights_E = extra(module, some_inputs([0] * 8))
    assert torch.isfinite(none).all()
    assert not weights_E.any()


@pytest.mark.parametrize("encoder", ASKING_MORE)
def test_what_stands_in_empty_slots_is_not_learnt(encoder: str) -> None:
    module, clean = made(encoder), with_hole(LENGTHS, 6, 2)
    (queries_ED, _, weights_E), (others_ED, _, _) = extra(module, clean), extra(module, littered(clean))
    assert torch.equal(queries_ED[weights_E > 0], others_ED[weights_E > 0])


def test_a_prefix_sees_nothing_of_what_followed_nor_of_the_moment() -> None:
    module, before = made("transformer"), some_inputs([LENGTH] * 4)
    others = some_inputs([LENGTH] * 4, seed=1)
    for newest in range(1, LENGTH):
        # Everything newer than the prefix that ends at ``newest`` is another, and the moment comes months later.
        after = {name: getattr(before, name).clone() for name in HISTORY}
        for name in HISTORY:
            after[name][:, :newest] = getattr(others, name)[:, :newest]
        after["gaps_BN"] = before.gaps_BN + 10_000_000
        moment = {name: getattr(others, name) for name in ("hours_B", "weekdays_B", "slots_BC", "users_BD")}
        changed = dataclasses.replace(before, **after, **moment)
        changed.gaps_BN[:, :newest] = 1
        queries, targets = [extra(module, inputs)[0].view(1, LENGTH - 1, -1) for inputs in (before, changed)], before
        assert torch.equal(queries[0][:, newest - 1 :], queries[1][:, newest - 1 :])
        assert not torch.equal(queries[0][:, : newest - 1], queries[1][:, : newest - 1]) or newest == 1
    assert torch.equal(extra(module, before)[1], targets.items_BN[0, : LENGTH - 1])


def test_a_hidden_item_is_not_seen() -> None:
    module, before = made("bert"), some_inputs([LENGTH, 0] * 4)  # every second moment is taken
    draws_BX = torch.full((8, 4), 0.4)
    place = int(0.4 * LENGTH)
    found = module.extra_targets(before, draws_BX)
    changed = dataclasses.replace(before, **{name: getattr(before, name).clone() for name in HISTORY})
    for name in ("items_BN", "types_BN", "situations_BN", "values_BN"):
        getattr(changed, name)[::2, place] = 1 + getattr(before, name)[::2, place] % (NUM_ROWS - 1)
    other = module.extra_targets(changed, draws_BX)
    assert found is not None
    assert other is not None
    assert torch.equal(found[1], before.items_BN[::2, place].repeat_interleave(4))
    assert torch.equal(other[1], changed.items_BN[::2, place].repeat_interleave(4))
    assert not torch.equal(found[1], other[1])
    assert torch.equal(found[0], other[0])


# -- formulas ------------------------------------------------------------------------------------------------------


def test_a_factorisation_machine_is_exact_in_the_item() -> None:
    """Differences of its scores, by the double sum over all pairs of features, are those of query · item."""
    module = made("fm")
    assert isinstance(module, FactorisationMachine)
    inputs, moment = some_inputs([3]), module.moment
    past = inputs.vectors_RD[inputs.items_BN[0, :3]] / 3**0.5
    features = [
        (USER_SHARE + 1) * inputs.users_BD[0],
        *past,
        moment.hours(inputs.hours_B)[0],
        moment.weekdays(inputs.weekdays_B)[0],
        moment.last_gap(gap_bucket(inputs.gaps_BN[:, 0]))[0],
        moment.lengths(inputs.lengths_B)[0],
        moment.session_lengths(inputs.session_lengths_B)[0],
        *moment.context(inputs.slots_BC)[0],
    ]
    items = some_candidates(1, 2)[0]
    # Whatever scales all features but the item is a matter of their tables.
    with torch.no_grad():
        others = [FACTOR_SCALE * feature for feature in features]
        scores = [sum(float(one @ other) for one, other in combinations([*others, item], 2)) for item in items]
        expected = float(module(inputs)[0] @ (items[0] - items[1]))
    assert scores[0] - scores[1] == pytest.approx(expected, rel=1e-4)


def test_steps_are_between_neighbours_and_do_not_depend_on_the_moment() -> None:
    gaps_BN = torch.tensor([[5, 65, 3_665, 0], [0, 0, 0, 0]])
    assert steps_between(gaps_BN).tolist() == [[60, 3_600, 0, 0], [0, 0, 0, 0]]
    assert steps_between(gaps_BN[:1] + torch.tensor([1_000, 1_000, 1_000, 0])).tolist() == [[60, 3_600, 0, 0]]


def test_cells_take_a_history_from_its_oldest_entry_to_its_newest_without_holes() -> None:
    mask_BN = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]) > 0
    newest_first_BND = torch.arange(1, 6)[None, :, None].expand(3, -1, 2)
    ordered_BND, lengths_B = oldest_first(newest_first_BND, mask_BN)
    assert lengths_B.tolist() == [3, 0, 5]
    assert ordered_BND[0, :3, 0].tolist() == [4, 3, 1]
    assert ordered_BND[2, :, 1].tolist() == [5, 4, 3, 2, 1]


# -- cost ----------------------------------------------------------------------------------------------------------


class Written(TorchDispatchMode):
    """Elements of all results of all operations; views of a table cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and not func.overloadpacket.__name__.endswith("_"):
            self.num_elements += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        return result


def cost_of_a_step(encoder: str, bound: int) -> tuple[int, int]:
    """Floating point operations of matrix products, and elements written, in the fourth step under a bound."""
    state = {"max_items": bound, "max_users": bound, "num_feature_buckets": bound}
    learner = Learner(settings_of(encoder, state=state, learning={"full_softmax_max_items": 0}))
    first, *others = reversed(list(batches(rich(256))))
    for batch in others:
        learner.learn(learner.enter(batch))
    moments = learner.enter(first)
    counter, written = FlopCounterMode(display=False), Written()
    with counter, written:
        learner.learn(moments)
    return counter.get_total_flops(), written.num_elements


@pytest.mark.parametrize("encoder", LEARNING)
def test_a_step_costs_what_its_batch_does_and_not_what_the_tables_do(encoder: str) -> None:
    assert cost_of_a_step(encoder, 64) == cost_of_a_step(encoder, 20_000)


def test_cost_is_counted() -> None:
    with FlopCounterMode(display=False) as counter, Written() as written:
        torch.zeros(3, 5) @ torch.zeros(5, 7)
    assert counter.get_total_flops() == 2 * 3 * 5 * 7
    assert written.num_elements == 15 + 35 + 21
