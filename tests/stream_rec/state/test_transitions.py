"""Transitions against dictionaries: exact while there is room, the strongest stay where there is none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.state.transitions import Transitions
from tests.stream_rec.state.worlds import CPU, START_S, differences

HALF_LIFE_S = 600.0
NUM_ITEMS = 7


@dataclass(frozen=True)
class Pair:
    previous: int
    item: int
    at_s: float
    weight: float


GAPS_S = st.sampled_from([0.0, 0.0, 1.0, 60.0, 600.0, -900.0, 5_000.0, 30_000.0, 4_000_000.0])
ROWS = st.integers(0, NUM_ITEMS)
# Few rows on the left, so that the same pair comes several times in a batch and successors crowd.
PAIRS = st.tuples(st.integers(0, 2), ROWS, GAPS_S, st.sampled_from([1.0, 1.0, 1.0, 0.0, 2.5]))
STEPS = st.lists(
    st.one_of(
        st.lists(PAIRS, min_size=1, max_size=14),
        st.lists(PAIRS, min_size=1, max_size=14),
        st.sets(st.integers(1, NUM_ITEMS), min_size=1, max_size=2),
        st.none(),
    ),
    max_size=7,
)


def update(transitions: Transitions, pairs: list[Pair]) -> None:
    time_B = torch.tensor([START_S + p.at_s for p in pairs], dtype=torch.float64, device=CPU)
    transitions.update(
        torch.tensor([p.previous for p in pairs], device=CPU),
        torch.tensor([p.item for p in pairs], device=CPU),
        time_B,
        torch.tensor([p.weight for p in pairs], device=CPU),
        float(time_B.max()),
    )


def kept_of(transitions: Transitions, at_s: float) -> dict[int, dict[int, float]]:
    """Row → successor → weight as seen from ``at_s``; fails where a successor has two places."""
    now_B = torch.tensor([START_S + at_s], dtype=torch.float64, device=CPU)
    weights_IM = transitions.weights_IM * transitions.landmark.discounts(now_B)[0]
    kept: dict[int, dict[int, float]] = {}
    for row, (successors, weights) in enumerate(
        zip(transitions.successors_IM.tolist(), weights_IM.tolist(), strict=True)
    ):
        live = [(successor, weight) for successor, weight in zip(successors, weights, strict=True) if weight > 0]
        assert len(dict(live)) == len(live), f"row {row} keeps a successor twice: {live}"
        kept[row] = dict(live)
    return kept


@settings(deadline=None, max_examples=200)
@given(steps=STEPS, max_neighbours=st.integers(1, NUM_ITEMS))
def test_weights_are_exact_and_the_strongest_stay(
    steps: list[list[tuple[int, int, float, float]] | set[int] | None], max_neighbours: int
) -> None:
    transitions = Transitions(NUM_ITEMS, max_neighbours, HALF_LIFE_S, CPU)
    # What is kept, with the pairs that made it: a successor that lost its place starts again from nothing.
    made_of: dict[int, dict[int, list[Pair]]] = {row: {} for row in range(NUM_ITEMS + 1)}
    at_s = newest_s = 0.0

    def weight_of(pairs: list[Pair]) -> float:
        return sum(pair.weight * 2.0 ** ((pair.at_s - newest_s) / HALF_LIFE_S) for pair in pairs)

    for step in steps:
        if step is None:
            state = transitions.state(NUM_ITEMS + 1)
            transitions = Transitions(NUM_ITEMS, max_neighbours, HALF_LIFE_S, CPU)
            transitions.load_state(state)
            assert list(differences(state, transitions.state(NUM_ITEMS + 1))) == []
            continue
        if isinstance(step, set):
            transitions.forget_items(sorted(step))
            for row, successors in made_of.items():
                gone = successors.keys() if row in step else step & successors.keys()
                made_of[row] = {item: pairs for item, pairs in successors.items() if item not in set(gone)}
            kept = kept_of(transitions, newest_s)
            for row, successors in made_of.items():
                assert kept[row].keys() <= successors.keys()
            continue

        batch, by_row = [], defaultdict(lambda: defaultdict(list))
        for previous, item, gap_s, weight in step:
            at_s += gap_s
            newest_s = max(newest_s, at_s)
            batch.append(Pair(previous, item, at_s, weight))
            if previous and item and weight:
                by_row[previous][item].append(batch[-1])
        update(transitions, batch)
        kept = kept_of(transitions, newest_s)
        assert kept[0] == {}
        for row, successors in made_of.items():
            gained = by_row[row]
            # What has faded below float32's range may be gone, and counts as a free place; learnt again, as new.
            faded = {item for item, pairs in successors.items() if weight_of(pairs) < 1e-30}
            again = faded & gained.keys()
            new = {item for item in gained if item not in successors}
            for item in successors.keys() & gained.keys():
                successors[item] += gained[item]
            assert len(kept[row]) <= max_neighbours
            num_kept = len((new | again) & kept[row].keys())
            assert num_kept <= min(len(new | again), max_neighbours)
            assert num_kept >= min(len(new), max_neighbours) - len(again)
            lost = successors.keys() - kept[row].keys() - faded
            stayed = (successors.keys() & kept[row].keys()) - faded
            if lost:
                assert len(kept[row]) == max_neighbours, "room was left, and somebody had to go"
                weakest_stayed = min((weight_of(successors[item]) for item in stayed), default=float("inf"))
                assert max(weight_of(successors[item]) for item in lost) <= weakest_stayed * (1 + 1e-3)
            made_of[row] = {
                item: (successors[item] if item in successors else gained[item])
                for item in kept[row]
                if item in successors or item in gained
            }
            assert made_of[row].keys() == kept[row].keys()
            for item, pairs in made_of[row].items():
                assert kept[row][item] == pytest.approx(weight_of(pairs), rel=1e-3, abs=1e-30)


def test_equal_pairs_of_a_batch_are_summed_in_one_place() -> None:
    transitions = Transitions(NUM_ITEMS, 3, HALF_LIFE_S, CPU)
    update(transitions, [Pair(1, 2, 0.0, 1.0), Pair(3, 2, 0.0, 1.0), Pair(1, 2, 600.0, 1.0), Pair(1, 2, 600.0, 2.5)])
    assert kept_of(transitions, 600.0)[1] == pytest.approx({2: 4.0})
    assert kept_of(transitions, 600.0)[3] == pytest.approx({2: 0.5})


def test_more_new_successors_than_places_leave_exactly_the_places() -> None:
    transitions = Transitions(NUM_ITEMS, 2, HALF_LIFE_S, CPU)
    update(transitions, [Pair(1, item, 0.0, 1.0) for item in (2, 3, 4, 5, 6)])
    kept = kept_of(transitions, 0.0)[1]
    assert len(kept) == 2
    assert kept.keys() <= {2, 3, 4, 5, 6}


def test_of_more_new_successors_than_places_the_heaviest_are_kept() -> None:
    transitions = Transitions(NUM_ITEMS, 2, HALF_LIFE_S, CPU)
    update(transitions, [Pair(1, item, 0.0, weight) for item, weight in ((2, 1.0), (3, 1.0), (6, 2.5), (5, 2.0))])
    assert kept_of(transitions, 0.0)[1] == pytest.approx({6: 2.5, 5: 2.0})


def test_a_newcomer_takes_the_weakest_place_though_he_is_weaker() -> None:
    transitions = Transitions(NUM_ITEMS, 2, HALF_LIFE_S, CPU)
    update(transitions, [Pair(1, 2, 0.0, 2.5), Pair(1, 3, 0.0, 2.0)])
    update(transitions, [Pair(1, 4, 0.0, 1.0)])
    assert kept_of(transitions, 0.0)[1] == pytest.approx({2: 2.5, 4: 1.0})


def test_retired_items_follow_nobody_and_nobody_follows_them() -> None:
    transitions = Transitions(NUM_ITEMS, 3, HALF_LIFE_S, CPU)
    update(transitions, [Pair(1, 2, 0.0, 1.0), Pair(2, 3, 0.0, 1.0), Pair(4, 3, 0.0, 1.0)])
    transitions.forget_items([2])
    kept = kept_of(transitions, 0.0)
    assert (kept[1], kept[2], kept[4]) == ({}, {}, pytest.approx({3: 1.0}))
    # The row belongs to another item now: what is stored of the old one must not come back with it.
    update(transitions, [Pair(1, 2, 0.0, 1.0)])
    assert kept_of(transitions, 0.0)[1] == pytest.approx({2: 1.0})
