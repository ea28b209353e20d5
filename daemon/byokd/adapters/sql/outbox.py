"""The events: written with the state that they tell of, read and marked by the publisher."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Text, bindparam, delete, exists, func, select, type_coerce, update

from byokd.adapters.sql import chain
from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.rows import AnyRow, Values, columns_of
from byokd.adapters.sql.tables import accounts, events
from byokd.domain.accounts import AccountEvent, JsonValue
from byokd.domain.decide import KeyEvent
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.vocabulary import EventType
from byokd.ports import StaleError
from byokd.records import OutboxRow, Retained

SERVICE = "service"
"""The stream of what concerns no single account or key."""

BATCH = 500
"""Numbers in one statement; databases bound the parameters of a statement."""

COLUMNS = [
    *(events.c[name] for name in ("number", "id", "stream", "type", "time", "retained")),
    type_coerce(events.c.data, Text).label("document"),
]
"""What `outbox_row` reads."""

_UNPUBLISHED = (
    select(*COLUMNS)
    .where(events.c.published_at.is_(None), events.c.number > bindparam("after"))
    .order_by(events.c.number)
    .limit(bindparam("most"))
)

_LARGEST = select(func.max(events.c.number))
_FIRST_UNPUBLISHED = select(func.min(events.c.number)).where(events.c.published_at.is_(None))

_TELLS_OF_AN_ACCOUNT = exists().where(
    accounts.c.id == events.c.account,
    accounts.c.incarnation == events.c.incarnation,
    accounts.c.sequence == events.c.sequence,
)
"""Whether an event is the last of an account that exists."""

_later = events.alias("later")
_LAST_OF_AN_ACCOUNT = events.c.account.is_not(None) & ~exists().where(
    _later.c.account == events.c.account, _later.c.number > events.c.number
)
"""The same, also of accounts that were deleted since: it says what has to be retained, or that nothing has."""

_earlier = events.alias("earlier")
_FOLLOWS_A_KEPT_ONE = exists().where(
    _earlier.c.stream == events.c.stream,
    _earlier.c.number < events.c.number,
    _earlier.c.published_at.is_(None) | (_earlier.c.time >= bindparam("before")),
)
"""A chain is only ever shortened from its beginning, also where a clock was set back."""

_FORGOTTEN = (
    select(events.c.number, events.c.stream, events.c.mac)
    .where(
        events.c.published_at.is_not(None),
        events.c.time < bindparam("before"),
        events.c.number < _LARGEST.scalar_subquery(),
        ~_TELLS_OF_AN_ACCOUNT,
        ~_FOLLOWS_A_KEPT_ONE,
    )
    .order_by(events.c.number)
    .limit(bindparam("most"))
)


def record_account_events(
    connection: Connection, drafts: Iterable[AccountEvent], *, recorder: Recorder, now: datetime
) -> None:
    """Append events of accounts, whose sequences are set already."""
    rows: list[Values] = [
        {
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
    chain.append(connection, rows, recorder)


def record_key_events(
    connection: Connection, drafts: Iterable[tuple[KeyIdentifier, KeyEvent]], *, recorder: Recorder, now: datetime
) -> None:
    """Append events of keys, each on its key's stream."""
    rows: list[Values] = [
        {
            "stream": key.topic,
            "type": str(event.type),
            "time": now,
            "data": dict(event.data),
            "retained": str(Retained.KEEP),
        }
        for key, event in drafts
    ]
    chain.append(connection, rows, recorder)


def record_service_event(
    connection: Connection, event_type: EventType, data: Mapping[str, JsonValue], *, recorder: Recorder, now: datetime
) -> None:
    """Append an event of the service as a whole."""
    row: Values = {
        "stream": SERVICE,
        "type": str(event_type),
        "time": now,
        "data": dict(data),
        "retained": str(Retained.KEEP),
    }
    chain.append(connection, [row], recorder)


def unpublished(connection: Connection, *, after: int, limit: int) -> Sequence[OutboxRow]:
    """See `Store.unpublished`."""
    return [outbox_row(row) for row in connection.execute(_UNPUBLISHED, {"after": after, "most": limit})]


def outbox_row(row: AnyRow) -> OutboxRow:
    """Read an event."""
    of = columns_of(row)
    return OutboxRow(
        of["number"], of["id"], of["stream"], of["type"], of["time"], of["document"], Retained(of["retained"])
    )


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


def contiguous(connection: Connection) -> int:
    """See `Store.contiguous`."""
    first = connection.scalar(_FIRST_UNPUBLISHED)
    return (connection.scalar(_LARGEST) or 0) if first is None else first - 1


def resend(connection: Connection, *, after: int | None, since: datetime) -> int:
    """See `Store.resend`."""
    lost: ColumnElement[bool] = _LAST_OF_AN_ACCOUNT
    if after is not None and 0 <= after <= (connection.scalar(_LARGEST) or 0):
        lost = (events.c.number > after) & ((events.c.time >= since) | _LAST_OF_AN_ACCOUNT)
    again = update(events).where(events.c.published_at.is_not(None), lost).values(published_at=None)
    return connection.execute(again).rowcount


def forget(connection: Connection, *, before: datetime, limit: int, recorder: Recorder) -> int:
    """See `Store.forget`."""
    rows = connection.execute(_FORGOTTEN, {"before": before, "most": limit}).all()
    gone = chain.forget(connection, rows, recorder)
    for start in range(0, len(gone), BATCH):
        batch = gone[start : start + BATCH]
        if connection.execute(delete(events).where(events.c.number.in_(batch))).rowcount != len(batch):
            raise StaleError("events to forget were deleted meanwhile")
    return len(gone)
