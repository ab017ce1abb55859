"""What is asked, what may not be listed, and what is known of an event just before it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stream_rec.config import StateSettings
from stream_rec.evaluation.baselines.base import OneByOne, Turn
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.evaluation.study.exams import Examiner
from stream_rec.records import Event

STATE = StateSettings(max_users=50, max_items=50)
WEIGHTS = {"impression": 0.0}


def event(user: str, item: str, at_ms: int = 1_000, kind: str = "view") -> Event:
    return Event(user, item, kind, at_ms)


def examiner(*, novel: bool = True, burn_in_events: int = 0) -> Examiner:
    return Examiner(STATE, WEIGHTS, novel=novel, burn_in_events=burn_in_events)


class Noted:
    """A player that lists what it is told and notes its turns."""

    def __init__(self, items: Sequence[str]) -> None:
        self.items = list(items)
        self.turns: list[Turn] = []

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        self.turns += turns
        return [self.items[:k] for _ in turns]


def test_the_question_tells_the_past_of_user_and_item_before_the_event():
    one = examiner(novel=False)
    one.examine(Noted([]), [event("u", "a", 10), event("v", "b", 20), event("u", "b", 30)], 20)
    one.examine(Noted([]), [event("u", "a", 40), event("w", "b", 50)], 20)
    table = one.answers.table()
    assert table.timestamp_ms.tolist() == [10, 20, 30, 40, 50]
    assert table.item_number.tolist() == [0, 1, 1, 0, 1]
    assert table.history_length.tolist() == [0, 0, 1, 2, 0]
    assert table.times_seen.tolist() == [0, 0, 1, 1, 2]
    assert table.item_age_events.tolist() == [0, 0, 1, 3, 3]


def test_ranks_count_from_one_and_misses_are_nought():
    one = examiner(novel=False)
    one.examine(Noted(["b", "a"]), [event("u", "a"), event("v", "b"), event("w", "a"), event("x", "a")], 20)
    assert one.answers.table().rank_E.tolist() == [0, 0, 2, 2]  # never seen: a miss, although it is listed
    one.examine(Noted(["b", "a"]), [event("y", "a"), event("y", "b")], 1)
    assert one.answers.table().rank_E.tolist() == [0, 0, 2, 2, 0, 1]


def test_what_the_user_has_had_is_neither_listed_nor_asked_for_within_a_batch_too():
    one, player = examiner(), Noted(["a"])
    one.examine(player, [event("u", "a"), event("u", "b"), event("u", "a"), event("v", "a")], 20)
    assert [set(turn.exclude) for turn in player.turns] == [set(), {"a"}, {"a", "b"}, set()]
    assert len(one.answers.table().rank_E) == 3  # the repeat is learnt from and not asked

    allowed, player = examiner(novel=False), Noted(["a"])
    allowed.examine(player, [event("u", "a"), event("u", "a")], 20)
    assert [set(turn.exclude) for turn in player.turns] == [set(), set()]
    assert allowed.answers.table().rank_E.tolist() == [0, 1]


def test_events_that_weigh_nothing_are_seen_by_nobody_and_burn_in_counts_them():
    one, player = examiner(novel=False, burn_in_events=2), Noted(["a"])
    log = [event("u", "a"), event("u", "a", kind="impression"), event("u", "a"), event("u", "b", kind="impression")]
    one.examine(player, log, 20)
    assert one.num_observed == 4
    assert [turn.event.type for turn in player.turns] == ["view", "view"]
    assert one.answers.table().rank_E.tolist() == [1]
    assert one.answers.table().history_length.tolist() == [1]


def test_a_batch_in_which_nothing_counts_is_not_played():
    class Never:
        def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
            raise AssertionError

    examiner().examine(Never(), [event("u", "a", kind="impression")], 20)


def test_spread_is_that_of_the_scored_lists():
    one = examiner(novel=False, burn_in_events=2)
    one.examine(Noted(["x"]), [event("u", "a"), event("u", "b")], 20)
    one.examine(Noted(["a", "c"]), [event("u", "c"), event("u", "d")], 20)
    spread = one.spread()
    assert spread["coverage@10"] == pytest.approx(2 / 4)
    assert spread["personalisation@10"] == pytest.approx(1 - 2 / 10)


def test_a_list_is_one_of_just_before_its_event():
    one = examiner(novel=False)
    one.examine(OneByOne(Popularity(None, max_items=9)), [event("u", "a"), event("v", "a"), event("w", "b")], 20)
    assert one.answers.table().rank_E.tolist() == [0, 1, 0]
