"""Opens databases: for a daemon, for a test in memory, and for a moment."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from byokd.adapters.sql import schema
from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.engine import memory_engine, prepare_file
from byokd.adapters.sql.errors import wrong_schema
from byokd.adapters.sql.runners import Database, InlineRunner, ThreadedRunner, transact
from byokd.adapters.sql.sqlite_file import SqliteFile
from byokd.adapters.sql.store import SqlStore
from byokd.ports import Auditor, Ids
from byokd.settings import StoreSettings


def store_for(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> SqlStore:
    """Give the store over the database that `store.url` names without touching it yet; `prepare` opens it."""
    database = database_for(settings)
    runner = ThreadedRunner(database)
    return SqlStore(
        runner, Recorder(ids, auditor), open_it=partial(runner.open, partial(_make_usable, settings, database))
    )


def open_sqlite(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> SqlStore:
    """Open the database file: made (mode 0600) where it is missing, upgraded where the settings allow it.

    Raises:
        StoreUnavailableError: it cannot be used, another process uses it, or its schema is not this version's.
    """
    return _opened(settings, ids=ids, auditor=auditor)


def open_postgres(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> SqlStore:
    """Open the PostgreSQL database, which must exist: upgraded where the settings allow it.

    Raises:
        StoreUnavailableError: it cannot be used, another process uses it, or its schema is not this version's.
    """
    return _opened(settings, ids=ids, auditor=auditor)


def sqlite_store(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> SqlStore:
    """Give the store over a database file without touching it yet; `prepare` opens it."""
    return store_for(settings, ids=ids, auditor=auditor)


def _opened(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> SqlStore:
    database = database_for(settings)
    runner = ThreadedRunner(database)
    runner.open(partial(_make_usable, settings, database))
    return SqlStore(runner, Recorder(ids, auditor))


def database_for(settings: StoreSettings) -> Database:
    """Give the database that `store.url` names; nothing is opened yet."""
    if (path := settings.path) is not None:
        return SqliteFile(path, busy_timeout=settings.busy_timeout)
    # The driver is an extra: who keeps a file needs none.
    from byokd.adapters.sql.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(settings)


def _make_usable(settings: StoreSettings, database: Database) -> None:
    if settings.path is not None:
        prepare_file(settings.path)
    database.take()
    if settings.upgrade_at_start:
        schema.upgrade(database.writer)
    found = schema.status(database.writer)
    if found.current != found.head:
        raise wrong_schema(found.current, found.head)


def open_inline(ids: Ids, auditor: Auditor) -> SqlStore:
    """Open an empty database in memory that runs in the caller's thread, without giving way: for virtual time."""
    runner = InlineRunner(memory_engine())
    transact(runner.writer, partial(schema.create, identity=str(uuid.uuid4())))
    return SqlStore(runner, Recorder(ids, auditor))


def upgrade_database(settings: StoreSettings) -> schema.SchemaStatus:
    """Bring the schema up to date; give what it was before.

    Raises:
        StoreUnavailableError: the database cannot be used, a daemon uses it, or its schema is of a newer version.
    """
    with _offline(settings) as database:
        database.take()
        found = schema.status(database.writer)
        schema.upgrade(database.writer)
        return found


def database_status(settings: StoreSettings) -> schema.SchemaStatus:
    """Tell the schema of the database, also while a daemon uses it.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """
    with _offline(settings) as database:
        return schema.status(database.reader)


@contextmanager
def _offline(settings: StoreSettings) -> Iterator[Database]:
    """Give the database for a moment; a file is made where it is missing."""
    if settings.path is not None:
        prepare_file(settings.path)
    database = database_for(settings)
    try:
        yield database
    finally:
        database.release()
