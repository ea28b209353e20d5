"""The databases that the daemon is killed over, and how a test reads them behind its back."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url

from parts.postgresql import PostgreSQL, postgresql_database, postgresql_server


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one world: what the daemon is told, and how to look into it.

    Attributes:
        url: for the setting `store.url`.
        living: opens a connection while the daemon has the database open.
        dead: opens a connection to what a killed daemon left, without mending it as the next daemon has to.
    """

    url: str
    living: Callable[[], AbstractContextManager[Connection]]
    dead: Callable[[], AbstractContextManager[Connection]]


SQLITE = "sqlite"
KINDS = [SQLITE, pytest.param("postgresql", marks=pytest.mark.real("postgresql"))]


class Databases:
    """Makes an empty database for a world, of any kind; a server is started for the first one that needs it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._server: PostgreSQL | None = None

    def new(self, kind: str, directory: Path) -> Database:
        if kind == SQLITE:
            return _sqlite(directory / "byokd.db")
        if self._server is None:
            self._server = self._stack.enter_context(postgresql_server())
        return _postgresql(self._stack.enter_context(postgresql_database(self._server)))


def _sqlite(path: Path) -> Database:
    @contextmanager
    def dead() -> Iterator[Connection]:
        # Whoever opens the files themselves recovers the log, and the next daemon would find nothing to recover.
        with tempfile.TemporaryDirectory() as place:
            for suffix in ("", "-wal"):
                if (left := path.with_name(path.name + suffix)).exists():
                    shutil.copy(left, place)
            with _connection(URL.create("sqlite+pysqlite", database=f"{place}/{path.name}")) as connection:
                yield connection

    return Database(f"sqlite:///{path}", lambda: _connection(URL.create("sqlite+pysqlite", database=str(path))), dead)


def _postgresql(url: str) -> Database:
    looking = partial(_connection, make_url(url).set(drivername="postgresql+psycopg"))
    return Database(url, looking, looking)


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
