"""Ids to rows: bounded, least recently used out first, admission by sightings, and a resumed one goes on the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.state.vocabulary import NOBODY, Vocabulary
from tests.stream_rec.state.worlds import differences

IDS = st.sampled_from([f"id{number}" for number in range(12)])
CALLS = st.lists(st.lists(IDS, max_size=9), max_size=14)


def live(vocabulary: Vocabulary) -> dict[str, int]:
    return {f"id{n}": vocabulary.row(f"id{n}") for n in range(12) if vocabulary.row(f"id{n}") != NOBODY}


@settings(deadline=None)
@given(calls=CALLS, capacity=st.integers(1, 7), admit_after=st.integers(1, 3))
def test_rows_follow_recency_and_sightings_whatever_comes(
    calls: list[list[str]], capacity: int, admit_after: int
) -> None:
    vocabulary = Vocabulary("item", capacity, admit_after)
    last_used: dict[str, int] = {}
    waiting: dict[str, int] = {}
    num_evicted = 0
    for time, ids in enumerate(calls):
        before = live(vocabulary)
        assigned = vocabulary.assign(ids)
        after = live(vocabulary)

        # Who has a row: what had one or was sighted often enough, as far as there is room for this very call.
        expected_rows = []
        admitted_now: list[str] = []
        for id_ in ids:
            if id_ not in before and id_ not in admitted_now:
                # Beyond the capacity the waiting that has waited longest is forgotten.
                waiting[id_] = waiting.pop(id_, 0) + 1
                if waiting[id_] >= admit_after:
                    del waiting[id_]
                    held = {*(set(ids) & before.keys()), *admitted_now}
                    if len(held) < capacity:
                        admitted_now.append(id_)
                elif len(waiting) > capacity:
                    del waiting[next(iter(waiting))]
            known = id_ in before or id_ in admitted_now
            expected_rows.append(after[id_] if known else NOBODY)
        assert assigned.rows.tolist() == expected_rows
        assert [vocabulary.id(row) for row in assigned.new] == admitted_now

        # Who lost one: only whom this call does not name, and nobody who was used later than one that stays.
        gone = before.keys() - after.keys()
        assert sorted(assigned.retired) == sorted(before[id_] for id_ in gone)
        assert not gone & set(ids)
        staying = [last_used[id_] for id_ in before.keys() - gone - set(ids)]
        assert all(last_used[id_] <= min(staying, default=time) for id_ in gone)
        assert {id_: after[id_] for id_ in before.keys() - gone} == {id_: before[id_] for id_ in before.keys() - gone}

        last_used |= dict.fromkeys(ids, time)
        num_evicted += len(gone)
        assert len(vocabulary) == len(after) <= capacity
        assert sorted(set(after.values())) == sorted(after.values())
        assert set(after.values()) <= set(range(1, vocabulary.high_water))
        assert vocabulary.high_water <= capacity + 1
        assert vocabulary.num_evicted == num_evicted


@settings(deadline=None)
@given(calls=CALLS, cut=st.integers(0, 14), capacity=st.integers(1, 7), admit_after=st.integers(1, 3))
def test_resumed_equals_uninterrupted(calls: list[list[str]], cut: int, capacity: int, admit_after: int) -> None:
    whole, first = Vocabulary("user", capacity, admit_after), Vocabulary("user", capacity, admit_after)
    for ids in calls:
        whole.assign(ids)
    for ids in calls[:cut]:
        first.assign(ids)
    state = first.state()
    # Everything but the array goes through JSON in a snapshot.
    state |= json.loads(json.dumps({key: value for key, value in state.items() if key != "last_used"}))
    resumed = Vocabulary("user", capacity, admit_after)
    resumed.load_state(state)
    for ids in calls[cut:]:
        resumed.assign(ids)
    assert list(differences(whole.state(), resumed.state())) == []
    assert live(whole) == live(resumed)


def test_whoever_is_named_in_a_call_keeps_his_row_though_a_newcomer_stands_before_him() -> None:
    vocabulary = Vocabulary("user", 2)
    old, other = vocabulary.assign(["old"]).rows[0], vocabulary.assign(["other"]).rows[0]
    assigned = vocabulary.assign(["newcomer", "old"])
    assert assigned.rows.tolist() == [other, old]
    assert assigned.retired == [other]


def test_more_newcomers_than_rows_in_one_call_leaves_the_last_ones_out() -> None:
    vocabulary = Vocabulary("item", 2)
    assert vocabulary.assign(["a", "b", "c", "a"]).rows.tolist() == [1, 2, NOBODY, 1]
    assert vocabulary.assign(["c"]).rows.tolist() == [1]


def test_a_sixty_fourth_is_retired_at_once_and_handed_out_oldest_first() -> None:
    vocabulary = Vocabulary("item", 128)
    for number in range(128):
        vocabulary.assign([f"old{number}"])
    assigned = vocabulary.assign(["new"])
    assert assigned.retired == [1, 2]
    assert assigned.rows.tolist() == [1]
    assert vocabulary.assign(["newer"]).retired == []
    assert vocabulary.row("newer") == 2
    assert (vocabulary.take_evicted(), vocabulary.take_evicted()) == (2, 0)


def test_resumed_with_free_rows_hands_them_out_in_the_same_order() -> None:
    whole, resumed = Vocabulary("item", 256), Vocabulary("item", 256)
    for number in (*range(100, 256), *range(100)):
        whole.assign([f"old{number}"])
    whole.assign(["old101", "new"])
    resumed.load_state(whole.state())
    assert whole.assign(["x", "y", "z"]).rows.tolist() == resumed.assign(["x", "y", "z"]).rows.tolist() == [3, 4, 5]


def test_equal_ages_retire_by_row() -> None:
    vocabulary = Vocabulary("item", 3)
    vocabulary.assign(["a", "b", "c"])
    assert vocabulary.assign(["d"]).retired == [1]


def test_uncounted_sightings_admit_nobody_and_are_not_counted() -> None:
    vocabulary = Vocabulary("item", 4, admit_after=2)
    assert vocabulary.assign(["a"], counted=False).rows.tolist() == [NOBODY]
    assert vocabulary.assign(["a"]).rows.tolist() == [NOBODY]
    assert vocabulary.assign(["a"]).rows.tolist() == [1]


def test_uncounted_sightings_push_out_nobody_who_waits() -> None:
    vocabulary = Vocabulary("item", 2, admit_after=2)
    vocabulary.assign(["sighted"])
    for number in range(9):
        vocabulary.assign([f"catalogue {number}"], counted=False)
    assert vocabulary.num_waiting == 1
    assert vocabulary.assign(["sighted"]).rows.tolist() == [1]


def test_law_3_those_who_wait_for_admission_are_bounded_too() -> None:
    vocabulary = Vocabulary("user", 3, admit_after=2)
    for number in range(50):
        vocabulary.assign([f"passer-by {number}"])
        assert vocabulary.num_waiting <= 3
    assert len(vocabulary) == 0
    assert vocabulary.assign(["passer-by 49"]).rows.tolist() == [1]


def test_looking_up_changes_nothing() -> None:
    vocabulary = Vocabulary("user", 2, admit_after=2)
    vocabulary.assign(["a", "a", "b"])
    before = vocabulary.state()
    assert vocabulary.row("zz") == NOBODY
    assert vocabulary.rows(["a", "b", "zz"]).tolist() == [1, NOBODY, NOBODY]
    assert vocabulary.rows([]).dtype == np.int64
    assert [vocabulary.is_live(row) for row in (-1, 0, 1, 2, 99)] == [False, False, True, False, False]
    assert list(differences(before, vocabulary.state())) == []


def test_a_row_that_nobody_has_has_no_id() -> None:
    vocabulary = Vocabulary("item", 2)
    vocabulary.assign(["a"])
    assert vocabulary.ids([1]) == ["a"]
    with pytest.raises(AssertionError, match="item row 0 is not in use"):
        vocabulary.id(NOBODY)


def test_a_snapshot_that_does_not_fit_names_the_setting() -> None:
    big, small = Vocabulary("user", 5), Vocabulary("user", 2)
    big.assign(["a", "b", "c"])
    with pytest.raises(ValueError, match=r"3 user rows do not fit state\.max_users = 2"):
        small.load_state(big.state())
