"""The databases that the daemon is killed over, and how a test reads them behind its back."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, NullPool, create_engine


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one world: what the daemon is told, and how to look into it.

    Attributes:
        url: for the setting `store.url`.
        living: opens a connection while the daemon has the database open.
        dead: opens a connection to what a killed daemon left, without mending it as the next daemon has to.
    """

    url: str
    living: Callable[[], Iterator[Connection]]
    dead: Callable[[], Iterator[Connection]]


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[Database]:
    path = directory / "byokd.db"

    def living() -> Iterator[Connection]:
        return _connection(path)

    def dead() -> Iterator[Connection]:
        # Whoever opens the files themselves recovers the log, and the next daemon would find nothing to recover.
        with tempfile.TemporaryDirectory() as place:
            for suffix in ("", "-wal"):
                if (left := path.with_name(path.name + suffix)).exists():
                    shutil.copy(left, place)
            yield from _connection(Path(place) / path.name)

    yield Database(f"sqlite:///{path}", living, dead)


def _connection(path: Path) -> Iterator[Connection]:
    engine = create_engine(URL.create("sqlite+pysqlite", database=str(path)), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


opened = contextmanager
"""Makes `Database.living` and `Database.dead` into contexts."""

DATABASES: dict[str, Callable[[Path], AbstractAsyncContextManager[Database]]] = {"sqlite": sqlite}
