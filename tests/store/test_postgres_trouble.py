"""Trouble on the way to PostgreSQL and at the server; the same store object goes on afterwards."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from byokd.adapters.sql import open_postgres
from byokd.ports import StoreUnavailableError
from parts.postgresql import NOBODY, PostgreSQL, postgresql_database
from parts.waiting import until
from store.builders import CountingIds, Stage, at, auditor, placement, spec
from store.postgres import database, opened, settings, terminate

pytestmark = pytest.mark.real("postgresql")


async def test_a_restart_of_the_server_between_transactions_is_not_noticed(own_server: PostgreSQL) -> None:
    with postgresql_database(own_server) as url:
        async with opened(url) as store:
            stage = Stage(store)
            await stage.create(1)
            for end in (own_server.stop, own_server.kill):
                end()
                own_server.start()
                assert len(await store.accounts()) == stage.lives
                await stage.create(stage.lives + 1)
            with pytest.raises(StoreUnavailableError, match="another process"):
                open_postgres(settings(url), ids=CountingIds(), auditor=auditor())


async def test_a_server_that_is_down_is_named_until_it_is_back(own_server: PostgreSQL) -> None:
    with postgresql_database(own_server) as url:
        async with opened(url) as store:
            await Stage(store).create()
            own_server.stop()
            for call in (store.ping, store.accounts):
                with pytest.raises(StoreUnavailableError, match="cannot be reached") as trouble:
                    await call()
                assert "store.url" in trouble.value.hint
            own_server.start()
            await store.ping()
            assert len(await store.accounts()) == 1


@pytest.mark.parametrize("way", ["stop", "kill", "terminate"])
async def test_what_is_cut_off_in_the_middle_is_not_there_and_can_be_done_again(
    own_server: PostgreSQL, way: str
) -> None:
    with postgresql_database(own_server) as url:
        async with opened(url) as store:
            stage, statements = Stage(store), 0

            def cut(*_: object) -> None:
                nonlocal statements
                statements += 1
                if statements == 4:
                    {
                        "stop": own_server.restart,
                        "kill": lambda: (own_server.kill(), own_server.start()),
                        "terminate": lambda: terminate(own_server, url),
                    }[way]()

            event.listen(store._runner.writer, "after_cursor_execute", cut)
            with pytest.raises(StoreUnavailableError, match="was lost") as trouble:
                await stage.create()
            assert "connects again" in trouble.value.hint
            assert await store.accounts() == []
            assert await stage.history() == []
            await stage.create()
            assert len(await stage.history()) == 1


async def test_connections_that_were_ended_in_between_cost_nothing(postgresql: PostgreSQL, postgresql_url: str) -> None:
    async with opened(postgresql_url) as store:
        await Stage(store).create(1)
        before = postgresql.backends(database(postgresql_url))
        terminate(postgresql, postgresql_url)
        assert len(await store.accounts()) == 1
        await Stage(store).create(2)
        assert not set(before) & set(postgresql.backends(database(postgresql_url)))


async def test_a_server_that_does_not_answer_is_given_up_and_nothing_is_written_beside_it(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    """As when the network goes: the server may work on."""
    async with opened(postgresql_url, busy_timeout="20 s") as store:
        stage, backends = Stage(store), list[int]()

        def hang(connection: Connection, *_: object) -> None:
            backends.append(connection.connection.driver_connection.info.backend_pid)
            if len(backends) == 4:
                os.kill(backends[0], signal.SIGSTOP)
                connection.connection.driver_connection.limit_seconds = 0.2

        event.listen(store._runner.writer, "before_cursor_execute", hang)
        with pytest.raises(StoreUnavailableError, match="was lost"):
            await asyncio.wait_for(stage.create(1), 10)
        again = asyncio.create_task(stage.create(2), name="again")
        try:
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            await until(lambda: bool(postgresql.execute(waiting)))
        finally:
            os.kill(backends[0], signal.SIGCONT)
        await asyncio.wait_for(again, 20)
        assert [account.spec.id.name for account in await store.accounts()] == ["account00002"]


async def test_a_database_that_was_made_anew_under_a_running_store_is_noticed(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    name = database(postgresql_url)
    async with opened(postgresql_url) as store:
        await Stage(store).create()
        assert len(await store.accounts()) == 1
        postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")
        with pytest.raises(StoreUnavailableError, match="does not exist"):
            await store.ping()
        postgresql.execute(f"CREATE DATABASE {name} TEMPLATE {postgresql.template()} OWNER byokd")
        for call in (store.accounts, store.ping):
            with pytest.raises(StoreUnavailableError, match="deleted or replaced") as trouble:
                await call()
        assert "start again" in trouble.value.hint


async def test_a_read_only_database_is_named_and_works_when_it_is_not(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    name = database(postgresql_url)
    async with opened(postgresql_url) as store:
        postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        terminate(postgresql, postgresql_url)
        with pytest.raises(StoreUnavailableError, match="read-only") as trouble:
            await store.ping()
        assert "primary" in trouble.value.hint
        assert await store.accounts() == []
        postgresql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        terminate(postgresql, postgresql_url)
        await store.ping()


@contextmanager
def small_disk(server: PostgreSQL, megabytes: int) -> Iterator[Path]:
    path = server.directory / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,uid={NOBODY},mode=700", "tmpfs", path], check=False
    )
    if mounted.returncode != 0:
        path.rmdir()
        pytest.skip("a disk of a few megabytes can be had only by root who may mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


async def test_a_full_disk_is_named_and_nothing_is_half_done(own_server: PostgreSQL) -> None:
    with small_disk(own_server, 16) as disk, own_server.database(template=own_server.template()) as name:
        own_server.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        own_server.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
        filler = disk / "filler"
        async with opened(own_server.url(name)) as store:
            stage = Stage(store)
            await stage.create(1, key=None)
            _fill(filler)
            with pytest.raises(StoreUnavailableError, match="full") as trouble:
                await _create_without_end(stage)
            assert "space" in trouble.value.hint
            created = len(await store.accounts())
            contents = await stage.contents()
            assert len(contents["events"]) == len(contents["account_keys"]) == created > 0
            filler.unlink()
            await stage.create(created + 1, key=None)
        own_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        own_server.execute("DROP TABLESPACE small")


async def _create_without_end(stage: Stage) -> None:
    for number in count(2):
        wrap = placement(key=None, wrap=os.urandom(4000))
        await stage.store.create_account(spec(number, key=None), wrap, incarnation=f"life-{number}", now=at(0))


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            return
