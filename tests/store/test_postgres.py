"""How transactions run on PostgreSQL, and where it differs from SQLite."""

import asyncio
import threading

import psycopg
import pytest
from sqlalchemy import Connection, text

from byokd.adapters.sql import SqlStore
from byokd.adapters.sql.watches import add_version
from byokd.ports import StaleError, StoreUnavailableError
from parts.postgresql import PostgreSQL
from store.builders import Stage, at, denial, spec
from store.postgres import database, opened
from store.test_threads import Gate, _entered

pytestmark = pytest.mark.real("postgresql")


async def test_a_cancelled_caller_leaves_the_writer_usable(postgres_store: SqlStore) -> None:
    stage, gate = Stage(postgres_store), Gate()
    running = asyncio.create_task(postgres_store._runner.write(gate.pass_through), name="running")
    waiting = asyncio.create_task(stage.create(1), name="waiting")
    await _entered(gate)
    running.cancel()
    waiting.cancel()
    done = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(result) for result in done] == [asyncio.CancelledError] * 2
    gate.opened.set()
    await stage.create(2)
    assert [account.spec.id.name for account in await postgres_store.accounts()] == ["account00002"]
    assert postgres_store._runner.writer.pool.checkedout() == 0


async def test_a_reader_sees_one_moment_and_waits_for_no_writer(postgres_store: SqlStore) -> None:
    stage = Stage(postgres_store)
    await stage.create()
    first_seen, written = threading.Event(), threading.Event()

    def look(connection: Connection) -> tuple[object, object]:
        question = text("SELECT location FROM accounts")
        before = connection.scalar(question)
        first_seen.set()
        assert written.wait(10)
        return before, connection.scalar(question)

    looking = asyncio.create_task(postgres_store._runner.read(look), name="looking")
    await asyncio.to_thread(first_seen.wait, 10)
    await postgres_store.update_account(await stage.account(), spec(location="northeurope"), None, now=at(1))
    written.set()
    assert await looking == ("westeurope", "westeurope")
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await postgres_store._runner.read(lambda connection: connection.execute(text("DELETE FROM events")))


async def test_a_statement_without_end_is_ended(postgresql_url: str) -> None:
    async with opened(postgresql_url, statement_timeout="50 ms") as store:
        with pytest.raises(StoreUnavailableError, match="took too long") as trouble:
            await store._runner.write(lambda connection: connection.execute(text("SELECT pg_sleep(60)")))
        assert "statement_timeout" in trouble.value.hint
        await store.ping()


async def test_a_row_that_another_session_holds_is_waited_for_only_so_long(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    async with opened(postgresql_url) as store:
        await Stage(store).create()
        with psycopg.connect(postgresql_url) as other:
            other.execute("SELECT * FROM accounts FOR UPDATE")
            with pytest.raises(StoreUnavailableError, match="locked") as trouble:
                await store.delete_account(spec().id, now=at(1))
            assert "busy_timeout" in trouble.value.hint
        assert await store.delete_account(spec().id, now=at(1))
    del postgresql


async def test_a_commit_is_durable_whatever_is_usual_at_the_server(postgresql: PostgreSQL, postgresql_url: str) -> None:
    postgresql.execute(f"ALTER DATABASE {database(postgresql_url)} SET synchronous_commit = off")
    async with opened(postgresql_url) as store:

        async def ask(name: str) -> object:
            return await store._runner.write(lambda c: c.exec_driver_sql(f"SHOW {name}").scalar())

        assert await ask("synchronous_commit") == "on"
        assert await ask("timezone") == "UTC"
        assert await ask("lock_timeout") == "200ms"
        assert await ask("idle_session_timeout") == "0"


async def test_both_sides_notice_that_the_other_machine_is_gone(postgresql: PostgreSQL, postgresql_url: str) -> None:
    async with opened(postgresql.tcp_url(database(postgresql_url))) as store:
        question = "SELECT setting FROM pg_settings WHERE name LIKE 'tcp_keepalives%%' ORDER BY name"
        told = await store._runner.write(lambda c: list(c.exec_driver_sql(question).scalars()))
        assert told == ["3", "10", "5"]
        connection = store._runner.writer.raw_connection()
        known = connection.driver_connection.info.get_parameters()
        connection.close()
        assert {name: known[name] for name in ("keepalives_idle", "keepalives_interval", "keepalives_count")} == {
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
        }


async def test_a_nul_in_a_message_does_not_stop_a_verdict(stage: Stage) -> None:
    await stage.create()
    await stage.decide(**{**denial(), "message": "refused:\0why"})
    found = (await stage.watch()).current_version.verdict.message
    assert found in {"refused:\0why", "refused:\N{REPLACEMENT CHARACTER}why"}


async def test_a_row_whose_owner_vanished_is_stale(stage: Stage) -> None:
    account = await stage.create()
    watch = await stage.watch()
    await stage.store.delete_account(account.id, now=at(1))
    current = watch.current_version

    def add(connection: Connection) -> None:
        add_version(
            connection,
            watch.id,
            version=current.version,
            created=None,
            probe=current.probe,
            verdict=current.verdict,
            now=at(2),
        )

    with pytest.raises(StaleError, match="gone"):
        await stage.store._runner.write(add)


async def test_accounts_and_keys_sort_and_fold_as_on_sqlite_in_any_language(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    question = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE collation_name = 'C' "
        "AND table_schema = 'public' ORDER BY 1"
    )
    found = postgresql.execute(question, database=database(postgresql_url))
    assert found == [("accounts", "id"), ("chains", "stream"), ("events", "stream"), ("watches", "key_name")]
