"""The source that reads files: exact batches, positions that resume, and recorded time at any speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.files import FileSource, open_log, open_logs
from stream_rec.errors import InputFileError
from stream_rec.records import Item, ItemUpdate, Origin, Polled, Position
from tests.consumers.written_files import text_file

HEADER = "user_id,item_id,timestamp\n"


class MovedClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept_s: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep_s(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def two_files(tmp_path: Path) -> list[Path]:
    """Five rows of which the third is bad, then four."""
    first = text_file(tmp_path / "a.csv", HEADER + "u0,i,0\nu1,i,1\n,bad,2\nu3,i,3\nu4,i,4\n")
    second = text_file(tmp_path / "b.csv", HEADER + "".join(f"u{number},i,{number}\n" for number in range(5, 9)))
    return [first, second]


def polled_all(source: FileSource, max_records: int) -> list[Polled]:
    polls = [source.poll(max_records, 0.0)]
    while not polls[-1].ended:
        polls.append(source.poll(max_records, 0.0))
    return polls


def users(polls: list[Polled]) -> list[str]:
    return [received.event.user_id for polled in polls for received in polled.received]


@pytest.mark.parametrize(("max_records", "sizes"), [(2, [2, 2, 2, 2, 1]), (3, [3, 3, 3]), (9, [9]), (50, [9])])
def test_every_poll_brings_exactly_what_was_asked_until_the_end(
    two_files: list[Path], max_records: int, sizes: list[int]
) -> None:
    polls = polled_all(FileSource(open_logs(two_files)), max_records)
    assert [len(polled) for polled in polls] == sizes
    assert users(polls) == ["u0", "u1", "u3", "u4", "u5", "u6", "u7", "u8"]
    assert [rejected.origin for polled in polls for rejected in polled.rejected] == [Origin("a.csv", 0, 2)]


def test_positions_name_the_next_row_of_each_file_touched(two_files: list[Path]) -> None:
    source = FileSource(open_logs(two_files))
    assert source.assignment() == {("a.csv", 0), ("b.csv", 1)}
    assert source.committed() == ()
    assert source.lag() == {("a.csv", 0): 5, ("b.csv", 1): 4}
    assert source.poll(4, 0.0).next_positions == [Position("a.csv", 0, 4)]
    assert source.lag() == {("a.csv", 0): 1, ("b.csv", 1): 4}
    crossing = source.poll(3, 0.0)
    assert crossing.next_positions == [Position("a.csv", 0, 5), Position("b.csv", 1, 2)]
    assert [received.origin for received in crossing.received] == [
        Origin("a.csv", 0, 4),
        Origin("b.csv", 1, 0),
        Origin("b.csv", 1, 1),
    ]


@pytest.mark.parametrize("num_before", range(1, 9))
def test_going_on_from_positions_equals_never_having_stopped(two_files: list[Path], num_before: int) -> None:
    before = FileSource(open_logs(two_files))
    first = before.poll(num_before, 0.0)
    after = FileSource(open_logs(two_files))
    after.restart_at([*first.next_positions, Position("elsewhere", 7, 99)])
    rest = polled_all(after, 2)
    assert users([first]) + users(rest) == users(polled_all(FileSource(open_logs(two_files)), 50))


def test_a_position_beyond_the_end_is_refused(two_files: list[Path]) -> None:
    source = FileSource(open_logs(two_files))
    with pytest.raises(InputFileError, match=r"a\.csv: cannot go on at row 6, the file has 5"):
        source.restart_at([Position("a.csv", 0, 6)])


def test_lag_is_zero_at_the_end_even_where_lines_were_blank(tmp_path: Path) -> None:
    source = FileSource([open_log(text_file(tmp_path / "a.csv", HEADER + "u,i,1\n\n\n\nu,i,2\n"))])
    assert source.lag() == {("a.csv", 0): 5}
    assert source.poll(10, 0.0).ended
    assert source.lag() == {("a.csv", 0): 0}


def test_the_catalogue_comes_with_the_first_poll(two_files: list[Path]) -> None:
    source = FileSource(open_logs(two_files), [Item("x"), Item("y")])
    first, second = source.poll(2, 0.0), source.poll(2, 0.0)
    assert first.item_updates == [ItemUpdate("x", Item("x")), ItemUpdate("y", Item("y"))]
    assert (len(first.received), second.item_updates) == (2, [])


def test_nothing_to_read_has_ended_at_once(tmp_path: Path) -> None:
    assert FileSource([]).poll(5, 1.0).ended
    assert FileSource([open_log(text_file(tmp_path / "a.csv", HEADER))]).poll(5, 1.0).ended


def test_after_close_there_is_nothing_more(two_files: list[Path]) -> None:
    source = FileSource(open_logs(two_files))
    source.poll(1, 0.0)
    source.close()
    source.close()
    polled = source.poll(5, 0.0)
    assert (len(polled), polled.ended) == (0, True)


def test_two_logs_of_one_name_need_their_own_partitions(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    paths = [text_file(folder / "a.csv", HEADER + "u,i,1\n") for folder in (tmp_path, tmp_path / "x")]
    assert len(polled_all(FileSource(open_logs(paths)), 1)) == 2
    with pytest.raises(ValueError, match="open_logs"):
        FileSource([open_log(path) for path in paths])


def test_a_speed_must_be_positive(two_files: list[Path]) -> None:
    for speed in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="speed"):
            FileSource(open_logs(two_files), speed=speed)


def test_with_a_speed_recorded_time_passes_that_many_times_as_fast(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.csv", HEADER + "".join(f"u,i,{moment}\n" for moment in (100, 160, 160, 130, 400)))
    clock = MovedClock()
    source = FileSource([open_log(path)], speed=60.0, monotonic_s=clock.monotonic_s, sleep_s=clock.sleep_s)
    assert len(source.poll(10, 5.0)) == 1  # the first is due at once, the second only in a second
    assert len(source.poll(10, 5.0)) == 3  # waits for the second; one that goes back in time is due already
    assert clock.slept_s == [1.0]
    late = source.poll(10, 1.5)  # the last is due after four more seconds
    assert (len(late), late.ended, late.next_positions) == (0, False, [])
    assert clock.slept_s == [1.0, 1.5]
    last = source.poll(10, 60.0)
    assert (len(last), last.ended) == (1, True)
    assert clock.now_s == pytest.approx(1_005.0)


def test_with_a_speed_a_late_reader_catches_up_in_full_batches(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.csv", HEADER + "".join(f"u,i,{moment}\n" for moment in range(10)))
    clock = MovedClock()
    source = FileSource([open_log(path)], speed=1.0, monotonic_s=clock.monotonic_s, sleep_s=clock.sleep_s)
    source.poll(1, 1.0)
    clock.now_s += 6.0
    assert [len(source.poll(4, 0.0)), len(source.poll(4, 0.0)), len(source.poll(4, 0.0))] == [4, 2, 0]
