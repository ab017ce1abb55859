"""What the loop keeps for its next life: when snapshots are taken, what is in them, how one is taken up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.errors import SnapshotError
from stream_rec.records import Position
from tests.stream_rec.tiny_worlds import differing
from tests.stream_rec.worker_world import TOPIC, Abort, Crashed, End, Pause, World, broken, came, small_settings

EVERY_10_S = small_settings(snapshot={"every_s": 10.0})


def events(first: int, after: int) -> list:
    return [came(f"u{n % 3}", f"i{n % 7}", n) for n in range(first, after)]


def test_snapshots_are_taken_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    script = [*events(0, 4), Pause(6), *events(4, 8), Pause(6), *events(8, 12), Pause(6), *events(12, 14), End()]
    world = World(script, EVERY_10_S, folder=tmp_path).run()

    assert [word for word in world.happened if word in ("publish", "snapshot")] == [
        *("publish", "publish", "publish", "snapshot"),  # 12 s have passed
        *("publish", "snapshot"),  # the end
    ]
    assert world.value("snapshots_total", outcome="succeeded") == 2
    assert world.value("snapshot_last_success_timestamp_seconds") == world.clock.now_ms() / 1000
    assert world.value("snapshot_size_bytes") > 1_000


def test_an_idle_worker_does_not_write_the_same_snapshot_again(tmp_path: Path) -> None:
    world = World([*events(0, 4), Pause(100), broken(4), Pause(100), End()], EVERY_10_S, folder=tmp_path).run()

    assert world.happened.count("snapshot") == 1


def test_law_4_a_snapshot_and_its_positions_are_of_the_same_moment(tmp_path: Path) -> None:
    script = [*events(0, 3), came("v", "b", 6, partition=1), Pause(1), *events(3, 7), Pause(1), *events(7, 9), Abort()]
    world = World(script, small_settings(snapshot={"every_s": 0.9}), folder=tmp_path)
    with pytest.raises(Crashed):
        world.run()

    snapshot = world.store.newest()
    assert snapshot.batch == world.learner.batch
    # What has been learnt and published, not what waited in the batch that the crash took.
    assert snapshot.positions == [Position(TOPIC, 0, 7), Position(TOPIC, 1, 7)]
    assert world.sink.positions[-1] == Position(TOPIC, 0, 7)


def test_a_stop_finishes_the_batch_publishes_it_and_takes_a_snapshot(tmp_path: Path) -> None:
    world = World([], folder=tmp_path)
    world.source.script.extend([*events(0, 2), world.worker.stop, *events(2, 3), Pause(60), *events(3, 9)])
    world.run()

    assert world.sink.positions == [Position(TOPIC, 0, 3)]
    assert world.happened[-2:] == ["remember", "snapshot"]
    assert world.clock.elapsed_s == 0.0  # a stop does not wait for a batch to fill
    assert world.store.newest().positions == [Position(TOPIC, 0, 3)]


def test_a_stop_while_nothing_comes_is_noticed_within_half_a_second() -> None:
    world = World([])
    world.source.script.append(Pause(60))
    poll = world.source.poll

    def stopped_meanwhile(max_records: int, timeout_s: float):
        world.worker.stop()
        return poll(max_records, timeout_s)

    world.source.poll = stopped_meanwhile
    world.run()

    assert world.clock.elapsed_s == 0.5
    assert world.sink.published == []


def test_a_snapshot_that_fails_is_reported_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(
        [*events(0, 4), Pause(11), *events(4, 8), Pause(11), *events(8, 12), End()], EVERY_10_S, folder=tmp_path
    )
    write = SnapshotStore.write
    full = [SnapshotError("no space left on device")]

    def refuse_once(self: SnapshotStore, *args: object):
        if full:
            raise full.pop()
        return write(self, *args)

    monkeypatch.setattr(SnapshotStore, "write", refuse_once)
    world.run()

    assert world.value("snapshots_total", outcome="failed") == 1
    assert world.value("snapshots_total", outcome="succeeded") == 1
    assert len(world.sink.published) == 3
    assert world.store.newest().positions == [Position(TOPIC, 0, 12)]


def test_without_snapshots_there_is_nothing_to_resume() -> None:
    world = World([*events(0, 4), End()])

    assert world.worker.resume() is None
    assert world.source.restarted_at is None
    world.run()
    assert len(world.sink.published) == 1


def test_a_new_worker_takes_up_the_newest_snapshot_and_where_it_stood(tmp_path: Path) -> None:
    first = World([*events(0, 10), End()], folder=tmp_path).run()
    second = World([*events(10, 14), End()], folder=tmp_path)

    assert second.worker.resume() == first.learner.batch == 3
    assert second.source.restarted_at == [Position(TOPIC, 0, 10)]
    second.run()

    assert second.learner.batch == 4
    assert second.evaluator.num_observed == 14
    assert second.sink.published[0].lists[0].model_version == "attention-4"


def test_law_5_a_worker_that_was_killed_between_two_snapshots_comes_to_the_same_lists(tmp_path: Path) -> None:
    whole = World([*events(0, 24), End()]).run()
    killed = World([*events(0, 4), Pause(11), *events(4, 15), Abort()], EVERY_10_S, folder=tmp_path)
    with pytest.raises(Crashed):
        killed.run()
    assert killed.store.newest().positions == [Position(TOPIC, 0, 8)]
    assert killed.sink.positions[-1] == Position(TOPIC, 0, 12)  # offsets 8 to 11 will be learnt again

    resumed = World([*events(8, 24), End()], EVERY_10_S, folder=tmp_path)
    resumed.source.committed_positions = [Position(TOPIC, 0, 12)]
    resumed.worker.resume()
    resumed.run()

    published = [*killed.sink.published, *resumed.sink.published]
    assert [e.journal for e in published] == [e.journal for e in whole.sink.published]
    assert [[(one.user_id, one.items, one.caused_by) for one in e.lists] for e in published] == [
        [(one.user_id, one.items, one.caused_by) for one in e.lists] for e in whole.sink.published
    ]
    assert resumed.evaluator.state() == whole.evaluator.state()
    assert differing(resumed.learner.state(), whole.learner.state()) == []
    assert resumed.learner.rates()["rows"] < EVERY_10_S.learning.row_rate  # calm has moved them, in both lives


def test_a_snapshot_of_another_shape_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    World([*events(0, 4), End()], folder=tmp_path).run()
    other = World([], small_settings(model={"dimension": 16}), folder=tmp_path)

    with pytest.raises(SnapshotError, match=r"model\.dimension was 8 and is 16"):
        other.worker.resume()
    assert other.source.restarted_at is None


def test_a_damaged_snapshot_gives_way_to_the_one_before(tmp_path: Path) -> None:
    world = World([Pause(11), *events(0, 4), Pause(1), *events(4, 8), End()], EVERY_10_S, folder=tmp_path).run()
    newest, before = sorted(world.store.directory.iterdir(), reverse=True)
    shutil.copy(before / "values.json", newest / "values.json")

    again = World([], EVERY_10_S, folder=tmp_path)

    assert again.worker.resume() == 1
    assert again.source.restarted_at == [Position(TOPIC, 0, 4)]
