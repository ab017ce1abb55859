"""What a batch of events finds in memory, promise by promise."""

from __future__ import annotations

import pytest
import torch

from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from tests.stream_rec.state.memory_reference import (
    learn,
    memory_of,
    update_of,
)
from tests.stream_rec.state.worlds import differences, event, frozen


def left_out(memory: Memory, moments: Moments) -> list[set[str]]:
    """Ids of the items that each moment may not show though they could be recommended otherwise."""
    found: list[set[str]] = [set() for _ in range(len(moments))]
    if moments.excluded is not None:
        for moment, row in zip(*(part.tolist() for part in moments.excluded), strict=True):
            found[moment].add(memory.items.id(row))
    return found


def test_an_impression_sees_its_users_first_click_of_the_same_batch() -> None:
    memory = memory_of()
    moments = learn(memory, event("u", "a"), event("u", "b", 1, "impression"), event("u", "b", 2))
    assert moments.history.lengths_B.tolist() == [0, 1, 1]
    assert left_out(memory, moments) == [{"a", "b"}, {"a", "b"}, {"a", "b"}]
    assert moments.weight_B.tolist() == [1.0, 0.0, 1.0]


def test_what_weighs_nothing_is_nowhere_learnt() -> None:
    memory = memory_of()
    learn(memory, event("u", "a"))
    before = frozen(memory.state())
    moments = learn(memory, event("u", "b", 9, "impression"), event("stranger", "a", 10, "impression"))
    after = memory.state()
    for state in (before, after):  # the vocabularies count calls, that is all
        del state["users"]["tick"], state["items"]["tick"]
    assert list(differences(before, after)) == []
    assert moments.users.tolist() == [memory.users.row("u"), 0]
    assert memory.items.row("b") == 0


def test_an_item_that_comes_up_in_a_batch_is_listed_from_the_next_event_on() -> None:
    memory = memory_of(exclude_seen=False)
    moments = learn(memory, event("u", "a"), event("v", "b", 1), event("w", "a", 2))
    assert left_out(memory, moments) == [{"a", "b"}, {"b"}, set()]


def test_a_repeat_is_learnt_but_is_no_target_where_it_could_not_be_shown() -> None:
    once, again = memory_of(), memory_of(exclude_seen=False)
    events = [event("u", "a"), event("u", "a", 1, "purchase"), event("stranger", "a", 2)]
    assert learn(once, *events).target_weight_B.tolist() == [1.0, 0.0, 1.0]
    moments = learn(again, *events)
    assert moments.target_weight_B.tolist() == moments.weight_B.tolist() == [1.0, 2.5, 1.0]
    assert again.sizes()["seen"][0] == 0
    assert once.statistics.popularity.totals_H[-1].item() == 4.5


def test_a_user_who_waits_for_admission_is_counted_but_not_remembered() -> None:
    memory = memory_of(admit_user_after=3)
    moments = learn(memory, *(event("u", item, second) for second, item in enumerate("abcd")))
    row = memory.users.row("u")
    assert moments.users.tolist() == [0, 0, row, row]
    assert moments.history.lengths_B.tolist() == [0, 0, 0, 1]
    assert memory.statistics.popularity.totals_H[-1].item() == 4.0
    assert memory.sizes()["histories"][0] == memory.sizes()["seen"][0] == 2


def test_an_item_that_waits_for_admission_counts_for_nothing_yet() -> None:
    memory = memory_of(admit_item_after=2)
    moments = learn(memory, event("u", "a"), event("v", "a", 1), event("u", "a", 2))
    assert moments.counts.tolist() == [False, True, True]
    assert moments.history.lengths_B.tolist() == [0, 0, 0]
    assert left_out(memory, moments) == [{"a"}, {"a"}, set()]
    assert memory.statistics.popularity.totals_H[-1].item() == 2.0


@pytest.mark.parametrize(("unseen_items", "listed"), [(True, ["a"]), (False, [])])
def test_catalogue_items_that_nobody_has_touched_are_listed_by_setting(unseen_items: bool, listed: list[str]) -> None:
    memory = memory_of(unseen_items=unseen_items)
    new_rows = memory.update_catalogue([update_of("a", "put"), update_of("b", "unavailable")])
    assert len(new_rows) == (2 if unseen_items else 0)
    rows = torch.nonzero(memory.recommendable())[:, 0].tolist()
    assert memory.items.ids(rows) == listed
    learn(memory, event("u", "a"), event("u", "b", 1))
    rows = torch.nonzero(memory.recommendable())[:, 0].tolist()
    assert memory.items.ids(rows) == ["a"]  # unavailable stays out, clicked or not


def test_a_tombstone_keeps_out_a_late_click() -> None:
    memory = memory_of()
    learn(memory, event("u", "a"))
    memory.update_catalogue([update_of("a", "tombstone"), update_of("never met", "tombstone")])
    learn(memory, event("v", "a", 1), event("v", "never met", 2))
    assert not memory.recommendable().any()
    memory.update_catalogue([update_of("a", "put")])
    assert memory.items.ids(torch.nonzero(memory.recommendable())[:, 0].tolist()) == ["a"]


def test_a_catalogue_larger_than_the_items_names_each_new_row_once() -> None:
    memory = memory_of(max_items=3)
    new_rows = memory.update_catalogue([update_of(f"item {number}", "put") for number in range(20)])
    assert sorted(new_rows) == [1, 2, 3]
    assert len(memory.items) == 3


def test_a_retired_item_is_a_hole_in_histories_and_leads_nowhere() -> None:
    memory = memory_of(max_items=3, max_users=4)
    learn(memory, event("u", "a"), event("u", "b", 1))
    for second, item in enumerate("cdbcdb", 2):  # a is retired, b stays in use
        learn(memory, event("v", item, second))
    assert memory.items.row("a") == 0
    moments = learn(memory, event("u", "d", 20))
    assert [memory.items.id(r) if r else None for r in moments.history.items_BN[0].tolist()] == ["b", None, None]
    assert moments.history.lengths_B.tolist() == [2]
    transitions = memory.statistics.transitions
    assert not (transitions.weights_WIM[:, transitions.neighbours_IM == 0] > 0).any()


def test_a_retired_item_takes_nobodys_sight_of_the_one_that_gets_its_row() -> None:
    memory = memory_of(max_items=3)
    learn(memory, event("u", "a"), event("v", "b", 1), event("v", "c", 2))
    row = memory.items.row("a")
    moments = learn(memory, event("v", "d", 3))
    assert memory.items.row("d") == row
    assert left_out(memory, moments) == [{"b", "c", "d"}]
    assert left_out(memory, memory.looking([event("u", "?", 4)])) == [set()]


def test_rows_that_are_free_are_not_listed() -> None:
    memory = memory_of(max_items=128)
    for number in range(128):
        learn(memory, event("u", f"old {number}", number))
    assert int(memory.recommendable().sum()) == 128
    learn(memory, event("u", "new", 200))  # two are retired at once, one row is given away
    assert len(memory.items) == 127
    assert sorted(torch.nonzero(memory.recommendable())[:, 0].tolist()) == [1, *range(3, 129)]


def test_what_is_left_out_is_what_had_been_seen_before_the_event_not_after() -> None:
    memory = memory_of(max_seen_per_user=2)
    learn(memory, event("u", "a"), event("u", "b", 1))
    moments = learn(memory, event("u", "c", 2), event("u", "d", 3))  # each takes the place of the oldest
    assert left_out(memory, moments) == [{"a", "b", "c", "d"}, {"b", "c", "d"}]
