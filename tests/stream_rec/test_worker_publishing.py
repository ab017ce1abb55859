"""What the loop does when publishing does not go through: wait, give up what has gone to somebody else, or stop."""

from __future__ import annotations

import pytest

from stream_rec.errors import BrokerError, FencedError, RebalancedError
from stream_rec.records import Position
from tests.stream_rec.worker_world import TOPIC, End, Pause, World, broken, came

AWAY = BrokerError("127.0.0.1:9092 cannot be reached")


def test_while_the_broker_is_away_effects_are_kept_nothing_is_polled_and_health_says_so() -> None:
    world = World([came("u", "a", 0), came("v", "a", 1), End()])
    polls, readiness = [], []

    def look() -> None:
        polls.append(world.source.num_polls)
        readiness.append(world.health.ready())

    world.sink.outcomes.extend([AWAY, AWAY, AWAY, look])
    world.run()

    assert polls == [1]
    assert readiness == [(False, "the broker cannot be reached")]
    assert world.sink.num_attempts == 4
    assert world.sink.users == [["u", "v"]]
    assert world.learner.batch == 1
    assert world.value("publish_retries_total") == 3
    assert world.clock.slept_s == [1.0, 1.0, 1.0]
    assert world.health.ready()[0]


def test_an_outage_longer_than_the_liveness_limit_does_not_get_the_worker_killed() -> None:
    world = World([came("u", "a", 0), End()])
    alive = []
    away_for_s = int(world.settings.telemetry.alive_timeout_s) + 30
    world.sink.outcomes.extend([AWAY] * away_for_s)
    world.sink.outcomes.append(lambda: alive.append(world.health.alive()[0]))
    world.run()

    assert alive == [True]


def test_a_list_that_waited_for_the_broker_was_not_fresh() -> None:
    world = World([came("u", "a", 0), End()])
    world.sink.outcomes.extend([AWAY] * 7)
    world.run()

    assert world.reports[0].freshness_s == [7.0]


def test_a_stop_while_the_broker_is_away_ends_in_its_error_and_no_snapshot_gets_ahead_of_the_log(tmp_path) -> None:
    world = World([came("u", "a", 0), Pause(60)], folder=tmp_path)
    world.sink.outcomes.extend([AWAY, lambda: None])
    sleep = world.clock.sleep

    def stopped_meanwhile(seconds: float) -> None:
        sleep(seconds)
        world.worker.stop()
        world.sink.outcomes.appendleft(AWAY)

    world.clock.sleep = stopped_meanwhile

    with pytest.raises(BrokerError, match="cannot be reached"):
        world.run()

    assert world.sink.published == []
    assert world.store.newest() is None


def test_a_stop_during_an_outage_that_ends_in_time_still_publishes(tmp_path) -> None:
    world = World([came("u", "a", 0), Pause(60)], folder=tmp_path)
    world.sink.outcomes.append(AWAY)
    world.clock.sleep = lambda seconds: world.worker.stop()
    world.run()

    assert world.sink.users == [["u"]]
    assert world.store.newest().positions == [Position(TOPIC, 0, 1)]


def test_a_fenced_worker_stops_at_once_and_writes_no_snapshot_after(tmp_path) -> None:
    world = World([*(came("u", f"i{n}", n) for n in range(8)), End()], folder=tmp_path)
    world.sink.outcomes.extend([lambda: None, FencedError("another worker named w has started")])

    with pytest.raises(FencedError):
        world.run()

    assert world.happened[-1] == "refused"
    assert world.store.newest() is None
    assert len(world.sink.published) == 1
    polls = world.source.num_polls
    world.worker.run()  # somebody who catches the error and goes on finds a worker that has stopped
    assert (world.source.num_polls, world.store.newest()) == (polls, None)


def test_after_a_rebalance_what_belongs_to_lost_partitions_is_left_to_their_new_owner() -> None:
    script = [came("u", "a", 0), came("v", "b", 0, partition=1), broken(1, partition=1), broken(1), End()]
    world = World(script)
    world.sink.outcomes.append(RebalancedError("partition 1 went to another worker"))
    world.source.owned = {(TOPIC, 0)}
    world.run()

    (effects,) = world.sink.published
    assert [one.user_id for one in effects.lists] == ["u"]
    assert [r.origin.partition for r in effects.rejected] == [0]
    assert effects.next_positions == [Position(TOPIC, 0, 2)]
    assert effects.journal.taken == [(TOPIC, 0, 0, 2)]
    assert (effects.journal.num_learnt, effects.journal.num_rejected) == (1, 1)
    assert world.value("publish_retries_total") == 1
    assert world.value("dead_letters_total", reason="not_json") == 1
    # A list that was not published is not what its user sees.
    assert world.evaluator.remembered("u") == ("b",)
    assert world.evaluator.remembered("v") == ()


def test_a_bad_entry_of_the_catalogue_is_a_dead_letter_also_where_a_rebalance_comes_between() -> None:
    catalogue = broken(7, topic="items")
    world = World([catalogue, came("u", "a", 0), came("v", "b", 0, partition=1), End()])
    world.sink.outcomes.append(RebalancedError("partition 1 went to another worker"))
    world.source.owned = {(TOPIC, 0)}
    world.run()

    assert world.sink.published[0].rejected == [catalogue]


