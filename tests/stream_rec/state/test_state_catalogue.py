"""Attributes and availability by item row: before and after the first click, bounded, and never the former owner's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rec.records import Item
from stream_rec.state.catalogue import Catalogue
from tests.stream_rec.state.worlds import CPU, differences

CAPACITY = 6
WIDTH = 3


def catalogue_of(num_buckets: int = 4_096) -> Catalogue:
    return Catalogue(CAPACITY, WIDTH, num_buckets, CPU)


def features(catalogue: Catalogue, row: int) -> list[int]:
    return [feature for feature in catalogue.features_IA[row].tolist() if feature]


ITEMS = st.builds(
    Item,
    st.text(min_size=1, max_size=5),
    title=st.none() | st.text(max_size=30),
    categories=st.lists(st.text(max_size=6), max_size=4),
    price=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    tags=st.lists(st.text(max_size=6), max_size=4),
    available=st.booleans(),
    attributes=st.dictionaries(st.text(max_size=4), st.text(max_size=70) | st.floats(), max_size=4),
)


@settings(deadline=None)
@given(items=st.lists(ITEMS, min_size=1, max_size=12), num_buckets=st.sampled_from([2, 3, 64, 32_768]))
def test_law_3_any_items_stay_within_width_table_and_capacity(items: list[Item], num_buckets: int) -> None:
    catalogue = catalogue_of(num_buckets)
    for index, item in enumerate(items):
        catalogue.put(item, 1 + index % CAPACITY)
        assert len(catalogue) <= CAPACITY
        assert item.item_id in catalogue
    assert catalogue.width <= WIDTH
    assert catalogue.num_features <= num_buckets
    assert not catalogue.features_IA[0].any()
    assert not catalogue.features_IA[:, catalogue.width :].any()
    assert ((catalogue.features_IA >= 0) & (catalogue.features_IA < catalogue.num_features)).all()
    last = items[-1]
    row = 1 + (len(items) - 1) % CAPACITY
    assert len(set(features(catalogue, row))) == len(features(catalogue, row))
    assert bool(catalogue.available_I[row]) == last.available


def test_what_is_shared_is_shared_and_what_is_not_is_not() -> None:
    catalogue = catalogue_of()
    catalogue.put(Item("a", categories=["shoes"], tags=["red"]), 1)
    catalogue.put(Item("b", categories=["shoes", "hats"]), 2)
    catalogue.put(Item("c", tags=["shoes"]), 3)  # a tag is no category
    assert features(catalogue, 1) == [1, 2]
    assert features(catalogue, 2) == [1, 3]
    assert features(catalogue, 3) == [4]
    assert (catalogue.num_features, catalogue.width) == (5, 2)


def test_categories_come_first_then_tags_price_attributes_and_words() -> None:
    catalogue = Catalogue(CAPACITY, 99, 4_096, CPU)
    for number, part in enumerate(
        (
            Item("0", categories=["shoes"]),
            Item("1", tags=["red"]),
            Item("2", price=49.0),
            Item("3", attributes={"brand": "Acme"}),
            Item("4", title="Émile's über-Schuh 42 of_it"),  # three words of three letters and more
        )
    ):
        catalogue.put(part, 1 + number)
    assert catalogue.num_features == 1 + 4 + 3
    whole = Item("5", "Émile's über-Schuh 42 of_it", ["shoes", "shoes"], 49.0, ["red"], True, {"brand": "Acme"})
    catalogue.put(whole, 6)
    assert features(catalogue, 6) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(100.0, 105.0, True), (100.0, 200.0, False), (0.01, 0.0101, True), (1e-300, 1e300, False), (5e-324, 5e-324, True)],
)
def test_a_price_band_spans_a_factor(one: float, other: float, same: bool) -> None:
    catalogue = catalogue_of()
    catalogue.put(Item("a", price=one), 1)
    catalogue.put(Item("b", price=other), 2)
    assert (features(catalogue, 1) == features(catalogue, 2)) == same


@pytest.mark.parametrize("price", [0.0, -3.0, None])
def test_no_price_is_no_attribute(price: float | None) -> None:
    catalogue = catalogue_of()
    catalogue.put(Item("a", price=price), 1)
    assert features(catalogue, 1) == []


def test_an_update_before_the_first_click_is_there_when_the_row_comes() -> None:
    catalogue = catalogue_of()
    catalogue.put(Item("a", categories=["shoes"], available=False), 0)
    assert not catalogue.features_IA.any()
    assert catalogue.available_I.all()
    catalogue.place_all(["unknown", "a"], np.asarray([1, 2]))
    assert [features(catalogue, row) for row in (1, 2)] == [[], [1]]
    assert catalogue.available_I[:3].tolist() == [True, True, False]


def test_one_row_or_many_are_written_the_same() -> None:
    one, many = catalogue_of(), catalogue_of()
    ids = ["a", "b", "gone", "unknown"]
    for catalogue in (one, many):
        catalogue.put(Item("a", categories=["x", "y"]), 0)
        catalogue.put(Item("b", available=False), 0)
        catalogue.drop("gone", 0)
        catalogue.features_IA[:] = 7  # of former owners
    for row, id_ in enumerate(ids, 1):
        one.place(id_, row)
    many.place_all(ids, np.arange(1, 5))
    assert list(differences(one.state(5), many.state(5))) == []
    assert one.features_IA[2:5].tolist() == [[0] * WIDTH] * 3


def test_a_tombstone_counts_before_the_first_click_and_after() -> None:
    catalogue = catalogue_of()
    catalogue.put(Item("a"), 1)
    catalogue.drop("a", 1)
    catalogue.drop("never clicked", 0)
    assert not catalogue.available_I[1]
    # Both get rows again, by late clicks.
    catalogue.place_all(["a", "never clicked"], np.asarray([2, 3]))
    assert catalogue.available_I[:4].tolist() == [True, False, False, False]
    catalogue.put(Item("a"), 2)
    assert bool(catalogue.available_I[2])
    assert "a" in catalogue
    assert catalogue.num_gone == 1


def test_law_3_tombstones_are_bounded_and_push_no_item_out() -> None:
    catalogue = catalogue_of()
    catalogue.put(Item("a", available=False), 0)
    for number in range(50):
        catalogue.drop(f"gone {number}", 0)
        assert catalogue.num_gone <= CAPACITY
    assert "a" in catalogue
    catalogue.place_all(["gone 0", "gone 49"], np.asarray([1, 2]))
    assert catalogue.available_I[1:3].tolist() == [True, False]


def test_the_oldest_update_is_forgotten_first() -> None:
    catalogue = catalogue_of()
    for number in range(CAPACITY):
        catalogue.put(Item(f"i{number}"), 0)
    catalogue.put(Item("i1"), 0)  # an update of one that is known takes no place
    assert "i0" in catalogue
    catalogue.put(Item("new"), 0)
    catalogue.put(Item("newer"), 0)
    assert [f"i{number}" in catalogue for number in range(4)] == [False, True, False, True]
    assert len(catalogue) == CAPACITY


CHANGES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.one_of(st.none(), ITEMS), st.integers(0, 3)), max_size=12)


@settings(deadline=None, max_examples=50)
@given(before=CHANGES, after=CHANGES)
def test_resumed_equals_uninterrupted(
    before: list[tuple[str, Item | None, int]], after: list[tuple[str, Item | None, int]]
) -> None:
    def play(catalogue: Catalogue, changes: list[tuple[str, Item | None, int]]) -> None:
        for id_, item, row in changes:
            if item is None:
                catalogue.drop(id_, row)
            else:
                fields = (item.title, item.categories, item.price, item.tags, item.available, item.attributes)
                catalogue.put(Item(id_, *fields), row)

    whole, first, resumed = catalogue_of(), catalogue_of(), catalogue_of()
    play(whole, before + after)
    play(first, before)
    state = first.state(4)
    # Everything but tensors goes through JSON in a snapshot.
    plain = {key: value for key, value in state.items() if isinstance(value, list | int)}
    resumed.load_state(state | json.loads(json.dumps(plain)))
    assert list(differences(first.state(CAPACITY + 1), resumed.state(CAPACITY + 1))) == []
    play(resumed, after)
    assert list(differences(whole.state(CAPACITY + 1), resumed.state(CAPACITY + 1))) == []
