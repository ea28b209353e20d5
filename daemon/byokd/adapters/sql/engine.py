"""SQLite as byokd uses it: one connection to write, others to read, and what each is told when it opens."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import URL, Connection, Engine, QueuePool, StaticPool, create_engine, event

from byokd.ports import StoreUnavailableError

READERS = 2
"""Connections and threads that read. Beyond that, reads wait for one another: they are short."""

_DURABLE = (
    "PRAGMA journal_mode = WAL",
    # NORMAL may lose the last commits when the power fails: the bus would have been told what is no longer so.
    "PRAGMA synchronous = FULL",
)
_STRICT = (
    "PRAGMA foreign_keys = ON",
    # An erased wrap must not lie about in free pages, for a copy of the file to carry away.
    "PRAGMA secure_delete = ON",
)
_LARGE_CACHE = ("PRAGMA cache_size = -16384",)
_READING = ("PRAGMA query_only = ON",)


def writer_engine(path: Path, *, busy_timeout: timedelta) -> Engine:
    """Give the engine that writes. Its transactions take the write lock at once.

    Taking it only at the first write fails when another process wrote since the transaction's first read.
    """
    engine = _file_engine(path, busy_timeout=busy_timeout, connections=1)
    return _prepared(engine, pragmas=(*_DURABLE, *_STRICT, *_LARGE_CACHE), begin="BEGIN IMMEDIATE")


def reader_engine(path: Path, *, busy_timeout: timedelta) -> Engine:
    """Give the engine that reads. Its transactions see one moment and wait for no writer."""
    engine = _file_engine(path, busy_timeout=busy_timeout, connections=READERS)
    return _prepared(engine, pragmas=_READING, begin="BEGIN")


def memory_engine() -> Engine:
    """Give an engine of one connection to a database of its own, in memory."""
    engine = create_engine(
        "sqlite+pysqlite://", poolclass=StaticPool, hide_parameters=True, connect_args={"check_same_thread": False}
    )
    return _prepared(engine, pragmas=_STRICT, begin="BEGIN IMMEDIATE")


def _file_engine(path: Path, *, busy_timeout: timedelta, connections: int) -> Engine:
    return create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        # Errors must not show what a statement wrote.
        hide_parameters=True,
        connect_args={"timeout": busy_timeout.total_seconds(), "check_same_thread": False},
    )


def _prepared(engine: Engine, *, pragmas: Sequence[str], begin: str) -> Engine:
    """Tell every new connection the pragmas, and begin transactions as told rather than as the driver would."""

    @event.listens_for(engine, "connect")
    def _connected(connection: SqliteConnection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def check_directory(path: Path) -> None:
    """See that a database can be in the directory of its file.

    Raises:
        StoreUnavailableError: the directory is missing or not writable.
    """
    directory = path.parent
    if not directory.is_dir():
        raise StoreUnavailableError(
            f"the directory {directory} of the database does not exist",
            hint="make it, owned by the service's user and closed to others, or change store.url",
        )
    # The write-ahead log is made beside the file, so a writable file alone would not do.
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise StoreUnavailableError(
            f"the directory {directory} of the database is not writable",
            hint="let the service's user write it, or change store.url",
        )


def prepare_file(path: Path) -> None:
    """Make an empty database file that only its owner can read, unless there is one.

    Raises:
        StoreUnavailableError: the directory is missing or not writable, or the file cannot be made.
    """
    check_directory(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailableError(
            f"the database {path} cannot be opened: {error.strerror}",
            hint="let the service's user read and write the file, or change store.url",
        ) from error
