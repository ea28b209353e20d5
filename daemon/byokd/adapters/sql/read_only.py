"""A database as a guest: beside a daemon or without one, nothing is written, claimed or made."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from byokd.adapters.sql import schema
from byokd.adapters.sql.errors import wrong_schema
from byokd.adapters.sql.opening import database_for
from byokd.adapters.sql.runners import transact
from byokd.adapters.sql.sealed_store import SqlSealedStore
from byokd.ports import StoreUnavailableError
from byokd.settings import StoreSettings

P = ParamSpec("P")
T = TypeVar("T")


class ReadingRunner:
    """Runs transactions that read, each in a thread and on a connection of its own; those that write are refused."""

    def __init__(self, engine: Engine, confirm: Callable[[], None]) -> None:
        self._engine = engine
        self._confirm = confirm

    async def read(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Runner.read`.

        Raises:
            StoreUnavailableError: somebody began to write to a database that was at rest: what was read may be torn.
        """
        result = await asyncio.to_thread(
            transact, self._engine, lambda connection: transaction(connection, *args, **kwargs)
        )
        self._confirm()
        return result

    async def write(
        self,
        transaction: Callable[Concatenate[Connection, P], T],  # noqa: ARG002 - as the protocol
        *args: P.args,  # noqa: ARG002
        **kwargs: P.kwargs,  # noqa: ARG002
    ) -> T:
        """Refuse.

        Raises:
            StoreUnavailableError: always.
        """
        raise StoreUnavailableError("the database is only read here", hint="ask the daemon to change something")

    async def confirm(self) -> None:
        """See `Runner.confirm`."""
        self._confirm()

    async def scrub(self) -> None:
        """Nothing to do: nothing is written."""

    async def close(self) -> None:
        """See `Runner.close`."""
        self._engine.dispose()


@dataclass(frozen=True, slots=True)
class Guest:
    """A database to read from, and what to ask after each reading: it raises when what was read may be torn."""

    engine: Engine
    confirm: Callable[[], None]


def read_only_store(settings: StoreSettings) -> SqlSealedStore:
    """Give what is sealed in a database. A daemon may use it meanwhile.

    Raises:
        StoreUnavailableError: it is not there or cannot be read, or its schema is not this version's.
    """
    guest = guest_of(settings)
    return SqlSealedStore(ReadingRunner(guest.engine, guest.confirm))


def guest_of(settings: StoreSettings) -> Guest:
    """Open a database for reading only, without claiming it.

    Raises:
        StoreUnavailableError: it is not there or cannot be read, or its schema is not this version's.
    """
    guest = open_guest(settings)
    try:
        found = schema.status(guest.engine)
    except BaseException:
        guest.engine.dispose()
        raise
    if found.current != found.head:
        guest.engine.dispose()
        raise wrong_schema(found.current, found.head)
    return guest


def open_guest(settings: StoreSettings) -> Guest:
    """Open a database of whatever schema, as `guest_of`.

    Raises:
        StoreUnavailableError: there is no such file.
    """
    return _guest_of_server(settings) if settings.path is None else _guest_of_file(settings, settings.path)


def _guest_of_server(settings: StoreSettings) -> Guest:
    """Each transaction sees one moment: nothing can be torn."""
    return Guest(database_for(settings).reader, lambda: None)


def _guest_of_file(settings: StoreSettings, path: Path) -> Guest:
    if not path.is_file():
        raise StoreUnavailableError(f"there is no database {path}", hint="look at store.url; give --settings")
    log = Path(f"{path}-wal")
    at_rest = not log.exists()
    before = _stamp(path)

    def confirm() -> None:
        if at_rest and (log.exists() or _stamp(path) != before):
            raise StoreUnavailableError(
                "a daemon started to use the database while it was read", hint="begin again, now beside the daemon"
            )

    # Without a log, SQLite would make one even to read; "immutable" leaves the directory as it is.
    how = "immutable=1" if at_rest else "mode=ro"
    return Guest(_engine(path, how, seconds=settings.busy_timeout.total_seconds()), confirm)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _engine(path: Path, how: str, *, seconds: float) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?{how}", uri=True, timeout=seconds, check_same_thread=False, isolation_level=None
        )
        connection.execute("PRAGMA query_only = ON").close()
        return connection

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
