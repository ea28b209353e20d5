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


REPEATS_EVERY_SECONDS = 60.0
"""How often a warning of the web server is written again: whoever floods us must not fill the disk as well."""


class NowAndThen(logging.Filter):
    """Passes a warning that says the same as one before only now and then; errors always."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write it."""
        said = self._said.get(str(record.msg), -REPEATS_EVERY_SECONDS)
        if record.levelno >= logging.ERROR or abs(record.created - said) >= REPEATS_EVERY_SECONDS:
            self._said[str(record.msg)] = record.created
            return True
        return False


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
    logging.getLogger("uvicorn.error").filters = [NowAndThen()]
