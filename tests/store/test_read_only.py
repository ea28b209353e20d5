"""The store of a guest: it reads beside a daemon or without one, and leaves no trace."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from byokd.adapters.sql import open_sqlite
from byokd.adapters.sql.read_only import read_only_store
from byokd.ports import StoreUnavailableError
from byokd.records import SealUse
from byokd.runtime.clock import UuidIds
from store.builders import Stage, at, auditor
from store.conftest import settings_for


async def filled(database: Path) -> None:
    store = open_sqlite(settings_for(database), ids=UuidIds(), auditor=auditor())
    await Stage(store).create(1)
    await store.close()


async def test_at_rest_it_reads_and_makes_nothing(database: Path) -> None:
    await filled(database)
    before = {path.name: path.read_bytes() for path in database.parent.iterdir()}
    guest = read_only_store(settings_for(database))
    assert await guest.seal_uses() == [SealUse("1", None, 1, 0)]
    assert len(await guest.stored_keys(after=None, limit=9)) == 1
    assert {path.name: path.read_bytes() for path in database.parent.iterdir()} == before


async def test_beside_a_daemon_it_sees_what_was_committed_and_takes_no_claim(database: Path) -> None:
    await filled(database)
    daemon = open_sqlite(settings_for(database), ids=UuidIds(), auditor=auditor())
    await Stage(daemon).create(2, key=None)
    guest = read_only_store(settings_for(database))
    assert len(await guest.stored_keys(after=None, limit=9)) == 2
    await Stage(daemon).create(3, key=None)
    assert len(await guest.stored_keys(after=None, limit=9)) == 3
    await daemon.close()


async def test_it_writes_nothing(database: Path) -> None:
    await filled(database)
    guest = read_only_store(settings_for(database))
    with pytest.raises(StoreUnavailableError, match="only read"):
        await guest.begin_rotation(storage_key="2", system_key="2", now=at(0))


async def test_a_daemon_that_starts_meanwhile_spoils_a_read_at_rest(database: Path) -> None:
    await filled(database)
    guest = read_only_store(settings_for(database))
    daemon = open_sqlite(settings_for(database), ids=UuidIds(), auditor=auditor())
    await Stage(daemon).create(2, key=None)
    with pytest.raises(StoreUnavailableError, match="while it was read"):
        await guest.stored_keys(after=None, limit=9)
    await daemon.close()
    with pytest.raises(StoreUnavailableError, match="while it was read"):
        await guest.stored_keys(after=None, limit=9)


async def test_what_cannot_be_read_is_refused_and_not_made(database: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="there is no database"):
        read_only_store(settings_for(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(StoreUnavailableError, match="9999"):
        read_only_store(settings_for(database))
