"""Item vectors: a row of one's own, and the mean of one's attributes."""

from __future__ import annotations

import pytest
import torch

from stream_rec.learning.learner import Learner
from stream_rec.models.blend import Blend
from stream_rec.models.items import RowTable, item_vectors
from stream_rec.records import Event, Item, ItemUpdate
from tests.stream_rec.tiny_worlds import START_MS, differing, learn, small_settings

CPU = torch.device("cpu")


def table(num_rows: int = 6, std: float = 0.05) -> RowTable:
    return RowTable(num_rows, 3, std=std, accumulator_start=0.3, device=CPU)


def test_a_vector_is_the_own_row_plus_the_mean_of_the_attributes() -> None:
    own_RW = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    attributes_FW = torch.tensor([[99.0, 99.0], [10.0, 0.0], [0.0, 30.0]])
    features_RA = torch.tensor([[0, 0], [1, 0], [2, 1]], dtype=torch.int32)
    expected = [[1.0, 2.0], [13.0, 4.0], [10.0, 21.0]]
    assert item_vectors(own_RW, attributes_FW, features_RA).tolist() == expected


def test_without_any_attributes_a_vector_is_the_own_row() -> None:
    own_RW = torch.ones(3, 2)
    assert item_vectors(own_RW, torch.ones(1, 2), torch.zeros(3, 0, dtype=torch.int32)) is own_RW


def test_new_owners_start_from_the_generator_alone() -> None:
    first, second = table(), table()
    second.weight_IW.fill_(7.0)
    second.accumulator_I.fill_(7.0)
    rows = torch.tensor([2, 5])
    for rows_table in (first, second):
        rows_table.reset(rows, torch.Generator().manual_seed(4))
    assert torch.equal(first.weight_IW[rows], second.weight_IW[rows])
    assert first.weight_IW[rows].unique().numel() == 6
    assert torch.equal(second.accumulator_I, torch.tensor([7.0, 7.0, 0.3, 7.0, 7.0, 0.3]))
    assert (second.weight_IW[[0, 1, 3, 4]] == 7.0).all()


def test_a_table_restored_up_to_a_row_holds_those_rows() -> None:
    first, second = table(std=1.0), table(std=1.0)
    first.reset(torch.arange(6), torch.Generator().manual_seed(4))
    state = first.state(4)
    second.load_state(state)
    assert differing(second.state(4), state) == []
    assert not second.weight_IW[4:].any()
    first.weight_IW.zero_()
    assert state["weight"].any()  # a copy, not a view


def test_a_row_of_a_retired_item_starts_anew_for_the_next() -> None:
    """Nothing of what the old owner has learnt may stick to the new one."""
    learner = Learner(small_settings(state={"max_items": 11}, ranking={"list_length": 5}))
    learn(learner, [Event(f"u{n % 5}", f"i{n % 11}", "click", START_MS + n) for n in range(300)])
    moved = learner.network.item_out.weight_IW[1:].abs().sum(1) > 0
    assert moved.all()
    moments = learner.enter([Event("u1", "newcomer", "click", START_MS + 1_000)])
    row = int(moments.items[0])
    assert learner.memory.items.num_evicted == 1
    assert not learner.network.item_out.weight_IW[row].any()
    assert learner.network.item_out.accumulator_I[row] == learner.network.item_in.accumulator_I[row]


def test_an_item_nobody_has_touched_has_a_place_by_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its category was liked: where the network has a say, it stands before one of the category that was not."""
    learner = Learner(small_settings(ranking={"list_length": 20}))
    kinds = {f"i{n}": "jazz" if n < 5 else "metal" for n in range(10)} | {"new-jazz": "jazz", "new-metal": "metal"}
    learner.update_catalogue([ItemUpdate(id_, Item(id_, categories=[kind])) for id_, kind in kinds.items()])
    jazz = [Event(f"u{n % 40}", f"i{(n * 7 + n // 40) % 5}", "click", START_MS + 1_000 * n) for n in range(640)]
    learn(learner, jazz)
    monkeypatch.setattr(Blend, "weight", lambda self, length_B: torch.ones_like(length_B, dtype=torch.float32))
    (ranked,) = learner.rank([jazz[-1]])
    scores = {item.item_id: item.score for item in ranked}
    assert scores["new-jazz"] > scores["new-metal"] + 0.2


def test_seeds_like_dates_and_the_largest_one_work() -> None:
    states = []
    for seed in (20_260_714, 2**32 - 1):
        learner = Learner(small_settings(worker={"seed": seed}))
        learn(learner, [Event("u", "i", "click", START_MS)])
        states.append(learner.network.state(2, 2, 1))
    assert differing(*states) != []
