"""The loop's batches: what goes into one, in which order things are done with it, what comes out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from stream_rec.records import CausedBy, Position
from tests.stream_rec.worker_world import (
    START_MS,
    TOPIC,
    End,
    Listened,
    Passed,
    Pause,
    World,
    broken,
    came,
    item,
    small_settings,
)


def offsets_of_batches(world: World) -> list[list[tuple[int, int]]]:
    """Batch by batch the journalled (first, next) offsets."""
    return [[(first, after) for _, _, first, after in one.journal.taken] for one in world.sink.published]


def test_a_full_batch_does_not_wait() -> None:
    world = World([*(came("u", f"i{n}", n) for n in range(10)), Pause(60), End()]).run()

    assert offsets_of_batches(world)[:2] == [[(0, 4)], [(4, 8)]]
    assert world.reports[0].phase_s["poll"] == world.reports[1].phase_s["poll"] == 0.0


def test_a_batch_that_does_not_fill_waits_as_long_as_set_after_its_first_event_and_no_longer() -> None:
    script = [Pause(20.3), came("u", "a", 0), Pause(0.06), came("u", "b", 1), Pause(0.05), came("u", "c", 2), End()]
    world = World(script).run()

    assert offsets_of_batches(world) == [[(0, 2)], [(2, 3)]]
    # 20.3 s of silence, then 100 ms: the wait begins with the first event, not with the poll.
    assert world.reports[0].freshness_s == [pytest.approx(20.4 - 1)]


def test_rejected_records_count_towards_a_full_batch() -> None:
    script = [broken(0), came("u", "a", 1), broken(2), came("u", "b", 3), came("u", "c", 4), End()]
    world = World(script).run()

    assert offsets_of_batches(world) == [[(0, 4)], [(4, 5)]]


def test_the_end_of_a_finite_log_is_not_waited_for() -> None:
    world = World([came("u", "a", 0), End()]).run()

    assert world.clock.elapsed_s == 0.0
    assert world.sink.users == [["u"]]


def test_the_order_of_effects_is_the_one_that_was_promised(tmp_path: Path) -> None:
    settings = small_settings(snapshot={"every_s": 0.01})
    script = [item("a"), *(came("u", f"i{n}", n) for n in range(4)), Pause(1), *(came("v", "i", n) for n in (4, 5))]
    world = World([*script, End()], settings, folder=tmp_path).run()

    one_step = ["score", "learn", "rank", "publish", "remember"]
    assert [word for word in world.happened if word != "poll"] == [
        *("catalogue", *one_step),
        *(*one_step, "snapshot"),
    ]
    assert world.happened[0] == "poll"


def test_fresh_lists_are_ranked_before_every_event_and_none_is_published() -> None:
    world = World([*(came("u", f"i{n}", n) for n in range(4)), came("u", "i9", 4), End()], fresh=True).run()

    assert [word for word in world.happened if word != "poll"] == ["rank before", "score", "learn", "publish"] * 2
    assert world.sink.users == [[], []]
    # In a batch of four the statistics are those of its start, but what has been touched in it may be listed.
    assert [event.item_id for event, _ in world.shown] == ["i0", "i1", "i2", "i3", "i9"]
    assert [len(items) for _, items in world.shown[:2]] == [0, 0]


def test_law_1_an_event_is_scored_by_the_lists_of_before_it_was_learnt() -> None:
    script = [came("u", "a", 0), came("v", "a", 1), came("v", "b", 2), came("u", "c", 3), came("u", "b", 4), End()]
    world = World(script).run()

    first, second = world.sink.published
    assert [items for _, items in world.shown[:4]] == [(), (), (), ()]
    before = {one.user_id: tuple(i.item_id for i in one.items) for one in first.lists}
    event, items = world.shown[4]
    assert (event.user_id, event.item_id) == ("u", "b")
    assert items == before["u"]
    assert "b" in items
    # Afterwards it has been consumed, and the newest list says so.
    assert "b" not in {i.item_id for i in second.lists[0].items}


def test_law_1_nothing_of_an_event_is_in_the_model_while_it_is_scored() -> None:
    world = World([*(came(f"u{n}", "a", n) for n in range(4)), came("v", "a", 4), End()])
    batches_learnt_when_scored = []
    observe = world.evaluator.observe_published

    def noting(events: object) -> None:
        batches_learnt_when_scored.append((world.learner.batch, world.evaluator.num_observed))
        observe(events)

    world.evaluator.observe_published = noting
    world.run()

    assert batches_learnt_when_scored == [(0, 0), (1, 4)]


def test_every_user_touched_gets_one_list_a_batch_and_it_names_his_newest_event() -> None:
    script = [came("u", "a", 7), came("v", "b", 3, partition=1), came("u", "c", 8), came("u", "d", 9), End()]
    world = World(script).run()

    (effects,) = world.sink.published
    lists = {one.user_id: one for one in effects.lists}
    assert len(effects.lists) == 2
    assert lists["u"].caused_by == CausedBy(TOPIC, 0, 9, START_MS + 9_000)
    assert lists["v"].caused_by == CausedBy(TOPIC, 1, 3, START_MS + 3_000)
    assert {one.batch for one in effects.lists} == {1} == {effects.journal.batch}
    assert effects.lists[0].model_version == world.learner.version
    assert effects.lists[0].generated_at_ms == world.clock.now_ms()
    assert [i.rank for i in lists["v"].items] == list(range(1, 1 + len(lists["v"].items)))
    assert {i.item_id for i in lists["v"].items} == {"a", "c", "d"}
    assert {i.item_id for i in lists["u"].items} == {"b"}


def test_law_4_what_is_committed_is_the_next_record_to_read() -> None:
    script = [came("u", "a", 10), broken(11), came("v", "b", 5, partition=1), Passed(Position(TOPIC, 1, 8)), End()]
    world = World(script).run()

    assert sorted(world.sink.positions) == [Position(TOPIC, 0, 12), Position(TOPIC, 1, 8)]
    assert sorted(world.sink.published[0].journal.taken) == [(TOPIC, 0, 10, 12), (TOPIC, 1, 5, 8)]
    assert world.sink.published[0].journal.num_learnt == 2
    assert world.sink.published[0].journal.num_rejected == 1
    assert world.sink.published[0].journal.worker == "w"


def test_a_position_that_moves_without_a_record_is_committed_too() -> None:
    world = World([Passed(Position(TOPIC, 0, 3)), End()]).run()

    assert world.sink.positions == [Position(TOPIC, 0, 3)]
    assert world.learner.batch == 0


def test_law_6_a_record_that_cannot_be_used_is_a_dead_letter_and_stops_nothing() -> None:
    bad = [broken(0, reason="not_utf8"), broken(2, reason="tombstone")]
    catalogue = broken(0, topic="items", reason="wrong_shape")
    world = World([bad[0], came("u", "a", 1), bad[1], catalogue, came("u", "b", 3), End()]).run()

    assert [r for effects in world.sink.published for r in effects.rejected] == [*bad, catalogue]
    assert world.sink.users == [["u"], ["u"]]
    assert world.sink.positions == [Position(TOPIC, 0, 3), Position(TOPIC, 0, 4)]
    for reason in ("not_utf8", "tombstone", "wrong_shape"):
        assert world.value("dead_letters_total", reason=reason) == 1
    assert world.value("events_total", type="other", outcome="rejected") == 3


def test_a_batch_of_nothing_but_rejected_records_is_published_and_learns_nothing() -> None:
    world = World([broken(0), broken(1), broken(2), broken(3), came("u", "a", 4), End()]).run()

    first, second = world.reports
    assert (first.num_learnt, first.num_rejected, first.lists, first.batch) == (0, 4, [], 0)
    assert math.isnan(first.loss)
    assert not first.step_skipped
    assert world.sink.positions == [Position(TOPIC, 0, 4), Position(TOPIC, 0, 5)]
    assert (second.num_learnt, second.batch) == (1, 1)


def test_a_batch_of_nothing_but_events_that_weigh_nothing_is_sound_and_leaves_no_trace() -> None:
    shown = [came(f"u{n}", "a", n, type="impression") for n in range(4)]
    world = World([*shown, came("u0", "b", 4), Pause(1), came("u0", "c", 5, type="impression"), End()]).run()

    first = world.reports[0]
    assert (first.num_learnt, first.num_users, first.num_items) == (4, 0, 0)
    assert not any(report.step_skipped for report in world.reports)
    assert world.health.ready() == (True, "assigned, caught up, last step sound")
    assert world.value("skipped_steps_total") == 0
    # Each of them still gets a list: whoever looks wants to be shown something.
    assert world.sink.users[0] == ["u0", "u1", "u2", "u3"]
    assert [one.user_id for one in world.reports[-1].lists] == ["u0"]


def test_a_step_that_cannot_be_learnt_is_reported_and_the_next_one_goes_on() -> None:
    world = World([*(came(f"u{n}", "a", n) for n in range(4)), came("u", "b", 4), End()])
    sound = world.learner.learn
    world.learner.learn = lambda moments: (sound(moments), math.nan)[1]
    ready = []
    world.sink.outcomes.extend([lambda: None, lambda: ready.append(world.health.ready())])
    world.run()

    assert [report.step_skipped for report in world.reports] == [True, True]
    assert ready == [(False, "the last step was left out: loss or gradient was not finite")]
    assert world.value("skipped_steps_total") == 2
    assert world.sink.users == [["u0", "u1", "u2", "u3"], ["u"]]


def test_changes_of_the_catalogue_are_taken_in_before_the_events_of_their_batch() -> None:
    world = World([item("new"), came("u", "a", 0), End()]).run()

    assert [i.item_id for i in world.sink.published[0].lists[0].items] == ["new"]
    assert world.value("catalogue_updates_total", kind="upsert") == 1


def test_what_only_listens_hears_everything() -> None:
    happened: list[str] = []
    heard = Listened([3, 1], {"sort": "sorted"}, happened)
    heard.sort()
    assert (heard.index(1), happened) == (0, ["sorted"])
