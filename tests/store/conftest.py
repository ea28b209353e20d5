import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byokd.adapters.sql import SqlStore, open_inline, open_sqlite, upgrade_database
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


@pytest.fixture(params=["file", "inline"])
async def stage(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Stage]:
    """Every store that must keep the contract."""
    is_file = request.param == "file"
    store = open_sqlite(settings_for(database), ids=CountingIds()) if is_file else open_inline(CountingIds())
    yield Stage(store)
    await store.close()
