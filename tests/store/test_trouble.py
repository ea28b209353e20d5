"""What a failing database says, and that it works again afterwards."""

import itertools
import os
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql import SqlStore, open_sqlite
from byokd.adapters.sql.accounts import _insert
from byokd.adapters.sql.errors import unavailable
from byokd.adapters.sql.placing import _make
from byokd.ports import ExistsError, StaleError, StoreUnavailableError
from byokd.records import NewVersion
from store.builders import (
    START,
    CountingIds,
    Stage,
    account_id,
    auditor,
    facts,
    placement,
    probe,
    spec,
    target,
    version,
)
from store.conftest import settings_for

NOBODY = 65534
"""The user that owns nothing, on every Linux."""


def _pragma(store: SqlStore, pragma: str) -> None:
    with closing(store._runner.writer.raw_connection()) as connection:
        connection.execute(pragma)


async def test_a_full_disk(file_store: SqlStore) -> None:
    stage = Stage(file_store)
    _pragma(file_store, "PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnavailableError, match="full") as trouble:
        await _create_without_end(stage)
    assert "space" in trouble.value.hint
    created = len(await file_store.accounts())
    assert len(await stage.history()) == len((await stage.contents())["account_keys"]) == created
    _pragma(file_store, "PRAGMA max_page_count = 1000000")
    await stage.create(created + 1, key=None)


async def _create_without_end(stage: Stage) -> None:
    for number in itertools.count(1):
        await stage.create(number, key=None)


async def test_a_read_only_database(file_store: SqlStore) -> None:
    _pragma(file_store, "PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailableError, match="read-only") as trouble:
        await file_store.ping()
    assert "write" in trouble.value.hint
    _pragma(file_store, "PRAGMA query_only = OFF")
    await file_store.ping()


def test_a_read_only_file() -> None:
    with as_ordinary_user() as directory:
        path = directory / "byokd.db"
        path.touch(mode=0o400)
        with pytest.raises(StoreUnavailableError, match=r"cannot be opened|read-only"):
            open_sqlite(settings_for(path), ids=CountingIds(), auditor=auditor())


def test_a_read_only_directory() -> None:
    with as_ordinary_user() as directory:
        directory.chmod(0o500)
        with pytest.raises(StoreUnavailableError, match="not writable"):
            open_sqlite(settings_for(directory / "byokd.db"), ids=CountingIds(), auditor=auditor())
        directory.chmod(0o700)


@contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """Be somebody whom permissions bind, with a directory of one's own: root may write everything."""
    before = os.geteuid()
    with TemporaryDirectory() as name:
        if before == 0:
            os.chown(name, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(before)


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="does not exist") as trouble:
        open_sqlite(settings_for(tmp_path / "nowhere" / "byokd.db"), ids=CountingIds(), auditor=auditor())
    assert "store.url" in trouble.value.hint


def test_a_directory_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        open_sqlite(settings_for(tmp_path), ids=CountingIds(), auditor=auditor())


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "byokd.db").write_bytes(b"not a database, but long enough to be mistaken for one" * 100)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        open_sqlite(settings_for(tmp_path / "byokd.db"), ids=CountingIds(), auditor=auditor())


def test_a_damaged_database(database: Path) -> None:
    content = database.read_bytes()
    database.write_bytes(content[:200] + b"\xff" * (len(content) - 200))
    with pytest.raises(StoreUnavailableError, match=r"damaged"):
        open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())


async def test_a_database_locked_by_another_process(database: Path) -> None:
    settings = settings_for(database).model_copy(update={"busy_timeout": timedelta(milliseconds=20)})
    store = open_sqlite(settings, ids=CountingIds(), auditor=auditor())
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked") as trouble:
        await store.ping()
    assert "busy_timeout" in trouble.value.hint
    assert await store.accounts() == []
    other.execute("ROLLBACK")
    other.close()
    await store.ping()
    await store.close()


async def test_a_missing_table(stage: Stage) -> None:
    await stage.store._runner.write(lambda connection: connection.execute(text("DROP TABLE account_keys")))
    with pytest.raises(StoreUnavailableError, match="schema"):
        await stage.create()


async def test_a_closed_store(stage: Stage) -> None:
    await stage.store.close()
    for call in (stage.store.ping, stage.store.accounts):
        with pytest.raises(StoreUnavailableError, match="closed"):
            await call()
    await stage.store.close()


async def test_a_row_that_was_made_meanwhile_is_told_from_a_broken_one(stage: Stage) -> None:
    """What only a second writer can run into."""
    account = await stage.create()
    with pytest.raises(ExistsError):
        await stage.store._runner.write(_insert, account)
    with pytest.raises(StaleError):
        await stage.store._runner.write(_make, target(), version(1), NewVersion(facts(), probe()), now=START)
    for broken in (replace(account.spec, location=None), replace(account.spec, id=account_id(2), location=None)):
        with pytest.raises(IntegrityError, match=r"(?i)not.null"):
            await stage.store._runner.write(_insert, replace(account, spec=broken))


async def test_a_broken_constraint_is_a_defect_and_shows_no_values(stage: Stage) -> None:
    await stage.create()
    again = stage.store.create_account(
        spec(2),
        placement(wrap=None),
        incarnation="a",
        now=START,
    )
    with pytest.raises(IntegrityError) as defect:
        await again
    shown = "".join(traceback.format_exception(defect.value))
    assert "/subscriptions/" not in shown
    assert "Failing row" not in shown
    assert unavailable(defect.value) is None
