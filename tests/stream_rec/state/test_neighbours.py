"""The table of neighbours against dictionaries: exact while there is room, the strongest stay where there is none."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.state.neighbours import WAYS, Neighbours
from tests.stream_rec.state.worlds import CPU, START_S, differences

HALF_LIVES_S = [600.0, 86_400.0]
NUM_ITEMS = 7  # fewer than one set of places holds
GAPS_S = st.sampled_from([0.0, 0.0, 1.0, 60.0, 600.0, -900.0, 5_000.0, 30_000.0, 4_000_000.0])
ROWS = st.integers(0, NUM_ITEMS)
Pair = tuple[int, int, float, float]  # row, neighbour, seconds after the start, weight
STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 2), ROWS, GAPS_S, st.sampled_from([1.0, 1.0, 0.0, 2.5])), min_size=1),
        st.sets(st.integers(1, NUM_ITEMS), min_size=1, max_size=2),
        st.none(),
    ),
    max_size=7,
)


def table_of(num_items: int = NUM_ITEMS, max_neighbours: int = WAYS) -> Neighbours:
    return Neighbours(num_items, max_neighbours, HALF_LIVES_S, CPU)


def update(table: Neighbours, pairs: list[Pair]) -> None:
    time_P = torch.tensor([START_S + at_s for _, _, at_s, _ in pairs], dtype=torch.float64, device=CPU)
    row_P, neighbour_P = (torch.tensor([pair[side] for pair in pairs], device=CPU) for side in (0, 1))
    weight_P = torch.tensor([weight for *_, weight in pairs], device=CPU)
    table.rebase(float(time_P.max()))
    table.count(row_P, time_P, weight_P)
    table.update(row_P, neighbour_P, time_P, weight_P)


def kept_of(table: Neighbours, at_s: float, half_life: int) -> dict[tuple[int, int], float]:
    """(row, neighbour) → weight as seen from ``at_s``; fails where a neighbour has two places."""
    now_B = torch.tensor([START_S + at_s], dtype=torch.float64, device=CPU)
    weights_IM = table.weights_WIM[half_life] * table.landmark.discounts(now_B)[half_life]
    kept: dict[tuple[int, int], float] = {}
    for row, (neighbours, weights) in enumerate(zip(table.neighbours_IM.tolist(), weights_IM.tolist(), strict=True)):
        for neighbour, weight in zip(neighbours, weights, strict=True):
            if weight > 1e-9:
                assert (row, neighbour) not in kept
                kept[row, neighbour] = weight
    return kept


@settings(deadline=None, max_examples=150)
@given(steps=STEPS)
def test_weights_are_exact_while_there_is_room(steps: list[list[Pair] | set[int] | None]) -> None:
    table, log, counted = table_of(), [], []
    at_s = newest_s = 0.0
    for step in steps:
        if step is None:
            state = table.state(NUM_ITEMS + 1)
            table = table_of()
            table.load_state(state)
            assert list(differences(state, table.state(NUM_ITEMS + 1))) == []
        elif isinstance(step, set):
            table.forget_items(sorted(step))
            log = [pair for pair in log if not step & {pair[0], pair[1]}]
            counted = [pair for pair in counted if pair[0] not in step]
        else:
            batch = []
            for row, neighbour, gap_s, weight in step:
                at_s += gap_s
                newest_s = max(newest_s, at_s)
                batch.append((row, neighbour, at_s, weight))
            update(table, batch)
            log += [pair for pair in batch if pair[0] and pair[1]]
            counted += [pair for pair in batch if pair[0]]
        for index, half_life_s in enumerate(HALF_LIVES_S):
            expected: dict[tuple[int, int], float] = defaultdict(float)
            for row, neighbour, then_s, weight in log:
                expected[row, neighbour] += weight * 2.0 ** ((then_s - newest_s) / half_life_s)
            live = {pair: weight for pair, weight in expected.items() if weight > 1e-8}
            found = kept_of(table, newest_s, index)
            assert {pair: found.get(pair) for pair in live} == pytest.approx(live, rel=1e-3)
            assert found.keys() <= expected.keys()
            masses = [0.0] * (NUM_ITEMS + 1)
            for row, _, then_s, weight in counted:
                masses[row] += weight * 2.0 ** ((then_s - newest_s) / half_life_s)
            now_B = torch.tensor([START_S + newest_s], dtype=torch.float64, device=CPU)
            mass_I = table.mass_WI[index] * table.landmark.discounts(now_B)[index]
            assert mass_I.tolist() == pytest.approx(masses, rel=1e-3, abs=1e-6)


def test_a_newcomer_takes_the_weakest_place_though_he_is_weaker() -> None:
    table = table_of(num_items=20)
    update(table, [(1, 2 + n, 0.0, 2.0 + n) for n in range(WAYS)])
    update(table, [(1, 15, 0.0, 1.0)])
    kept = {neighbour: weight for (_, neighbour), weight in kept_of(table, 0.0, 0).items()}
    assert kept == pytest.approx({15: 1.0, **{2 + n: 2.0 + n for n in range(1, WAYS)}})


def test_more_new_ones_than_places_leave_exactly_the_places() -> None:
    table = table_of(num_items=30)
    update(table, [(1, 2 + n, 0.0, 1.0) for n in range(3 * WAYS)])
    kept = kept_of(table, 0.0, 0)
    assert len(kept) == WAYS
    assert set(kept.values()) == {1.0}


def test_a_wide_row_spreads_neighbours_that_come_one_after_the_other() -> None:
    """Rows are given out in order, so neighbours in time have neighbouring numbers."""
    table = table_of(num_items=200, max_neighbours=128)
    update(table, [(1, 2 + n, 0.0, 1.0) for n in range(64)])
    assert len(kept_of(table, 0.0, 0)) > 56


def test_retired_items_are_nobodys_neighbours_and_have_none() -> None:
    table = table_of()
    update(table, [(1, 2, 0.0, 1.0), (2, 3, 0.0, 1.0), (4, 3, 0.0, 1.0)])
    table.forget_items([2])
    assert kept_of(table, 0.0, 0) == pytest.approx({(4, 3): 1.0})
    # The row belongs to another item now: what is stored of the old one must not come back with it.
    update(table, [(1, 2, 0.0, 1.0)])
    assert kept_of(table, 0.0, 0) == pytest.approx({(4, 3): 1.0, (1, 2): 1.0})


def test_what_is_faded_keeps_its_shares_and_weighs_less_beside_what_comes() -> None:
    table = table_of()
    update(table, [(1, 2, 0.0, 3.0), (1, 3, 0.0, 1.0), (4, 2, 0.0, 1.0)])
    before = [kept_of(table, 0.0, half_life) for half_life in (0, 1)]
    table.fade(0.25, NUM_ITEMS + 1)
    assert kept_of(table, 0.0, 0) == pytest.approx({pair: 0.25 * weight for pair, weight in before[0].items()})
    assert kept_of(table, 0.0, 1) == before[1]
    update(table, [(1, 3, 0.0, 1.0)])
    assert kept_of(table, 0.0, 0)[1, 3] > kept_of(table, 0.0, 0)[1, 2]
