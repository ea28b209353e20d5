"""Everything about one account that explains how it is, read at one moment."""

from sqlalchemy import Connection, bindparam, select

from byokd.adapters.sql.brake_counts import BRAKE, brake_of
from byokd.adapters.sql.ledger import ACCOUNTS
from byokd.adapters.sql.outbox import COLUMNS, outbox_row
from byokd.adapters.sql.rows import account_of
from byokd.adapters.sql.tables import accounts, events
from byokd.adapters.sql.watches import watch
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import EventType
from byokd.records import Dossier

_ACCOUNT = ACCOUNTS.where(accounts.c.id == bindparam("account"))
_EVENTS = select(*COLUMNS).where(events.c.stream == bindparam("stream")).order_by(events.c.number.desc())
_LAST = _EVENTS.limit(bindparam("most"))
_LAST_FAILURE = _EVENTS.where(events.c.type == str(EventType.ACCOUNTKEY_REWRAP_FAILED)).limit(1)


def dossier(connection: Connection, account_id: AccountId, *, most: int) -> Dossier | None:
    """See `Store.dossier`."""
    row = connection.execute(_ACCOUNT, {"account": str(account_id)}).one_or_none()
    if row is None:
        return None
    account = account_of(row)
    stream = {"stream": account_id.topic}
    # Of attempts that are not published (see docs/events.md) the last published one tells why they fail.
    failure = connection.execute(_LAST_FAILURE, stream).one_or_none() if row.rewrap_attempts else None
    last = [outbox_row(event) for event in connection.execute(_LAST, {**stream, "most": most})]
    return Dossier(
        account=account,
        watch=None if account.watch is None else watch(connection, account.watch),
        rewrap_attempts=row.rewrap_attempts,
        rewrap_due_at=row.rewrap_due_at,
        rewrap_failure=None if failure is None else outbox_row(failure),
        events=tuple(reversed(last)),
        brake=brake_of(connection.execute(BRAKE).one()),
    )
