"""Logs: one JSON object a line on standard error, for journald and log collectors."""

import logging
import sys
from typing import TextIO

import structlog

QUIET = {
    "azure": logging.CRITICAL,
    "msal": logging.CRITICAL,
    "aiomqtt": logging.CRITICAL,
    "mqtt": logging.CRITICAL,
    "asyncio": logging.ERROR,
}
"""Libraries that log what byokd classifies and tells itself, or more than may be told."""


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records to one stream, as JSON; tracebacks hold no local values.

    Args:
        level: lowest level that is written: debug, info, warning or error.
        stream: where to; standard error when None.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name, quiet in QUIET.items():
        logging.getLogger(name).setLevel(quiet)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "aiohttp", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
