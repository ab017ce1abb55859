"""Logs: one parseable line an event, libraries routed through from warning on, no local variables in tracebacks."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from stream_rec.telemetry.logging import configure_logging, get_logger


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(password: str) -> None:
    raise RuntimeError("no broker")


def test_json_lines(stream: io.StringIO):
    configure_logging("json", "info", stream)
    get_logger("stream_rec.worker").info("batch learnt", batch=3, note="zwei\nZeilen é")
    (line,) = lines(stream)
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == datetime.now(UTC).utcoffset()
    assert line == {
        "event": "batch learnt",
        "level": "info",
        "logger_name": "stream_rec.worker",
        "batch": 3,
        "note": "zwei\nZeilen é",
    }


def test_less_severe_lines_are_left_out(stream: io.StringIO):
    configure_logging("json", "warning", stream)
    log = get_logger("x")
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_libraries_speak_through_it_from_warning_on(stream: io.StringIO):
    configure_logging("json", "debug", stream)
    logging.getLogger("kafka.client").info("connected")
    logging.getLogger("kafka.client").warning("node %d gone", 3, extra={"node": 3})
    (line,) = lines(stream)
    line.pop("timestamp")
    assert line == {"event": "node 3 gone", "level": "warning", "logger_name": "kafka.client", "node": 3}


def test_libraries_never_speak_below_the_level(stream: io.StringIO):
    configure_logging("json", "error", stream)
    logging.getLogger("kafka").warning("no")
    logging.getLogger("kafka").error("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


@pytest.mark.parametrize("format", ["json", "pretty"])
@pytest.mark.parametrize("library", [False, True])
def test_exceptions_come_with_their_traceback_and_without_local_variables(
    stream: io.StringIO, format: str, library: bool
):
    configure_logging(format, "info", stream)
    log = logging.getLogger("kafka") if library else get_logger("x")
    try:
        fail("hunter2")
    except RuntimeError:
        log.exception("failed")
    text = stream.getvalue()
    assert "Traceback (most recent call last)" in text
    assert "RuntimeError: no broker" in text
    assert "in fail" in text
    assert "password=" not in text
    assert "'hunter2'" not in text


def test_pretty_lines_without_a_terminal_have_no_colours(stream: io.StringIO):
    configure_logging("pretty", "info", stream)
    get_logger("x").info("batch learnt", batch=3)
    assert "batch learnt" in stream.getvalue()
    assert "batch=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_second_call_replaces_the_first_also_for_loggers_made_before(stream: io.StringIO):
    log = get_logger("x")
    first = io.StringIO()
    configure_logging("pretty", "error", first)
    log.error("one")
    configure_logging("json", "info", stream)
    log.info("two")
    logging.getLogger("kafka").warning("three")
    assert "two" not in first.getvalue()
    assert "three" not in first.getvalue()
    assert [line["event"] for line in lines(stream)] == ["two", "three"]


def test_what_json_does_not_know_is_still_one_line(stream: io.StringIO):
    configure_logging("json", "info", stream)
    get_logger("x").info("odd", thing=object(), raw=b"\x00\xff")
    (line,) = lines(stream)
    assert "object object" in line["thing"]
