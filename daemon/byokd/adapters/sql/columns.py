"""Column types that keep what they are given."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

encode_document = json.JSONEncoder(separators=(",", ":")).encode
"""Gives the text of a JSON value as it is stored."""


class Instant(TypeDecorator[datetime]):
    """An aware time, kept to the microsecond and given back in UTC. Naive times are refused with ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Write in UTC: SQLite keeps no zone, and its text then sorts by time."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value if value.tzinfo is UTC else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read in UTC."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Read SQLite's text at once: rows come in thousands, and each has several times."""
        return _of_text if dialect.name == "sqlite" else super().result_processor(dialect, coltype)


def _of_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")


class Document(TypeDecorator[Any]):
    """A JSON value as text: the bytes stay as they were committed, whatever a database makes of its own JSON type."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str:
        """Write compactly."""
        del dialect
        return encode_document(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        """Read."""
        del dialect
        return None if value is None else json.loads(value)
