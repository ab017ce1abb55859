"""Where the recorded event logs are: STREAM_REC_DATA, else ../shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def event_logs() -> Path:
    """The folder of the recorded logs. Without it the test is left out with a line, and fails in CI."""
    folder = Path(os.environ.get("STREAM_REC_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not folder.is_dir():
        line = f"recorded event logs: no folder {folder} (set STREAM_REC_DATA)"
        if os.environ.get("CI"):
            pytest.fail(line)
        pytest.skip(line)
    return folder
