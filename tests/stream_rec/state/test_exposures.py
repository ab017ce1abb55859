"""Counts of what was shown and taken: an item's own pull is told from that of its place, exactly up to each moment."""

from __future__ import annotations

import random

import pytest
import torch

from stream_rec.records import Event
from stream_rec.state.exposures import MAX_PLACE, Exposures
from stream_rec.state.shown import ShownList, ShownLists, bucket_of, put_together, shown_with
from stream_rec.state.vocabulary import Vocabulary

CPU = torch.device("cpu")
NUM_BUCKETS = 4_096
DAY_S = 86_400.0


def lists(*shown: ShownList | None) -> ShownLists:
    together = put_together(shown, Vocabulary("item", 10, 1), {}, NUM_BUCKETS, CPU)
    assert together is not None
    return together


def page(items: str, taken: str | None) -> ShownList:
    return ShownList(list(items), range(1, len(items) + 1), [None] * len(items), taken, 1.0)


def times(number: int, start_s: float = 0.0) -> torch.Tensor:
    return torch.full((number,), start_s, dtype=torch.float64)


def test_an_event_says_what_was_shown_and_what_was_taken_of_it() -> None:
    event = Event("u", "b", "click", 1, impressions=["a", "b", "a"], prices=[3.0, None, 9.0])
    assert shown_with(event, 2.0) == (["a", "b"], [1, 2], [3.0, None], "b", 2.0)
    assert shown_with(event, 0.0) == (["a", "b"], [1, 2], [3.0, None], None, 1.0)
    assert shown_with(Event("u", "x", "click", 1, impressions=["a"]), 1.0) == (["a"], [1], [None], "x", 0.0)
    alone = Event("u", "a", "impression", 1, impressions=["a"], context={"position": 7.0})
    assert shown_with(alone, 0.0) == (["a"], [7], [None], None, 1.0)
    assert shown_with(Event("u", "a", "click", 1), 1.0) is None
    far = Event("u", "a", "click", 1, impressions=[f"i{n}" for n in range(100)])
    assert max(shown_with(far, 1.0).places) == MAX_PLACE  # type: ignore[union-attr]


def test_ids_are_looked_up_and_given_no_row() -> None:
    vocabulary = Vocabulary("item", 10, 1)
    vocabulary.assign(["a", "b"])
    shown = [page("ax", "a"), None, page("ba", None)]
    together = put_together(shown, vocabulary, {2: 1}, NUM_BUCKETS, CPU)
    assert together is not None
    # Row 2 came with the second event: up to it, it is as unknown as x.
    assert together.rows_BK.tolist() == [[1, 0], [0, 0], [2, 1]]
    assert together.is_real_BK.tolist() == [[True, True], [False, False], [True, True]]
    assert together.taken_B.tolist() == [0, -1, -1]
    assert len(vocabulary) == 2
    assert put_together([None, None], vocabulary, {}, NUM_BUCKETS, CPU) is None


def test_pull_is_told_from_place() -> None:
    """What stands first is taken half of the time; of what stands third, c more than its place explains."""
    exposures = Exposures(NUM_BUCKETS, 30 * DAY_S, CPU)
    rng = random.Random(1)
    for _ in range(40):
        batch = []
        for _ in range(50):
            items = rng.choice(["abc", "bac", "abd", "bad"])
            likely = 0.3 if items[2] == "c" else 0.05
            taken = items[0] if rng.random() < 0.5 else items[2] if rng.random() < likely else None
            batch.append(page(items, taken))
        exposures.update(lists(*batch), times(50), 0.0)
    asked = lists(page("abcd", None))
    shown, taken, expected = exposures.of_items(asked.buckets_BK, times(1), None)[:, 0]
    pull = ((taken + 1) / (expected + 1)).tolist()
    assert pull[0] == pytest.approx(1.0, abs=0.15)
    assert pull[2] > 1.5
    assert pull[3] < 0.5
    assert shown.tolist()[0] == 2_000
    rates = exposures.rates(torch.tensor([[1, 2, 3]]))[0].tolist()
    assert rates[0] == pytest.approx(0.5, abs=0.05)
    assert rates[1] < 0.01


def test_counts_fade_with_their_half_life() -> None:
    exposures = Exposures(NUM_BUCKETS, DAY_S, CPU)
    exposures.update(lists(page("ab", "a")), times(1), 0.0)
    exposures.update(lists(page("ab", None)), times(1, 3 * DAY_S), 3 * DAY_S)
    asked = lists(page("a", None))
    counts = exposures.of_items(asked.buckets_BK, times(1, 3 * DAY_S), None)[:2, 0, 0]
    assert counts.tolist() == pytest.approx([1 + 1 / 8, 1 / 8])
    for day in range(4, 400):  # the landmark moves on
        exposures.update(lists(page("c", "c")), times(1, day * DAY_S), day * DAY_S)
    counts = exposures.of_items(lists(page("c", None)).buckets_BK, times(1, 399 * DAY_S), None)[:2, 0, 0]
    assert counts.tolist() == pytest.approx([2.0, 2.0], rel=1e-4)


def test_within_a_batch_each_moment_knows_those_before_it() -> None:
    exposures = Exposures(NUM_BUCKETS, DAY_S, CPU)
    rng = random.Random(2)
    shown = [page("".join(rng.sample("abcdef", 3)), None) for _ in range(12)]
    batch = [one._replace(taken=rng.choice([*one.items, None])) for one in shown]
    batch[4] = batch[4]._replace(weight=0.0)  # not counted
    together = lists(*batch)
    seen = exposures.of_items(together.buckets_BK, times(12), together)
    for moment, one in enumerate(batch):
        for place, item in enumerate(one.items):
            before = [other for other in batch[:moment] if other.weight > 0 and item in other.items]
            assert seen[0, moment, place] == len(before)
            assert seen[1, moment, place] == sum(other.taken == item for other in before)


def test_what_it_holds_comes_back() -> None:
    exposures, other = Exposures(NUM_BUCKETS, DAY_S, CPU), Exposures(NUM_BUCKETS, DAY_S, CPU)
    exposures.update(lists(page("ab", "a")), times(1, 50.0), 50.0)
    other.load_state(exposures.state())
    asked = lists(page("abz", None))
    assert torch.equal(*(each.of_items(asked.buckets_BK, times(1, 60.0), None) for each in (exposures, other)))
    assert torch.equal(exposures.rates(asked.places_BK), other.rates(asked.places_BK))
    assert exposures.empty_share() == other.empty_share()


def test_buckets_are_bounded_and_leave_the_first_for_none() -> None:
    found = {bucket_of(f"i{number}", 8) for number in range(200)}
    assert found == set(range(1, 8))
