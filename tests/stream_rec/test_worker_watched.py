"""What can be seen of the loop from outside: metrics as they are scraped, health, one report a step."""

from __future__ import annotations

import math

import pytest
from prometheus_client import generate_latest

from stream_rec.config import Settings
from tests.stream_rec.worker_world import TOPIC, End, Pause, World, came, item, small_settings


def scraped(world: World) -> dict[str, float]:
    """Series → value, from the text that `/metrics` answers with."""
    lines = generate_latest(world.metrics.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_step_shows_in_every_metric_of_the_loop() -> None:
    world = World([item("x"), *(came("u", f"i{n}", n) for n in range(4)), Pause(1), came("v", "i1", 4), End()])
    world.source.lags = {(TOPIC, 0): 3, (TOPIC, 1): 2}
    world.run()

    seen = scraped(world)
    assert seen["stream_rec_batches_total"] == 2
    assert seen["stream_rec_batch_size_events_sum"] == 5
    assert seen['stream_rec_events_total{outcome="learnt",type="click"}'] == 5
    assert seen["stream_rec_lists_published_total"] == 2
    assert seen["stream_rec_freshness_seconds_count"] == 2
    assert seen['stream_rec_catalogue_updates_total{kind="upsert"}'] == 1
    assert seen[f'stream_rec_consumer_lag_records{{partition="0",topic="{TOPIC}"}}'] == 3
    assert seen['stream_rec_vocabulary_rows{kind="user"}'] == 2
    assert seen['stream_rec_vocabulary_rows{kind="item"}'] == 5
    assert seen['stream_rec_vocabulary_capacity_rows{kind="item"}'] == 64
    assert math.isfinite(seen["stream_rec_loss"])
    assert seen["stream_rec_gradient_norm"] >= 0
    for phase in ("poll", "score", "learn", "rank", "publish"):
        assert seen[f'stream_rec_step_phase_seconds_count{{phase="{phase}"}}'] >= 1
    for store in ("seen", "histories", "catalogue", "users with remembered lists"):
        num_entries = seen[f'stream_rec_state_entries{{store="{store}"}}']
        assert 0 < num_entries <= seen[f'stream_rec_state_capacity_entries{{store="{store}"}}']
    assert any(name.startswith("stream_rec_learning_rate{") for name in seen)
    assert any(name.startswith('stream_rec_progressive_ndcg{k="10",method="model"}') for name in seen)


def test_the_losses_of_tasks_are_shown_by_their_names() -> None:
    tasks: dict[str, dict[str, str]] = {"bought": {}, "liked": {"kind": "value"}}
    settings = small_settings(learning={"tasks": tasks})
    world = World([*(came(f"u{n}", f"i{n}", n) for n in range(3)), Pause(9), End()], settings).run()
    seen = scraped(world)
    assert seen['stream_rec_task_loss{task="bought"}'] >= 0
    assert 'stream_rec_task_loss{task="liked"}' not in seen  # no event said anything of it
    assert 'stream_rec_learning_rate{part="tasks"}' in seen


def test_law_3_rows_that_made_room_are_counted() -> None:
    settings = small_settings(state={"max_users": 4, "max_items": 8})
    world = World([*(came(f"u{n}", f"i{n}", n) for n in range(12)), End()], settings).run()

    seen = scraped(world)
    assert seen['stream_rec_vocabulary_rows{kind="user"}'] == 4
    assert seen['stream_rec_vocabulary_rows{kind="item"}'] == 8
    assert seen['stream_rec_vocabulary_evictions_total{kind="user"}'] == 8
    assert seen['stream_rec_vocabulary_evictions_total{kind="item"}'] == 4


def test_events_on_items_that_wait_for_admission_are_counted_as_such() -> None:
    settings = small_settings(state={"admit_item_after": 2})
    world = World([came("u", "a", 0), Pause(9), came("v", "a", 1), came("v", "b", 2), Pause(9), End()], settings).run()

    seen = scraped(world)
    assert seen['stream_rec_events_total{outcome="not_admitted",type="click"}'] == 2
    assert seen['stream_rec_events_total{outcome="learnt",type="click"}'] == 1


def test_the_report_of_a_step_is_what_was_done() -> None:
    world = World([came("u", "a", 0), came("u", "b", 1), came("v", "a", 2), Pause(9), End()])
    world.source.lags = {(TOPIC, 0): 7, (TOPIC, 1): 0}
    world.run()

    (report,) = world.reports
    assert (report.batch, report.num_learnt, report.num_replayed, report.num_rejected) == (1, 3, 0, 0)
    assert report.lists == world.sink.published[0].lists
    assert report.lag_records == 7
    # Acknowledged 100 ms after the first event was polled; the newest events of u and v are of 1 s and 2 s.
    assert report.freshness_s == pytest.approx([0.1 - 1, 0.1 - 2])
    assert (report.num_users, report.num_items) == (2, 2)
    assert set(report.window) == {"model", "popularity 15 min", "popularity 3 h", "popularity all time", "transitions"}
    assert report.phase_s["poll"] == pytest.approx(0.1)
    assert set(report.phase_s) == {"poll", "score", "learn", "rank", "publish"}


def test_before_the_first_step_the_worker_is_alive_and_not_ready() -> None:
    world = World([])

    assert world.health.alive()[0]
    assert world.health.ready() == (False, "starting: no step has been reported yet")


def test_readiness_follows_assignment_lag_and_connection_also_while_nothing_comes() -> None:
    world = World([])
    answers: list[str] = []

    def say() -> None:
        answers.append(world.health.ready()[1])

    def let_go() -> None:
        world.source.owned = set()

    def come_back() -> None:
        world.source.owned = {(TOPIC, 0)}
        world.source.lags = {(TOPIC, 0): 11}

    def catch_up() -> None:
        world.source.lags = {(TOPIC, 0): 10}

    def go_away() -> None:
        world.source.is_connected = False

    for change in (let_go, come_back, catch_up, go_away):
        world.source.script.extend([change, Pause(1), say])
    world.source.script.append(End())
    world.run()

    assert answers == [
        "no partition is assigned to this worker",
        "11 records behind (worker.ready_max_lag: 10)",
        "assigned, caught up, last step sound",
        "the broker cannot be reached",
    ]


def test_the_lag_of_a_partition_that_has_gone_is_no_longer_shown() -> None:
    world = World([came("u", "a", 0), Pause(1), lambda: world.source.owned.remove((TOPIC, 1)), Pause(1), End()])
    world.run()

    assert [name for name in scraped(world) if name.startswith("stream_rec_consumer_lag_records")] == [
        f'stream_rec_consumer_lag_records{{partition="0",topic="{TOPIC}"}}'
    ]


def test_an_idle_loop_stays_alive_and_a_loop_that_hangs_does_not() -> None:
    settings = Settings.model_validate(small_settings().model_dump() | {"telemetry": {"alive_timeout_s": 70}})
    world = World([Pause(500), came("u", "a", 0), End()], settings)
    alive = []
    world.sink.outcomes.append(lambda: (alive.append(world.health.alive()[0]), world.clock.move(71), look()))

    def look() -> None:
        alive.append(world.health.alive()[0])

    world.run()

    assert alive == [True, False]
