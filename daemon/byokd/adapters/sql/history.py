"""The events as a history: read in the order of their numbers, and the heads of their chains."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.outbox import COLUMNS, SERVICE, outbox_row, record_service_event
from byokd.adapters.sql.tables import chains, events
from byokd.domain.accounts import JsonValue
from byokd.domain.chain import Heads, HeadsDigest
from byokd.domain.vocabulary import EventType
from byokd.records import OutboxRow

PAGE = 1000
"""Rows fetched at once from a long answer."""

_HISTORY = (
    select(*COLUMNS).where(events.c.number > bindparam("after")).order_by(events.c.number).limit(bindparam("most"))
)
_LAST = select(func.max(events.c.number))
_OLDEST = select(events.c.time).order_by(events.c.number).limit(1)
# Two statements, because each has an index of its own.
_FIRST_SINCE = [
    select(func.min(events.c.number)).where(events.c.time >= bindparam("since"), condition)
    for condition in (events.c.published_at.is_not(None), events.c.published_at.is_(None))
]
_HEADS = select(chains.c.stream, chains.c.head).order_by(chains.c.stream)
_LAST_TOLD = (
    select(events.c.number, events.c.time)
    .where(events.c.stream == SERVICE, events.c.type == str(EventType.SERVICE_AUDIT_HEADS))
    .order_by(events.c.number.desc())
    .limit(1)
)


def history(connection: Connection, *, after: int, limit: int, stream: str | None) -> Sequence[OutboxRow]:
    """See `Store.history`."""
    statement = _HISTORY if stream is None else _HISTORY.where(events.c.stream == stream)
    return [outbox_row(row) for row in connection.execute(statement, {"after": after, "most": limit})]


def number_before(connection: Connection, since: datetime) -> int:
    """See `Store.number_before`."""
    found = [connection.scalar(statement, {"since": since}) for statement in _FIRST_SINCE]
    first = min((number for number in found if number is not None), default=None)
    return (connection.scalar(_LAST) or 0) if first is None else first - 1


def heads(connection: Connection) -> Heads:
    """See `Store.heads`."""
    last = connection.scalar(_LAST) or 0
    rows = connection.execute(_HEADS.execution_options(yield_per=PAGE))
    digest = HeadsDigest()
    for stream, head in rows:
        digest.add(stream, head)
    return digest.heads(last_event=last)


def untold_since(connection: Connection) -> datetime | None:
    """See `Store.untold_since`."""
    told = connection.execute(_LAST_TOLD).first()
    if told is None:
        return connection.scalar(_OLDEST)
    return told.time if (connection.scalar(_LAST) or 0) > told.number else None


def record_heads(connection: Connection, heads: Heads, *, recorder: Recorder, now: datetime) -> None:
    """See `Store.record_heads`."""
    data: dict[str, JsonValue] = {"streams": heads.streams, "lastEvent": heads.last_event, "digest": heads.digest}
    record_service_event(connection, EventType.SERVICE_AUDIT_HEADS, data, recorder=recorder, now=now)
