"""The store in a file: its threads, its connections and what it leaves on the disk."""

import asyncio
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from byokd.adapters.sql import SqlStore, open_inline, open_sqlite
from byokd.domain.identifiers import AccountId
from store.builders import CountingIds, Stage, account_id, at, auditor, commit_rewrap, sealed
from store.conftest import settings_for

SECRET = b"the previous wrap, as sealed: "


class Gate:
    """A transaction that goes on when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def pass_through(self, connection: Connection) -> None:
        connection.execute(text("SELECT count(*) FROM events"))
        self.entered.set()
        self.opened.wait(10)


async def _entered(gate: Gate) -> None:
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.wait, 10)


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("store-")}


async def test_a_cancelled_caller_leaves_the_writer_usable(file_store: SqlStore) -> None:
    stage, gate = Stage(file_store), Gate()
    running = asyncio.create_task(file_store._runner.write(gate.pass_through), name="running")
    waiting = asyncio.create_task(stage.create(1), name="waiting")
    await _entered(gate)
    running.cancel()
    waiting.cancel()
    done = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(result) for result in done] == [asyncio.CancelledError] * 2
    gate.opened.set()
    await stage.create(2)
    assert await file_store.account(account_id(1)) is None
    assert file_store._runner.writer.pool.checkedout() == 0


async def test_a_cancelled_transaction_that_already_runs_completes(file_store: SqlStore) -> None:
    gate = Gate()

    def write(connection: Connection) -> None:
        gate.pass_through(connection)
        connection.execute(text("INSERT INTO replicas (name, claim) VALUES ('late', 1)"))

    running = asyncio.create_task(file_store._runner.write(write), name="running")
    await _entered(gate)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.opened.set()
    await file_store.ping()
    assert await Stage(file_store).rows(text("SELECT name FROM replicas")) == [("late",)]


async def test_readers_do_not_wait_for_the_writer_and_see_no_half_done_work(file_store: SqlStore) -> None:
    stage, gate = Stage(file_store), Gate()
    await stage.create()

    def write(connection: Connection) -> None:
        connection.execute(text("UPDATE accounts SET location = 'elsewhere'"))
        gate.pass_through(connection)

    running = asyncio.create_task(file_store._runner.write(write), name="running")
    await _entered(gate)
    assert (await stage.account()).spec.location == "westeurope"
    gate.opened.set()
    await running
    assert (await stage.account()).spec.location == "elsewhere"


async def test_writers_run_one_after_the_other_in_the_order_asked(file_store: SqlStore) -> None:
    stage = Stage(file_store)
    async with asyncio.TaskGroup() as tasks:
        for number in range(1, 21):
            tasks.create_task(stage.create(number), name=f"create-{number}")
    rows = await file_store.unpublished(after=0, limit=100)
    assert [row.stream for row in rows] == [account_id(number).topic for number in range(1, 21)]


async def test_a_read_cannot_write(file_store: SqlStore) -> None:
    with pytest.raises(Exception, match="read-only"):
        await file_store._runner.read(lambda connection: connection.execute(text("DELETE FROM events")))


async def test_closing_ends_the_threads_and_removes_the_log(database: Path) -> None:
    before = _threads()
    store = open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    gate = Gate()
    running = asyncio.create_task(store._runner.read(gate.pass_through), name="running")
    await Stage(store).create()
    gate.opened.set()
    await asyncio.gather(store.close(), running)
    assert _threads() <= before
    assert {path.name for path in database.parent.iterdir()} == {database.name, f"{database.name}.lock"}


async def test_the_inline_store_starts_no_threads() -> None:
    before = threading.active_count()
    stage = Stage(open_inline(CountingIds(), auditor()))
    await stage.create()
    assert await stage.store.accounts()
    assert threading.active_count() == before
    await stage.store.close()


def _modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


async def test_the_file_is_closed_to_others(tmp_path: Path) -> None:
    store = open_sqlite(settings_for(tmp_path / "new.db"), ids=CountingIds(), auditor=auditor())
    await Stage(store).create()
    assert _modes(tmp_path) == dict.fromkeys(("new.db", "new.db-wal", "new.db-shm", "new.db.lock"), 0o600)
    await store.close()


async def _with_an_old_wrap(store: SqlStore) -> AccountId:
    stage = Stage(store)
    account = await stage.create()
    await stage.adopt(2)
    await commit_rewrap(store, await stage.work(), sealed(SECRET + b"2"), now=at(4))
    await stage.adopt(3)
    await commit_rewrap(store, await stage.work(), sealed(b"harmless"), now=at(5))
    return account.id


def _on_disk(database: Path) -> bool:
    return any(SECRET in path.read_bytes() for path in database.parent.iterdir())


@pytest.mark.parametrize("way", ["settle", "delete"])
async def test_an_erased_wrap_is_gone_from_the_disk(file_store: SqlStore, database: Path, way: str) -> None:
    account = await _with_an_old_wrap(file_store)
    assert _on_disk(database)
    if way == "settle":
        assert (await file_store.settle(before=at(6), now=at(6))).erased == 2
    else:
        assert await file_store.delete_account(account, now=at(6))
    assert not _on_disk(database)


async def test_an_erasure_does_not_wait_for_a_backup(database: Path) -> None:
    settings = settings_for(database).model_copy(update={"busy_timeout": timedelta(seconds=30)})
    store = open_sqlite(settings, ids=CountingIds(), auditor=auditor())
    await _with_an_old_wrap(store)
    backup = sqlite3.connect(database, isolation_level=None)
    backup.execute("BEGIN")
    backup.execute("SELECT count(*) FROM events").fetchone()
    async with asyncio.timeout(10):
        assert (await store.settle(before=at(6), now=at(6))).erased == 2
    backup.close()
    patience = await store._runner.write(lambda c: c.exec_driver_sql("PRAGMA busy_timeout").scalar())
    assert patience == 30_000
    await store.close()
    assert not _on_disk(database)


async def test_the_writer_is_durable_and_strict(file_store: SqlStore) -> None:
    async def ask(pragma: str) -> object:
        return await file_store._runner.write(lambda c: c.exec_driver_sql(f"PRAGMA {pragma}").scalar())

    assert await ask("journal_mode") == "wal"
    assert await ask("synchronous") == 2
    assert await ask("foreign_keys") == 1
    assert await ask("secure_delete") == 1
    assert await ask("busy_timeout") == 5000
