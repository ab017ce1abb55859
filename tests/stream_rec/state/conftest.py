"""Assertions of the reference say what they compared, as those of a test do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.stream_rec.state.memory_reference")
