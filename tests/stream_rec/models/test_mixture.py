"""The statistics' shares are exact at every event, earlier events of the same batch and late ones included.

The reference goes through the log event by event with dictionaries and Python floats; it knows no batches, no
landmarks and no rows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.models.evidence import Evidence, gather_evidence
from stream_rec.models.mixture import StatisticsMixture
from stream_rec.records import Event
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from tests.stream_rec.state.worlds import CPU, event, tiny

HALF_LIVES_S = [300.0, 86_400.0, math.inf]
TRANSITION_HALF_LIFE_S = 3_600.0
HISTORY_LENGTH = 3
UNIFORM, FOLLOWS, ITEM_KNN, SESSION_KNN, FREQUENT, RECENT, KIND = 3, 4, 7, 8, 9, 10, 12
NUM_STATISTICS = 13
IN_BATCHES = (ITEM_KNN, SESSION_KNN, KIND)  # what they count of a batch is seen after it
WEIGHTS = {"impression": 0.0, "purchase": 2.5}
# What is left of a weight after 60 half-lives: below about 66 a statistic counts as empty.
LEAST_MASS = 1e-18

USERS = st.sampled_from(["u1", "u2", "u3"])
ITEMS = st.sampled_from(["a", "b", "c", "d", "e"])
TYPES = st.sampled_from(["view", "view", "view", "purchase", "impression"])
# Ties, the usual gaps, late events, and gaps of hours and days that make the landmark move.
GAPS_S = st.sampled_from([0.0, 0.0, 1.0, 7.5, 60.0, 300.0, -5.0, -1_000.0, 4_000.0, 20_000.0, 259_200.0])


@st.composite
def batches(draw: st.DrawFn) -> list[list[Event]]:
    at_s, log = 0.0, []
    for _ in range(draw(st.integers(1, 5))):
        batch = []
        for _ in range(draw(st.integers(1, 8))):
            at_s += draw(GAPS_S)
            batch.append(event(draw(USERS), draw(ITEMS), at_s, draw(TYPES)))
        log.append(batch)
    return log


@dataclass
class Reference:
    """Everything that has been counted so far, one event after the other."""

    counted: list[tuple[str, float, float]] = field(default_factory=list)  # item, time (s), weight
    followed: list[tuple[str, str, float, float]] = field(default_factory=list)  # last item, item, time, weight
    histories: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    newest_s: float = -math.inf

    def statistics(self, event: Event) -> list[tuple[dict[str, float], float]]:
        """Share of each item, and the mass as seen from the newest event so far, of every statistic but uniform."""
        from_s = max(self.newest_s, event.timestamp_ms / 1000)
        history = self.histories[event.user_id][::-1][:HISTORY_LENGTH]

        def decayed(entries: list[tuple[str, float, float]], half_life_s: float) -> tuple[dict[str, float], float]:
            return normed([(item, weight * 2.0 ** ((at_s - from_s) / half_life_s)) for item, at_s, weight in entries])

        after_last = [entry[1:] for entry in self.followed if history and entry[0] == history[0]]
        return [
            *(decayed(self.counted, half_life_s) for half_life_s in HALF_LIVES_S),
            decayed(after_last, TRANSITION_HALF_LIFE_S),
            normed([(item, 1.0) for item in history]),
            normed([(item, 1.0 / place) for place, item in enumerate(history, 1)]),
        ]

    def count(self, event: Event) -> None:
        at_s, weight = event.timestamp_ms / 1000, WEIGHTS.get(event.type, 1.0)
        self.newest_s = max(self.newest_s, at_s)
        if weight > 0:
            self.counted.append((event.item_id, at_s, weight))
            history = self.histories[event.user_id]
            if history:
                self.followed.append((history[-1], event.item_id, at_s, weight))
            history.append(event.item_id)


def normed(weights: list[tuple[str, float]]) -> tuple[dict[str, float], float]:
    shares: dict[str, float] = defaultdict(float)
    mass = math.fsum(weight for _, weight in weights)
    for item, weight in weights:
        shares[item] += weight / mass if mass else 0.0
    return shares, mass


def memory_of(**tighter: int) -> Memory:
    bounds: dict[str, Any] = {"max_users": 50, "max_items": 50, "max_neighbours": 16, "history_length": HISTORY_LENGTH}
    bounds |= {
        "popularity_half_lives_s": HALF_LIVES_S[:-1],
        "transition_half_lives_s": [TRANSITION_HALF_LIFE_S, 86_400.0],
    }
    return Memory(tiny(exclude_seen=False, **(bounds | tighter)), CPU)


def evidence_of(memory: Memory, moments: Moments) -> Evidence:
    return gather_evidence(memory, moments)


def live_items(memory: Memory, log: list[list[Event]]) -> set[str]:
    """Items of the log that have a row now."""
    return {one.item_id for batch in log for one in batch if memory.items.row(one.item_id)}


def there_at(memory: Memory, live_before: set[str], batch: list[Event], index: int) -> list[int]:
    """Rows of the items that somebody had touched before event ``index`` of the batch, and that still have one."""
    earlier = {one.item_id for one in batch[:index] if memory.weight(one) > 0}
    return [row for item in sorted(live_before | earlier) if (row := memory.items.row(item))]


def one_hot(statistic: int, num_moments: int) -> torch.Tensor:
    gate_BS = torch.zeros(num_moments, NUM_STATISTICS, device=CPU)
    gate_BS[:, statistic] = 1.0
    return gate_BS


def mixed(memory: Memory, evidence: Evidence, gate_BS: torch.Tensor, columns: list[int] | None = None) -> torch.Tensor:
    """[B, I] over all rows, or [B, C] over ``columns``."""
    counts_HI = memory.statistics.popularity.counts_HI[:, : memory.num_item_rows]
    mixture = StatisticsMixture(len(HALF_LIVES_S))
    if columns is None:
        return mixture.probabilities(gate_BS, evidence, counts_HI)
    column_of_I = torch.full((memory.num_item_rows,), len(columns), device=CPU)
    column_of_I[columns] = torch.arange(len(columns), device=CPU)
    return mixture.probabilities(gate_BS, evidence, counts_HI[:, columns], column_of_I)


@settings(deadline=None, max_examples=60)
@given(log=batches(), data=st.data())
def test_shares_are_exact_at_each_event_with_and_without_a_sample_of_columns(
    log: list[list[Event]], data: st.DataObject
) -> None:
    memory, reference = memory_of(), Reference()
    for batch in log:
        live_before = live_items(memory, log)
        moments, _ = memory.enter(batch)
        evidence = evidence_of(memory, moments)
        rows = range(1, memory.num_item_rows)
        columns = [0, *sorted(data.draw(st.sets(st.sampled_from(rows)) if rows else st.just(set())))]
        parts = []
        for statistic in range(NUM_STATISTICS):
            gate_BS = one_hot(statistic, len(batch))
            parts.append(mixed(memory, evidence, gate_BS))
            sampled_BC = mixed(memory, evidence, gate_BS, columns)
            torch.testing.assert_close(sampled_BC, parts[-1][:, columns], rtol=1e-5, atol=1e-7)
        by_item = [
            {memory.items.id(row): [part[index, row].item() for part in parts] for row in rows}
            for index in range(len(batch))
        ]
        for index, (one, shares) in enumerate(zip(batch, by_item, strict=True)):
            where = f"event {index} of {batch} after {log}"
            num_items = max(1, len(there_at(memory, live_before, batch, index)))
            assert all(found[UNIFORM] == pytest.approx(1 / num_items) for found in shares.values())
            places = [0, 1, 2, FOLLOWS, FREQUENT, RECENT]
            for statistic, (expected, mass) in zip(places, reference.statistics(one), strict=True):
                found = {item: values[statistic] for item, values in shares.items()}
                if mass > LEAST_MASS:
                    assert found == pytest.approx({item: expected[item] for item in found}, rel=1e-3, abs=1e-5), where
                    assert evidence.usable_BS[index, statistic], where
                else:
                    # Too long ago to tell the shares: then it says nothing at all, or still says it right.
                    assert (
                        sum(found.values()) == 0 and not evidence.usable_BS[index, statistic]
                    ) or found == pytest.approx({item: expected[item] for item in found}, rel=1e-3, abs=1e-5), where
            reference.count(one)
        memory.update(moments)


@settings(deadline=None, max_examples=30)
@given(
    log=batches(), seed=st.integers(0, 2**31), max_items=st.sampled_from([3, 4, 50]), max_users=st.sampled_from([1, 50])
)
def test_whatever_retires_and_the_gate_says_the_mixture_is_the_sum_of_its_parts_and_a_distribution(
    log: list[list[Event]], seed: int, max_items: int, max_users: int
) -> None:
    memory = memory_of(max_items=max_items, max_users=max_users, max_neighbours=2)
    torch.manual_seed(seed)
    mixture = StatisticsMixture(len(HALF_LIVES_S))
    torch.nn.init.normal_(mixture.output.weight, std=2.0)
    for batch in log:
        live_before = live_items(memory, log)
        moments, _ = memory.enter(batch)
        evidence = evidence_of(memory, moments)
        with torch.no_grad():
            gate_BS = mixture.gate(evidence)
        assert torch.isfinite(evidence.features_BX).all()
        assert (gate_BS[~evidence.usable_BS] == 0).all()
        parts_BI = sum(gate_BS[:, [s]] * mixed(memory, evidence, one_hot(s, len(batch))) for s in range(NUM_STATISTICS))
        mixed_BI = mixed(memory, evidence, gate_BS)
        torch.testing.assert_close(mixed_BI, parts_BI, rtol=1e-4, atol=1e-6)
        for index in range(len(batch)):
            rows = there_at(memory, live_before, batch, index)
            if rows:
                assert mixed_BI[index, rows].sum().item() == pytest.approx(1.0, rel=1e-4), f"event {index} of {batch}"
        assert (mixed_BI >= 0).all()
        memory.update(moments)


@settings(deadline=None, max_examples=30)
@given(log=batches())
def test_one_batch_or_one_event_at_a_time_is_the_same_evidence(log: list[list[Event]]) -> None:
    events = [one for batch in log for one in batch]
    together, one_by_one = memory_of(), memory_of()
    moments, _ = together.enter(events)
    evidence = evidence_of(together, moments)
    parts = [
        mixed(together, evidence, one_hot(s, len(events)))
        for s in range(NUM_STATISTICS)
        if s not in (UNIFORM, *IN_BATCHES)
    ]
    for index, one in enumerate(events):
        alone, _ = one_by_one.enter([one])
        evidence = evidence_of(one_by_one, alone)
        alone_parts = [
            mixed(one_by_one, evidence, one_hot(s, 1)) for s in range(NUM_STATISTICS) if s not in (UNIFORM, *IN_BATCHES)
        ]
        for part, alone_part in zip(parts, alone_parts, strict=True):
            for row in range(1, one_by_one.num_item_rows):
                same_row = together.items.row(one_by_one.items.id(row))
                found = part[index, same_row].item()
                # After a gap that leaves as good as nothing, either may have given up first.
                if alone_part.sum() > 0 and part[index].sum() > 0:
                    assert found == pytest.approx(alone_part[0, row].item(), rel=1e-3, abs=1e-5)
        one_by_one.update(alone)


def test_a_block_of_moments_has_the_evidence_of_the_whole() -> None:
    memory = memory_of()
    first = [event("u1", "a"), event("u2", "b", 5), event("u1", "c", 6), event("u1", "a", 9)]
    moments, _ = memory.enter(first)
    memory.update(moments)
    moments, _ = memory.enter([event("u2", "c", 20), event("u1", "b", 21), event("u2", "a", 22), event("u3", "a", 23)])
    evidence = evidence_of(memory, moments)
    gate_BS = torch.softmax(torch.arange(4 * NUM_STATISTICS, device=CPU).float().view(4, -1).sin(), 1)
    whole = mixed(memory, evidence, gate_BS)
    for block in (slice(0, 2), slice(1, 4), slice(3, 9)):
        torch.testing.assert_close(mixed(memory, evidence.of(block), gate_BS[block]), whole[block])


def test_an_event_that_comes_late_weighs_no_more_than_it_would_in_a_batch_of_its_own() -> None:
    together, apart = memory_of(), memory_of()
    old, late = event("u1", "a", 0), event("u2", "b", -3_000)  # ten half-lives late
    moments, _ = together.enter([old, late, event("u3", "c", -3_000)])
    for one in (old, late):
        alone, _ = apart.enter([one])
        apart.update(alone)
    alone, _ = apart.enter([event("u3", "c", -3_000)])
    found = mixed(together, evidence_of(together, moments), one_hot(0, 3))[2]
    expected = mixed(apart, evidence_of(apart, alone), one_hot(0, 1))[0]
    torch.testing.assert_close(found, expected)
    assert found[together.items.row("b")].item() == pytest.approx(2.0**-10, rel=1e-2)


def test_what_the_user_had_counts_only_where_repeats_are_allowed() -> None:
    memory = memory_of()
    moments, _ = memory.enter([event("u1", "a"), event("u1", "b", 1), event("u1", "a", 2)])
    with_repeats = gather_evidence(memory, moments)
    memory.allows_repeats = False
    without = gather_evidence(memory, moments)
    assert with_repeats.usable_BS[:, FREQUENT:KIND].tolist() == [[False] * 3, [True] * 3, [True] * 3]
    assert not without.usable_BS[:, FREQUENT:KIND].any()


def test_a_history_of_retired_items_leaves_no_mass_to_lose() -> None:
    memory = memory_of()
    moments, _ = memory.enter([event("u1", "a"), event("u2", "b", 1)])
    memory.update(moments)
    memory.histories.forget_items([memory.items.row("a")], memory.users.high_water)
    evidence = evidence_of(memory, memory.looking([event("u1", "?", 2)]))
    assert not evidence.usable_BS[0, FREQUENT:KIND].any()
    with torch.no_grad():
        gate_BS = StatisticsMixture(len(HALF_LIVES_S)).gate(evidence)
    listed_I = ~evidence.out_BI[0]
    assert mixed(memory, evidence, gate_BS)[0, listed_I].sum().item() == pytest.approx(1.0, rel=1e-5)


def test_what_is_seen_does_not_depend_on_who_else_looks() -> None:
    memory = memory_of()
    moments, _ = memory.enter([event("u1", "a"), event("u2", "b", 4_000)])
    memory.update(moments)
    events = [event("u2", "?", 90_000), event("u1", "?", 5_000)]
    both, alone = evidence_of(memory, memory.looking(events)), evidence_of(memory, memory.looking(events[1:]))
    assert torch.equal(both.features_BX[1:], alone.features_BX)
    assert torch.equal(both.scale_HB[:, 1:], alone.scale_HB)
