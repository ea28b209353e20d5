import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byokd.adapters.sql import SqlStore, open_inline, open_postgres, open_sqlite, upgrade_database
from byokd.settings import StoreSettings
from store.builders import CountingIds, Stage


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
    store = open_sqlite(settings_for(database), ids=CountingIds())
    yield store
    await store.close()


@pytest.fixture
async def postgres_store(postgresql_url: str) -> AsyncIterator[SqlStore]:
    store = open_postgres(StoreSettings(url=postgresql_url), ids=CountingIds())
    yield store
    await store.close()


STORES = ["file", "inline", pytest.param("postgres", marks=pytest.mark.real("postgresql"))]


@pytest.fixture(params=STORES)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Every store that must keep the contract."""
    if request.param == "file":
        database = request.getfixturevalue("database")
        store = open_sqlite(settings_for(database), ids=CountingIds())
    elif request.param == "postgres":
        url = request.getfixturevalue("postgresql_url")
        store = open_postgres(StoreSettings(url=url), ids=CountingIds())
    else:
        store = open_inline(CountingIds())
    yield Stage(store)
    await store.close()
