"""What a database holds at one moment, read behind the daemon's back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from byokd.adapters.sql.tables import (
    account_keys,
    accounts,
    events,
    metadata,
    protected_values,
    watches,
    wrapping_versions,
)
from byokd.domain.vocabulary import EventType

AnyRow = Row[Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    accounts: Sequence[AnyRow]
    keys: Sequence[AnyRow]
    values: Sequence[AnyRow]
    events: Sequence[AnyRow]


def snapshot(connection: Connection) -> Snapshot:
    """Read everything that is checked, in one transaction. A database that was not made yet holds nothing."""
    if not connection.dialect.has_table(connection, metadata.tables["events"].name):
        return Snapshot((), (), (), ())
    return Snapshot(
        connection.execute(select(accounts)).all(),
        connection.execute(
            select(account_keys, accounts.c.incarnation, accounts.c.tenant).join(
                accounts, accounts.c.id == account_keys.c.account
            )
        ).all(),
        connection.execute(select(protected_values)).all(),
        connection.execute(select(events).order_by(events.c.number)).all(),
    )


def unfinished(connection: Connection) -> dict[str, int]:
    """Count what the daemon still has to do, by kind; empty when it has come to rest."""
    told = select(func.max(events.c.number)).where(events.c.type == EventType.SERVICE_AUDIT_HEADS)
    last_heads = func.coalesce(told.scalar_subquery(), 0)
    left = {
        "events since the last audit heads": (events, events.c.number > last_heads),
        "unpublished events": (events, events.c.published_at.is_(None)),
        "superseded wraps": (account_keys, account_keys.c.superseded_at.is_not(None)),
        "versions left behind": (
            wrapping_versions,
            wrapping_versions.c.is_current.is_(False) & wrapping_versions.c.retired_at.is_(None),
        ),
        "verdicts to carry": (wrapping_versions, wrapping_versions.c.carried != wrapping_versions.c.number),
        "watches of nobody": (watches, ~select(accounts.c.id).where(accounts.c.watch == watches.c.id).exists()),
    }
    counts = {
        what: connection.execute(select(func.count()).select_from(table).where(where)).scalar_one()
        for what, (table, where) in left.items()
    }
    return {what: count for what, count in counts.items() if count}
