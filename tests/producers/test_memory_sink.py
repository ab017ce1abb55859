"""The sink in memory: all effects or none, the newest kept, everything bounded."""

from __future__ import annotations

import pytest

from producers.memory import MemorySink
from stream_rec.errors import BrokerError, RebalancedError
from stream_rec.records import CausedBy, Effects, JournalRecord, Origin, Position, RankedItem, Recommendation, Rejected


def effects(batch: int, *users: str, num_rejected: int = 0) -> Effects:
    caused_by = CausedBy("events", 0, batch, 1_000 + batch)
    return Effects(
        lists=[Recommendation(user, [RankedItem("i", 1.0, 1)], "v", batch, caused_by, 2_000) for user in users],
        rejected=[
            Rejected("not_json", "", None, b"{", [], Origin("events", 0, 100 * batch + number))
            for number in range(num_rejected)
        ],
        journal=JournalRecord("w", batch, [("events", 0, batch, batch + 1)], len(users), num_rejected),
        next_positions=[Position("events", 0, batch + 1)],
    )


def state(sink: MemorySink) -> object:
    counts = (sink.num_batches, sink.num_lists, sink.num_rejected)
    return sink.lists(), sink.dead_letters(), sink.journal(), counts


def test_effects_become_visible_and_positions_are_committed() -> None:
    commits: list[list[Position]] = []
    seen: list[Effects] = []
    sink = MemorySink(commits.append, seen.append)
    first = effects(1, "a", "b", num_rejected=2)
    sink.publish(first)
    assert sink.lists() == {"a": first.lists[0], "b": first.lists[1]}
    assert (sink.latest("a"), sink.latest("nobody")) == (first.lists[0], None)
    assert (sink.dead_letters(), sink.journal()) == (first.rejected, [first.journal])
    assert (sink.num_batches, sink.num_lists, sink.num_rejected) == (1, 2, 2)
    assert (commits, seen) == ([first.next_positions], [first])


def test_the_newest_list_of_a_user_counts() -> None:
    sink = MemorySink()
    sink.publish(effects(1, "a"))
    sink.publish(effects(2, "a"))
    newest = sink.latest("a")
    assert newest is not None
    assert newest.batch == 2
    assert sink.num_lists == 2


def test_everything_kept_is_bounded_and_the_oldest_goes() -> None:
    sink = MemorySink(keep=2)
    sink.publish(effects(1, "a", "b", num_rejected=2))
    sink.publish(effects(2, "a", "c", num_rejected=1))
    sink.publish(effects(3))
    assert list(sink.lists()) == ["a", "c"]
    assert [rejected.origin.offset for rejected in sink.dead_letters()] == [101, 200]
    assert [line.batch for line in sink.journal()] == [2, 3]
    assert (sink.num_batches, sink.num_lists, sink.num_rejected) == (3, 4, 3)


@pytest.mark.parametrize("fails_in", ["on_effects", "log_commit"])
def test_a_publish_that_fails_leaves_nothing_and_can_be_repeated(fails_in: str) -> None:
    is_failing = False
    commits: list[list[Position]] = []

    def on_effects(_: Effects) -> None:
        if is_failing and fails_in == "on_effects":
            raise RebalancedError("scripted")

    def log_commit(positions: list[Position]) -> None:
        if is_failing and fails_in == "log_commit":
            raise RebalancedError("scripted")
        commits.append(positions)

    sink = MemorySink(log_commit, on_effects)
    sink.publish(effects(1, "a", num_rejected=1))
    before = state(sink)
    is_failing = True
    with pytest.raises(RebalancedError):
        sink.publish(effects(2, "a", "b", num_rejected=1))
    assert state(sink) == before
    assert commits == [[Position("events", 0, 2)]]
    is_failing = False
    sink.publish(effects(2, "a", "b", num_rejected=1))
    assert (sink.num_batches, sink.num_lists, sink.num_rejected) == (2, 3, 2)
    assert commits[1:] == [[Position("events", 0, 3)]]


def test_after_close_nothing_is_published_and_all_can_be_seen() -> None:
    sink = MemorySink()
    sink.publish(effects(1, "a"))
    sink.close()
    sink.close()
    with pytest.raises(BrokerError, match="closed"):
        sink.publish(effects(2, "a"))
    assert list(sink.lists()) == ["a"]


def test_what_is_looked_at_is_a_copy() -> None:
    sink = MemorySink()
    sink.publish(effects(1, "a", num_rejected=1))
    sink.lists().clear()
    sink.dead_letters().clear()
    sink.journal().clear()
    assert (len(sink.lists()), len(sink.dead_letters()), len(sink.journal())) == (1, 1, 1)


def test_keep_must_be_positive() -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        MemorySink(keep=0)
