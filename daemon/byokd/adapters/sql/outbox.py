"""The events: written with the state that they tell of, read and marked by the publisher."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from byokd.adapters.sql.rows import Values
from byokd.adapters.sql.tables import events
from byokd.domain.accounts import AccountEvent
from byokd.domain.decide import KeyEvent
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.vocabulary import EventType
from byokd.ports import Ids, OutboxRow, Retained, StaleError

BATCH = 500
"""Numbers in one statement; databases bound the parameters of a statement."""

_COLUMNS = [events.c[name] for name in ("number", "id", "stream", "type", "time", "data", "retained")]
_APPEND = insert(events)
_UNPUBLISHED = (
    select(*_COLUMNS)
    .where(events.c.published_at.is_(None), events.c.number > bindparam("after"))
    .order_by(events.c.number)
    .limit(bindparam("most"))
)

_FORGOTTEN = (
    select(events.c.number)
    .where(events.c.published_at.is_not(None), events.c.time < bindparam("before"))
    .order_by(events.c.time, events.c.number)
    .limit(bindparam("most"))
)
_FORGET = delete(events).where(events.c.number.in_(_FORGOTTEN))


def record_account_events(connection: Connection, drafts: Iterable[AccountEvent], *, ids: Ids, now: datetime) -> None:
    """Append events of accounts, whose sequences are set already."""
    rows: list[Values] = [
        {
            "id": ids.new(),
            "stream": event.account.id.topic,
            "type": str(event.type),
            "time": now,
            "account": str(event.account.id),
            "incarnation": event.account.incarnation,
            "sequence": event.account.sequence,
            "data": event.data(),
            "retained": str(Retained.CLEAR if event.type is EventType.ACCOUNT_DELETED else Retained.SET),
        }
        for event in drafts
    ]
    if rows:
        connection.execute(_APPEND, rows)


def record_key_events(
    connection: Connection, drafts: Iterable[tuple[KeyIdentifier, KeyEvent]], *, ids: Ids, now: datetime
) -> None:
    """Append events of keys, each on its key's stream."""
    rows: list[Values] = [
        {
            "id": ids.new(),
            "stream": key.topic,
            "type": str(event.type),
            "time": now,
            "data": dict(event.data),
            "retained": str(Retained.KEEP),
        }
        for key, event in drafts
    ]
    if rows:
        connection.execute(_APPEND, rows)


def unpublished(connection: Connection, *, after: int, limit: int) -> Sequence[OutboxRow]:
    """See `Store.unpublished`."""
    return [
        OutboxRow(row.number, row.id, row.stream, row.type, row.time, row.data, Retained(row.retained))
        for row in connection.execute(_UNPUBLISHED, {"after": after, "most": limit})
    ]


def mark_published(connection: Connection, numbers: Sequence[int], *, now: datetime) -> None:
    """See `Store.mark_published`. Events that were marked before keep their first time.

    Raises:
        StaleError: there is no event of one of these numbers.
    """
    wanted = sorted(set(numbers))
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        waiting = events.c.number.in_(batch) & events.c.published_at.is_(None)
        marked = connection.execute(update(events).where(waiting).values(published_at=now)).rowcount
        if marked != len(batch):
            known = connection.scalar(select(func.count()).where(events.c.number.in_(batch)))
            if known != len(batch):
                raise StaleError(f"{len(batch) - (known or 0)} of the events to mark as published do not exist")


def forget(connection: Connection, *, before: datetime, limit: int) -> int:
    """See `Store.forget`."""
    return connection.execute(_FORGET, {"before": before, "most": limit}).rowcount
