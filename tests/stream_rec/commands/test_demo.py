"""``stream-rec demo`` as somebody runs it: it ends by itself, and Ctrl-C gives the terminal back."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

SMALL = (
    *("--rate", "200", "--set", "model.dimension=16", "--set", "model.num_layers=1"),
    *("--set", "state.max_users=5000", "--set", "state.max_items=5000", "--set", "state.history_length=10"),
)
WAIT_S = 120


@pytest.fixture
def environment() -> dict[str, str]:
    # Unbuffered, Python loses what a signal keeps a terminal from taking at once.
    without = ("STREAM_REC_", "PYTHONUNBUFFERED")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    return outside | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "PYTHONIOENCODING": "utf-8"}


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "stream_rec", "demo", *SMALL, *options]


def test_it_ends_by_itself_with_a_summary(environment: dict[str, str]) -> None:
    done = subprocess.run(
        command("--seconds", "4"), env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout  # a pipe is no terminal: lines, nothing that moves
    for expected in ("800", "model", "popularity", "transitions", "HR@10", "NDCG@10"):
        assert expected in done.stdout
    assert re.search(r"taste|new items|shift", done.stdout, re.IGNORECASE)


class Terminal:
    """A process on a terminal of its own; ``seen`` is everything it has written there."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            arguments, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.seen = b""

    def read_until(self, expected: bytes) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while expected not in self.seen:
            assert time.monotonic() < deadline_s, self.seen[-2_000:].decode("utf-8", "replace")
            assert self._read(), self.seen[-2_000:].decode("utf-8", "replace")

    def read_to_the_end(self) -> int:
        while self._read():
            pass
        return self.process.wait(WAIT_S)

    def _read(self) -> bool:
        try:
            part = os.read(self._ours, 65_536)
        except OSError:  # how Linux says that the other side has closed
            return False
        self.seen += part
        return bool(part)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def on_a_terminal(environment: dict[str, str]) -> Iterator[Terminal]:
    terminal = Terminal(command("--seconds", "60"), environment)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("moment", ["at once", "while it learns"])
def test_ctrl_c_ends_it_in_130_and_gives_the_terminal_back(on_a_terminal: Terminal, moment: str) -> None:
    # Early, when the screen has just been taken, or in the midst of learning.
    on_a_terminal.read_until(b"\x1b[?1049h")
    if moment == "at once":
        on_a_terminal.process.send_signal(signal.SIGINT)
    else:
        on_a_terminal.read_until(b"rate encoder")
        on_a_terminal.process.send_signal(signal.SIGINT)

    assert on_a_terminal.read_to_the_end() == 130

    screen, _, after = on_a_terminal.seen.rpartition(b"\x1b[?1049l")  # … and given back, …
    assert screen.count(b"\x1b[?1049h") == 1
    assert on_a_terminal.seen.rindex(b"\x1b[?25h") > on_a_terminal.seen.rindex(b"\x1b[?25l")  # … the cursor too
    assert b"events learnt in" in after  # the summary of what there was stays on the screen
    assert b"Traceback" not in after
