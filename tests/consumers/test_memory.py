"""The in-process log keeps Kafka's promises, and never more records than it may."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.memory import MemoryLog, MemorySource
from stream_rec.errors import BrokerError
from stream_rec.records import Event, Item, ItemUpdate, Origin, Polled, Position

NOW_MS = 1_700_000_000_000


def append_event(log: MemoryLog, number: int, user: str = "u", timeout_s: float | None = 0.0) -> Position:
    event = Event(user, f"i{number}", "view", NOW_MS + number)
    return log.append("events", user.encode(), msgspec.json.encode(event), NOW_MS + number, timeout_s=timeout_s)


def filled(num_events: int, num_partitions: int = 1, capacity: int = 1_000) -> MemoryLog:
    log = MemoryLog(num_partitions, capacity)
    for number in range(num_events):
        append_event(log, number, user=f"u{number % 7}")
    return log


def items(*polls: Polled) -> list[str]:
    return [received.event.item_id for polled in polls for received in polled.received]


def in_thread(action: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run something that may wait; its result, or the error it raised, is put into the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(action())
        except BrokerError as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_a_key_always_goes_to_the_same_partition() -> None:
    log = MemoryLog(num_partitions=4)
    for number in range(50):
        user = f"u{number % 9}"
        assert append_event(log, number, user).partition == zlib.crc32(user.encode()) % 4
    without = [log.append("events", None, b"{}", NOW_MS).partition for _ in range(4)]
    assert sorted(without) == [0, 1, 2, 3]


def test_events_come_in_the_order_of_their_appends_across_partitions() -> None:
    source = MemorySource(filled(50, num_partitions=4))
    first, second = source.poll(20, 0.0), source.poll(50, 0.0)
    assert (len(first), len(second)) == (20, 30)
    assert items(first, second) == [f"i{number}" for number in range(50)]


def test_positions_and_lag_follow_every_record_also_the_rejected() -> None:
    log = filled(3)
    log.append("events", b"k", b"no json", NOW_MS, [("trace", b"1")])
    log.append("events", b"k", None, NOW_MS)
    source = MemorySource(log)
    assert source.assignment() == {("events", 0)}
    assert source.lag() == {("events", 0): 5}
    polled = source.poll(4, 0.0)
    assert (polled.next_positions, source.lag()) == ([Position("events", 0, 4)], {("events", 0): 1})
    (rejected,) = polled.rejected
    assert (rejected.reason, rejected.headers, rejected.origin) == (
        "not_json",
        [("trace", b"1")],
        Origin("events", 0, 3),
    )
    last = source.poll(4, 0.0)
    assert [rejected.reason for rejected in last.rejected] == ["tombstone"]
    assert (last.next_positions, last.ended) == ([Position("events", 0, 5)], False)


def test_the_end_is_told_with_the_last_records_of_a_closed_log() -> None:
    log = filled(3)
    source = MemorySource(log)
    assert not source.poll(10, 0.0).ended
    append_event(log, 3)
    append_event(log, 4)
    log.close()
    assert [source.poll(1, 0.0).ended, source.poll(1, 0.0).ended, source.poll(1, 0.0).ended] == [False, True, True]
    with pytest.raises(BrokerError, match="closed"):
        append_event(log, 5)


def test_an_empty_poll_names_no_positions() -> None:
    polled = MemorySource(MemoryLog()).poll(5, 0.0)
    assert (len(polled), polled.next_positions, polled.ended) == (0, [], False)


def test_a_poll_wakes_up_for_a_record_and_for_the_end() -> None:
    log = MemoryLog()
    source = MemorySource(log)
    thread, polls = in_thread(lambda: source.poll(5, 60.0))
    append_event(log, 0)
    thread.join(30)
    assert [items(polled) for polled in polls if isinstance(polled, Polled)] == [["i0"]]
    thread, polls = in_thread(lambda: source.poll(5, 60.0))
    log.close()
    thread.join(30)
    assert [polled.ended for polled in polls if isinstance(polled, Polled)] == [True]


def test_a_new_source_begins_at_the_committed_positions() -> None:
    log = filled(10)
    first = MemorySource(log)
    assert first.committed() == []
    log.commit(first.poll(4, 0.0).next_positions)
    first.close()
    second = MemorySource(log)
    assert second.committed() == [Position("events", 0, 4)]
    assert items(second.poll(2, 0.0)) == ["i4", "i5"]
    log.commit([Position("events", 0, 6)])
    assert second.committed() == [Position("events", 0, 4)]  # as they were when the partitions were assigned


def test_restart_goes_before_committed_and_ignores_what_is_not_owned() -> None:
    log = filled(10)
    log.commit([Position("events", 0, 8)])
    source = MemorySource(log)
    source.restart_at([Position("events", 0, 3), Position("events", 9, 1), Position("other", 0, 1)])
    assert items(source.poll(2, 0.0)) == ["i3", "i4"]


@given(st.integers(1, 4), st.integers(0, 40), st.integers(1, 9), st.data())
@settings(deadline=None)
def test_going_on_from_positions_equals_never_having_stopped(
    num_partitions: int, num_events: int, max_records: int, data: st.DataObject
) -> None:
    log = filled(num_events, num_partitions)
    log.close()

    def polled_on(source: MemorySource) -> list[Polled]:
        polls = [source.poll(max_records, 0.0)]
        while not polls[-1].ended:
            polls.append(source.poll(max_records, 0.0))
        return polls

    polls = polled_on(MemorySource(log))
    assert items(*polls) == [f"i{number}" for number in range(num_events)]
    stop = data.draw(st.integers(0, len(polls) - 1))
    again = MemorySource(log)
    again.restart_at([position for polled in polls[: stop + 1] for position in polled.next_positions])
    assert items(*polls[: stop + 1], *polled_on(again)) == items(*polls)


def test_a_full_partition_refuses_until_read_and_committed() -> None:
    log = filled(3, capacity=3)
    source = MemorySource(log)
    with pytest.raises(BrokerError, match=r"events\[0\] is full: 3 records"):
        append_event(log, 3)
    source.poll(2, 0.0)
    with pytest.raises(BrokerError, match="full"):
        append_event(log, 3)  # read, but a restart would begin at it
    log.commit([Position("events", 0, 3)])
    append_event(log, 3)
    append_event(log, 4)
    with pytest.raises(BrokerError, match="full"):
        append_event(log, 5)  # committed, but this reader has not come so far
    assert log.bounds() == [(2, 5)]
    assert items(source.poll(9, 0.0)) == ["i2", "i3", "i4"]


def test_a_waiting_writer_goes_on_when_there_is_room() -> None:
    log = filled(2, capacity=2)
    source = MemorySource(log)
    thread, results = in_thread(lambda: append_event(log, 2, timeout_s=None))
    log.commit(source.poll(1, 0.0).next_positions)
    thread.join(30)
    assert results == [Position("events", 0, 2)]


def test_a_waiting_writer_is_told_when_the_log_is_closed() -> None:
    log = filled(1, capacity=1)
    thread, results = in_thread(lambda: append_event(log, 1, timeout_s=None))
    log.close()
    thread.join(30)
    assert [str(result) for result in results] == ["the log is closed: nothing can be appended"]


def test_committed_records_stay_while_there_is_room_and_then_go() -> None:
    log = filled(3, capacity=4)
    log.commit([Position("events", 0, 3)])
    append_event(log, 3)
    early = MemorySource(log)
    early.restart_at([Position("events", 0, 0)])
    assert items(early.poll(9, 0.0)) == ["i0", "i1", "i2", "i3"]
    early.close()
    append_event(log, 4)
    late = MemorySource(log)
    with pytest.raises(BrokerError, match=r"events\[0\]: no position 0, the log holds 1 to 5"):
        late.restart_at([Position("events", 0, 0)])
    with pytest.raises(BrokerError, match="no position 6"):
        late.restart_at([Position("events", 0, 6)])
    assert items(late.poll(9, 0.0)) == ["i3", "i4"]


def test_a_commit_is_all_or_nothing() -> None:
    log = filled(4, num_partitions=2)
    for wrong in (Position("events", 1, 99), Position("events", 2, 0), Position("items", 0, 0)):
        with pytest.raises(BrokerError):
            log.commit([Position("events", 0, 1), wrong])
    assert log.committed() == []


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(BrokerError, match="'event' does not exist"):
        MemoryLog().append("event", b"k", b"{}", NOW_MS)


@pytest.mark.parametrize(("num_partitions", "capacity"), [(0, 1), (1, 0), (-1, 5)])
def test_a_log_needs_a_partition_and_room(num_partitions: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MemoryLog(num_partitions, capacity)


def test_the_catalogue_comes_first_compacted_and_tombstones_with_it() -> None:
    log = filled(2)
    for item_id, title in (("a", "old"), ("b", "b"), ("a", "new")):
        log.append("items", item_id.encode(), msgspec.json.encode(Item(item_id, title)), NOW_MS)
    log.append("items", b"c", None, NOW_MS)
    source = MemorySource(log)
    polled = source.poll(1, 0.0)
    assert polled.item_updates == [
        ItemUpdate("b", Item("b", "b")),
        ItemUpdate("a", Item("a", "new")),
        ItemUpdate("c", None),
    ]
    assert polled.next_positions == [Position("events", 0, 1)]
    log.append("items", b"b", None, NOW_MS)
    assert source.poll(1, 0.0).item_updates == [ItemUpdate("b", None)]
    assert len(MemorySource(log).poll(1, 0.0).item_updates) == 3  # every source reads it from its beginning


def test_a_change_of_the_catalogue_alone_wakes_a_poll() -> None:
    log = MemoryLog()
    source = MemorySource(log)
    thread, polls = in_thread(lambda: source.poll(5, 60.0))
    log.append("items", b"a", msgspec.json.encode(Item("a")), NOW_MS)
    thread.join(30)
    assert [polled.item_updates for polled in polls if isinstance(polled, Polled)] == [[ItemUpdate("a", Item("a"))]]


def test_bad_items_count_towards_max_records_and_lose_nothing() -> None:
    log = filled(3)
    for number in range(5):
        log.append("items", f"bad{number}".encode(), b"{", NOW_MS)
    source = MemorySource(log)
    polls = [source.poll(2, 0.0) for _ in range(4)]
    assert [len(polled) for polled in polls] == [2, 2, 2, 2]
    assert [rejected.origin.offset for polled in polls for rejected in polled.rejected] == [0, 1, 2, 3, 4]
    assert items(*polls) == ["i0", "i1", "i2"]


def test_the_catalogue_is_bounded_and_needs_keys() -> None:
    log = MemoryLog(max_items=2)
    for item_id in ("a", "b", "a", "c"):
        log.append("items", item_id.encode(), msgspec.json.encode(Item(item_id)), NOW_MS)
    updates = MemorySource(log).poll(1, 0.0).item_updates
    assert [update.item_id for update in updates] == ["a", "c"]
    with pytest.raises(BrokerError, match="needs a key"):
        log.append("items", None, b"{}", NOW_MS)


def test_room_for_few_events_is_room_for_the_whole_catalogue() -> None:
    log = MemoryLog(capacity=2)
    for number in range(50):
        log.append("items", f"i{number}".encode(), msgspec.json.encode(Item(f"i{number}")), NOW_MS)
    updates = MemorySource(log).poll(1, 0.0).item_updates
    assert [update.item_id for update in updates] == [f"i{number}" for number in range(50)]


def test_after_close_a_source_has_ended_and_the_log_has_not() -> None:
    log = filled(3)
    source = MemorySource(log)
    source.close()
    source.close()
    assert source.poll(5, 0.0).ended
    assert items(MemorySource(log).poll(5, 0.0)) == ["i0", "i1", "i2"]


def test_many_writers_and_a_reader_lose_and_double_nothing() -> None:
    log = MemoryLog(num_partitions=3, capacity=16)
    source = MemorySource(log)
    num_each = 400
    writers = [
        threading.Thread(
            target=lambda name=name: [append_event(log, n, user=f"w{name}", timeout_s=None) for n in range(num_each)],
            daemon=True,
        )
        for name in range(4)
    ]
    for writer in writers:
        writer.start()
    seen: dict[str, list[str]] = {f"w{name}": [] for name in range(4)}
    while sum(map(len, seen.values())) < 4 * num_each:
        polled = source.poll(10, 30.0)
        assert polled.received, "the writers are stuck"
        for received in polled.received:
            seen[received.event.user_id].append(received.event.item_id)
        log.commit(polled.next_positions)
        assert all(end - first <= 16 for first, end in log.bounds())
    assert seen == {f"w{name}": [f"i{number}" for number in range(num_each)] for name in range(4)}
