"""As `wiring`, for those who work on the database alone: they do not wait for what talks to vaults, bus and people."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.place import key_directory
from byokd.adapters.sql.audit import Audit, export, reading
from byokd.adapters.sql.opening import database_status, upgrade_database
from byokd.domain.chain import Heads, KnownHead
from byokd.records import SignedEvent
from byokd.runtime.clock import SystemClock
from byokd.runtime.since import parse_since
from byokd.settings import Settings


@dataclass(frozen=True, slots=True)
class SchemaVersions:
    """The schema that the database has (None: empty) and the one that this version needs."""

    current: str | None
    needed: str


def upgrade_store(settings: Settings) -> SchemaVersions:
    """Bring the database's schema up to date, offline; give what it was.

    Raises:
        StoreUnavailableError: the database cannot be used, or is of a newer version.
    """
    found = upgrade_database(settings.store)
    return SchemaVersions(found.current, found.head)


def store_schema(settings: Settings) -> SchemaVersions:
    """Tell the database's schema, offline.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """
    found = database_status(settings.store)
    return SchemaVersions(found.current, found.head)


@contextmanager
def opened_audit(settings: Settings) -> Iterator[Audit]:
    """Open the record of events to verify it, beside a running daemon.

    Raises:
        StoreUnavailableError: there is no database.
        ServiceKeysUnusableError: the service's own keys are missing, unsafe or malformed.
    """
    auditor = HmacAuditor(FileServiceKeys(key_directory(settings.service_keys, os.environ)))
    with reading(settings.store) as engine:
        yield Audit(engine, auditor)


def export_history(
    settings: Settings,
    *,
    since: str | None,
    events: bool,
    on_event: Callable[[SignedEvent], None],
    on_head: Callable[[KnownHead], None],
) -> Heads:
    """Hand over the record of events, or its heads alone, beside a running daemon; give the digest of the heads.

    Raises:
        SinceInvalidError: it is not to be understood since when.
        StoreUnavailableError: the database cannot be used.
    """
    begin = 0 if since is None else parse_since(since, now=SystemClock().now())
    with reading(settings.store) as engine:
        return export(engine, since=begin if events else None, on_event=on_event, on_head=on_head)
