"""One process per database file, and the file stays the one that was opened."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byokd.adapters.sql import SqlStore, open_inline, open_sqlite, upgrade_database
from byokd.adapters.sql.opening import database_status, sqlite_store
from byokd.ports import StoreUnavailableError
from store.builders import CountingIds, Stage, auditor
from store.conftest import settings_for

HOLDER = """
import sys
from uuid import uuid4
from byokd.adapters.sql import open_sqlite
from byokd.settings import StoreSettings
class Ids:
    def new(self):
        return str(uuid4())
store = open_sqlite(StoreSettings(url=sys.argv[1]), ids=Ids(), auditor=None)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def _another_process(database: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the database open until it is killed."""
    command = [sys.executable, "-c", HOLDER, settings_for(database).url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def test_a_second_process_is_refused_until_the_first_is_gone(database: Path) -> None:
    store = sqlite_store(settings_for(database), ids=CountingIds(), auditor=auditor())
    with _another_process(database) as other:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="another process uses the database") as refused:
                await store.prepare()
        assert "one daemon per database" in refused.value.hint
        with pytest.raises(StoreUnavailableError, match="not open"):
            await store.ping()
        other.kill()
        other.wait()
        await store.prepare()
    await Stage(store).create()
    await store.close()


async def test_a_store_holds_its_database_until_it_is_closed(database: Path) -> None:
    store = sqlite_store(settings_for(database), ids=CountingIds(), auditor=auditor())
    upgrade_database(settings_for(database))
    await store.prepare()
    with pytest.raises(StoreUnavailableError, match="another process"):
        open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    await store.ping()
    await store.close()
    after = open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    await after.ping()
    await after.close()


async def test_the_schema_is_not_upgraded_under_a_running_daemon_but_told(file_store: SqlStore, database: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="another process"):
        upgrade_database(settings_for(database))
    found = database_status(settings_for(database))
    assert found.current == found.head
    await file_store.ping()


async def test_a_link_to_the_database_is_no_way_around(file_store: SqlStore, database: Path, tmp_path: Path) -> None:
    await file_store.ping()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.db"
    link.symlink_to(database)
    with pytest.raises(StoreUnavailableError, match="another process"):
        open_sqlite(settings_for(link), ids=CountingIds(), auditor=auditor())


async def test_an_operator_can_upgrade_while_a_daemon_waits_for_that(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "byokd.db").model_copy(update={"upgrade_at_start": False})
    store = sqlite_store(settings, ids=CountingIds(), auditor=auditor())
    with pytest.raises(StoreUnavailableError, match="schema none"):
        await store.prepare()
    upgrade_database(settings)
    await store.prepare()
    await store.ping()
    await store.close()


async def test_preparing_again_keeps_what_is_open(database: Path) -> None:
    store = sqlite_store(settings_for(database), ids=CountingIds(), auditor=auditor())
    await asyncio.gather(store.prepare(), store.prepare())
    await Stage(store).create()
    await store.prepare()
    assert len(await store.accounts()) == 1
    with pytest.raises(StoreUnavailableError, match="another process"):
        open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    await store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.prepare()
    upgrade_database(settings_for(database))


def test_a_lock_file_that_cannot_be_opened_is_named(database: Path) -> None:
    (database.parent / f"{database.name}.lock").mkdir()
    with pytest.raises(StoreUnavailableError, match=r"byokd\.db\.lock cannot be opened"):
        open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())


def _move(database: Path) -> Path:
    return database.rename(database.with_suffix(".away"))


def _replace(database: Path) -> None:
    Path(shutil.copy(database, database.with_suffix(".copy"))).replace(database)


WAYS = {"deleted": Path.unlink, "moved": _move, "replaced by a copy": _replace}


@pytest.mark.parametrize("way", WAYS)
async def test_a_file_that_goes_under_a_running_store_is_noticed(
    file_store: SqlStore, database: Path, way: str
) -> None:
    await file_store.ping()
    WAYS[way](database)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="deleted or replaced") as trouble:
            await file_store.ping()
    assert "stop the daemon, restore the file" in trouble.value.hint
    assert "nothing written since" in trouble.value.hint


async def test_a_file_that_is_back_is_the_same(file_store: SqlStore, database: Path) -> None:
    away = _move(database)
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        await file_store.ping()
    away.rename(database)
    await file_store.ping()


async def test_nobody_takes_the_database_in_memory_away() -> None:
    stores = [open_inline(CountingIds(), auditor()) for _ in range(2)]
    for store in stores:
        await store.prepare()
        await store.ping()
        await store.close()
