"""Structured logs: one line an event, for machines (JSON) or for people, the libraries' own logs included."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

LogFormat = Literal["json", "pretty"]
LogLevel = Literal["debug", "info", "warning", "error"]

_HANDLER_NAME = "stream_rec"


def configure_logging(format: LogFormat = "pretty", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Send every log line of this process to ``stream`` (None: standard error).

    Our own lines appear from ``level`` on, those of libraries through stdlib ``logging`` (kafka's above all)
    from warning on, or from ``level`` where that is more severe. Timestamps are ISO 8601, UTC; exceptions
    come with their traceback. May be called again: the newest call holds.
    """
    out = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers = _renderers(format, out)
    severity = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=structlog.WriteLoggerFactory(out),
        # A second call must reach the loggers that modules made at import, so nothing is cached.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.set_name(_HANDLER_NAME)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _as_our_own],
        )
    )
    root = logging.getLogger()
    for old in [known for known in root.handlers if known.get_name() == _HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(severity, logging.WARNING))
    # kafka-python's own event loop complains whenever a busy worker keeps it from running for a tenth of a second.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    logging.captureWarnings(True)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``logger_name``; give it ``__name__``."""
    return cast(FilteringBoundLogger, structlog.get_logger(logger_name=name))


def _renderers(format: LogFormat, out: TextIO) -> list[Processor]:
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    # The plain traceback on purpose: the rich one prints local variables, and with them passwords.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]


def _as_our_own(logger: logging.Logger, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["logger_name"] = event["_record"].name
    # Another handler, where there is one, leaves its own formatted text on the record.
    event.pop("message", None)
    return event
