"""The databases that the daemon is killed over, and how a test reads them behind its back."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
    living: Callable[[], AbstractContextManager[Connection]]
    dead: Callable[[], AbstractContextManager[Connection]]


KINDS = ["sqlite"]


class Databases:
    """Makes an empty database for a world, of any kind."""

    def new(self, kind: str, directory: Path) -> Database:
        assert kind == "sqlite"
        return _sqlite(directory / "byokd.db")


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


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
