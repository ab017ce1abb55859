"""Snapshots: what is written is what is read, with its positions, and nothing is ever executed."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_rec.durability import snapshots
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.errors import SnapshotError
from stream_rec.learning.learner import Learner
from stream_rec.records import Position
from tests.stream_rec.durability.snapshot_states import FILES, POSITIONS, names, newest, settings_in, some_state
from tests.stream_rec.tiny_worlds import attributes, differing, learn, rich

# -- what is written is what is read -------------------------------------------------------------------------------


def test_without_snapshots_there_is_none_and_no_folder_is_made(store: SnapshotStore) -> None:
    assert store.newest() is None
    assert not store.directory.exists()


def test_a_state_comes_back_bit_for_bit(store: SnapshotStore) -> None:
    path, size_bytes = store.write(42, reversed(POSITIONS), some_state(3))
    snapshot = newest(store)
    assert differing(some_state(3), snapshot.state) == []
    assert (snapshot.path, snapshot.batch, snapshot.positions) == (path, 42, POSITIONS)
    assert size_bytes == sum(file.stat().st_size for file in path.iterdir())
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)


def test_writing_keeps_nothing_of_the_state_and_changes_nothing_in_it(store: SnapshotStore) -> None:
    state = some_state(1)
    store.write(1, POSITIONS, state)
    assert differing(state, some_state(1)) == []
    state["tensors"]["long"].zero_()
    assert newest(store).state["tensors"]["long"].tolist() == [1, 2, 3]


def test_checksums_are_in_the_form_that_sha256sum_reads(store: SnapshotStore) -> None:
    path, _ = store.write(1, POSITIONS, some_state())
    lines = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES[:3]]
    assert (path / "SHA256SUMS").read_text(encoding="utf-8") == "".join(lines)


def test_workers_have_folders_of_their_own(tmp_path: Path) -> None:
    first, second = (SnapshotStore(settings_in(tmp_path, worker={"name": name})) for name in ("a", "b"))
    first.write(1, POSITIONS, some_state())
    assert second.newest() is None
    assert first.directory == tmp_path / "a"


def test_the_newest_is_taken_and_the_last_k_are_kept(tmp_path: Path) -> None:
    store = SnapshotStore(settings_in(tmp_path, keep=2))
    for batch in (9, 10, 100, 1_000_000):
        store.write(batch, POSITIONS, some_state(batch))
        assert newest(store).batch == batch
    assert names(store) == ["snapshot-000000000100", "snapshot-000001000000"]


def test_the_same_batch_can_be_written_again(store: SnapshotStore) -> None:
    store.write(5, POSITIONS, some_state(1))
    store.write(5, POSITIONS[:1], some_state(2))
    assert newest(store).state["number"] == 2
    assert newest(store).positions == POSITIONS[:1]
    assert names(store) == ["snapshot-000000000005"]


# -- law 4 ---------------------------------------------------------------------------------------------------------


def test_law_4_a_position_is_the_next_record_to_read(tmp_path: Path) -> None:
    """State and positions are of one moment: what is learnt from there on is what an uninterrupted learner learns."""
    settings = settings_in(tmp_path)
    log = rich(192)
    learner, store = Learner(settings), SnapshotStore(settings)
    for next_offset in (64, 128, 192):
        learn(learner, log[next_offset - 64 : next_offset])
        store.write(learner.batch, [Position("events", 0, next_offset)], {"learner": learner.state()})
    # The last one is lost, so the log is read again from where the one before it stands.
    shutil.rmtree(newest(store).path)
    snapshot = newest(store)
    (position,) = snapshot.positions
    assert position == Position("events", 0, 128)
    resumed = Learner(settings)
    resumed.load_state(snapshot.state["learner"])
    learn(resumed, log[position.offset :])
    assert differing(resumed.state(), learner.state()) == []


def test_law_4_positions_that_were_changed_on_disk_are_not_believed(store: SnapshotStore) -> None:
    store.write(1, POSITIONS, some_state(1))
    path, _ = store.write(2, POSITIONS, some_state(2))
    manifest = path / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    assert '"offset": 17' in text
    manifest.write_text(text.replace('"offset": 17', '"offset": 19'), encoding="utf-8")
    assert newest(store).batch == 1


# -- settings and formats ------------------------------------------------------------------------------------------


def test_a_snapshot_of_other_settings_is_refused_and_they_are_named(tmp_path: Path) -> None:
    SnapshotStore(settings_in(tmp_path)).write(1, POSITIONS, some_state())
    other = settings_in(
        tmp_path,
        model={"dimension": 32},
        state={"history_length": 9},
        learning={"exam_candidates": 16, "replay_events": 64},
        ranking={"exclude_seen": True, "history_attention": False},
    )
    with pytest.raises(SnapshotError, match="was made with other settings") as caught:
        SnapshotStore(other).newest()
    for change in (
        "model.dimension was 16 and is 32",
        "state.history_length was 8 and is 9",
        "ranking.exclude_seen was False and is True",
        "ranking.history_attention was True and is False",
        "learning.exam_candidates was 64 and is 16",
        "learning.replay_events was 8192 and is 64",
    ):
        assert change in str(caught.value)
    assert "state.max_items" not in str(caught.value)


def test_settings_that_do_not_shape_the_state_may_change(tmp_path: Path) -> None:
    SnapshotStore(settings_in(tmp_path)).write(1, POSITIONS, some_state(1))
    other = settings_in(
        tmp_path,
        keep=1,
        state={"max_seen_per_user": 7, "max_seen_entries": 70, "admit_item_after": 2},
        learning={"row_rate": 0.5},
        ranking={"list_length": 5},
        worker={"max_batch": 16, "device": "meta"},
    )
    assert newest(SnapshotStore(other)).state["number"] == 1


def test_another_format_is_not_read(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "FORMAT_VERSION", snapshots.FORMAT_VERSION + 1)
    store.write(1, POSITIONS, some_state())
    monkeypatch.undo()
    with pytest.raises(SnapshotError, match="format version 2, this release reads 1"):
        store.newest()


# -- nothing is executed -------------------------------------------------------------------------------------------


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["tensors.safetensors", "values.json", "manifest.json"])
def test_a_hostile_pickle_in_place_of_a_file_is_not_executed(store: SnapshotStore, tmp_path: Path, name: str) -> None:
    """Even one whose checksum is right, as who can write the folder can make it."""
    proof = tmp_path / "executed"
    store.write(1, POSITIONS, some_state(1))
    path, _ = store.write(2, POSITIONS, some_state(2))
    hostile = pickle.dumps(Hostile(proof))
    (path / name).write_bytes(hostile)
    (path / "SHA256SUMS").write_text("".join(snapshots._checksums(path)), encoding="utf-8")
    assert newest(store).batch == 1
    assert not proof.exists()
    pickle.loads(hostile)
    assert proof.exists()  # it would have worked


def test_no_file_of_a_real_snapshot_holds_a_pickle(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    learner = Learner(settings)
    learner.update_catalogue(attributes(20))
    learn(learner, rich(128))
    path, _ = SnapshotStore(settings).write(learner.batch, POSITIONS, {"learner": learner.state()})
    for file in path.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, EOFError, IndexError, AttributeError)):
            pickle.loads(file.read_bytes())
    assert msgspec.json.decode((path / "manifest.json").read_bytes())["batch"] == learner.batch
