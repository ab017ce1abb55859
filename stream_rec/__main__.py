"""``stream-rec`` and ``python -m stream_rec``: run a command, turn what goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from stream_rec.allocator import keep_freed_memory
from stream_rec.errors import StreamRecError

INTERRUPTED = 130  # what a shell reports for a process that SIGINT ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``argv`` None takes the process's own arguments.

    A StreamRecError becomes ``error: …`` on standard error, for it names what went wrong by itself. Anything
    else is a bug of ours and keeps its traceback.
    """
    # Read once, when torch is loaded. By default its threads wait for each other by spinning: beside a broker or
    # anything else that wants the cores, that made the loop twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    from stream_rec.cli import app

    try:
        app(args=None if argv is None else list(argv), prog_name="stream-rec")
    except SystemExit as ended:  # how the command line library says that a command is done, also when all is well
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except StreamRecError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