def test_a_worker_that_has_lost_everything_publishes_nothing_and_goes_on() -> None:
    world = World([came("u", "a", 0), Pause(1), came("v", "b", 5, partition=1), End()])

    def dropped() -> None:
        world.source.owned = {(TOPIC, 1)}
        raise RebalancedError("this worker is no member of the group at the moment")

    world.sink.outcomes.append(dropped)
    world.run()

    assert world.sink.users == [["v"]]
    assert world.sink.positions == [Position(TOPIC, 1, 6)]


def test_events_that_come_again_after_a_rebalance_are_published_and_not_learnt_twice() -> None:
    first = [came("u", "a", 0), came("v", "b", 0, partition=1)]
    again = [came("v", "b", 0, partition=1), came("v", "c", 1, partition=1)]
    world = World([*first, Pause(1), *again, End()])

    def taken() -> None:
        world.source.owned = {(TOPIC, 0)}
        world.source.num_rebalances = 1
        raise RebalancedError("partition 1 went to another worker")

    def given_back() -> None:
        world.source.owned = {(TOPIC, 0), (TOPIC, 1)}

    world.sink.outcomes.extend([taken, lambda: None])
    world.source.script.insert(2, given_back)
    world.run()

    assert world.sink.users == [["u"], ["v"]]
    assert world.sink.published[1].journal.taken == [(TOPIC, 1, 0, 2)]
    assert world.sink.published[1].journal.num_learnt == 2
    assert [report.num_learnt for report in world.reports] == [2, 1]
    assert [event.item_id for event, _ in world.shown] == ["a", "b", "c"]  # scored once, too
    assert world.evaluator.num_observed == 3
    assert world.value("events_total", type="click", outcome="learnt") == 3
    assert world.value("rebalances_total") == 1


def test_events_before_the_committed_offset_are_learnt_again_and_not_published() -> None:
    replayed = [came("u", "a", 5), came("v", "b", 6), broken(7), came("w", "c", 8)]
    world = World([*replayed, came("u", "d", 9), broken(10), came("v", "e", 11), broken(12, partition=1), End()])
    world.source.committed_positions = [Position(TOPIC, 0, 10)]
    world.run()

    assert world.learner.batch == 2
    assert {event.item_id for event, _ in world.shown} == {"a", "b", "c", "d", "e"}
    assert world.sink.users == [["v"]]
    (effects,) = world.sink.published
    assert sorted(r.origin.offset for r in effects.rejected) == [10, 12]
    assert sorted(effects.journal.taken) == [(TOPIC, 0, 10, 12), (TOPIC, 1, 12, 13)]
    assert effects.journal.num_learnt == 1
    assert sorted(effects.next_positions) == [Position(TOPIC, 0, 12), Position(TOPIC, 1, 13)]


def test_events_learnt_again_are_counted_as_replayed_and_only_once() -> None:
    world = World([*(came("u", f"i{n}", n) for n in range(8)), End()])
    world.source.committed_positions = [Position(TOPIC, 0, 3)]
    world.run()

    assert [(report.num_learnt, report.num_replayed) for report in world.reports] == [(1, 3), (4, 0)]
    assert world.value("events_total", type="click", outcome="replayed") == 3
    assert world.value("events_total", type="click", outcome="learnt") == 5
    assert world.value("batch_size_events_sum") == 8


def test_a_partition_that_is_taken_and_given_back_within_a_batch_brings_nothing_twice() -> None:
    world = World([])

    def taken_and_given_back() -> None:
        world.source.num_rebalances += 1

    first = [came("u", "a", 0), came("u", "b", 1)]
    again = [came("u", "a", 0), Pause(1), came("u", "b", 1), came("u", "c", 2)]
    world.source.script.extend([*first, Pause(0.01), taken_and_given_back, *again, End()])
    world.run()

    assert [event.item_id for event, _ in world.shown] == ["a", "b", "c"]
    assert [e.journal.taken for e in world.sink.published] == [[(TOPIC, 0, 0, 2)], [(TOPIC, 0, 2, 3)]]
    assert [e.journal.num_learnt for e in world.sink.published] == [2, 1]
    assert world.sink.positions == [Position(TOPIC, 0, 2), Position(TOPIC, 0, 3)]


def test_a_batch_that_another_worker_has_published_meanwhile_is_learnt_and_not_published_again() -> None:
    world = World([])

    def came_back_further_on() -> None:
        world.source.num_rebalances += 2
        world.source.committed_positions = [Position(TOPIC, 0, 30)]

    script = [came("u", "a", 10), Pause(0.01), came_back_further_on, came("v", "b", 30), End()]
    world.source.script.extend(script)
    world.run()

    (effects,) = world.sink.published
    assert effects.journal.taken == [(TOPIC, 0, 30, 31)]
    assert world.sink.users == [["v"]]
    assert [(report.num_learnt, report.num_replayed) for report in world.reports] == [(1, 1)]
