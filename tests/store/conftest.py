import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psycopg
import pytest

from byokd.adapters.sql import SqlStore, open_postgres, open_sqlite, schema, upgrade_database
from byokd.adapters.sql.tables import metadata
from byokd.settings import StoreSettings
from parts.postgresql import PostgreSQL, postgresql_database, postgresql_server
from store.builders import CountingIds, Stage, auditor
from store.memory import empty_inline


def settings_for(path: Path) -> StoreSettings:
    return StoreSettings(url=f"sqlite:///{path}")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema and nothing in it: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    upgrade_database(settings_for(path))
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path / "byokd.db"))


@pytest.fixture
async def file_store(database: Path) -> AsyncIterator[SqlStore]:
    store = open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    yield store
    await store.close()


class Reused:
    """A database that is emptied for the next test, where that is possible: making one takes longer than most tests."""

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self._stack = ExitStack()
        self._url: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def empty(self) -> str:
        if self._url is None or not self._emptied(self._url):
            self._stack.close()
            self._url = self._stack.enter_context(postgresql_database(self._server))
        return self._url

    def _emptied(self, url: str) -> bool:
        numbered = ("watches_id_seq", "wrapping_versions_id_seq", "events_number_seq")
        try:
            with psycopg.connect(url) as connection:
                for table in reversed(metadata.sorted_tables):
                    connection.execute(f"DELETE FROM {table.name}")  # type: ignore[arg-type]  # noqa: S608 - our own
                connection.execute(
                    "INSERT INTO brake (one, revision, finding, message, settled) VALUES (1, 0, 'null', '', 0)"
                )
                for name in numbered:
                    connection.execute(f"ALTER SEQUENCE {name} RESTART")  # type: ignore[arg-type]
                return connection.execute("UPDATE alembic_version SET version_num = %s", [schema.HEAD]).rowcount == 1
        except psycopg.Error:
            return False


@pytest.fixture(scope="session")
def reused(postgresql: PostgreSQL) -> Iterator[Reused]:
    with Reused(postgresql) as database:
        yield database


@pytest.fixture
async def postgres_store(postgresql_url: str) -> AsyncIterator[SqlStore]:
    store = open_postgres(StoreSettings(url=postgresql_url), ids=CountingIds(), auditor=auditor())
    yield store
    await store.close()


@pytest.fixture(scope="session")
def own_server() -> Iterator[PostgreSQL]:
    """A server for those who stop it; they leave it running."""
    with postgresql_server() as server:
        yield server


STORES = ["file", "inline", pytest.param("postgres", marks=pytest.mark.real("postgresql"))]


@pytest.fixture(params=STORES)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Every store that must keep the contract."""
    if request.param == "file":
        database = request.getfixturevalue("database")
        store = open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    elif request.param == "postgres":
        url = request.getfixturevalue("reused").empty()
        store = open_postgres(StoreSettings(url=url), ids=CountingIds(), auditor=auditor())
    else:
        store = empty_inline(CountingIds(), auditor())
    yield Stage(store)
    await store.close()
