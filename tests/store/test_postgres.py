"""The store on PostgreSQL: trouble on the way and at the server, and that the same store object goes on afterwards."""

import asyncio
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, event, text

from byokd.adapters.sql import SqlStore, open_postgres, schema, upgrade_database
from byokd.adapters.sql.postgres import conninfo
from byokd.adapters.sql.store import database_status, store_for
from byokd.ports import StaleError, StoreUnavailableError
from byokd.runtime.clock import UuidIds
from byokd.settings import StoreSettings
from parts.certificates import ServerFiles, server_files
from parts.postgresql import NOBODY, POLL_SECONDS, PostgreSQL, postgresql_database, postgresql_server
from store.builders import CountingIds, Stage, at, denial, placement, spec
from store.test_threads import Gate, _entered

SSL_REQUEST = bytes.fromhex("0000000804d2162f")

pytestmark = pytest.mark.real("postgresql")


def settings(url: str, **more: object) -> StoreSettings:
    return StoreSettings.model_validate({"url": url, "busy_timeout": "200 ms", **more})


@asynccontextmanager
async def opened(url: str, **more: object) -> AsyncIterator[SqlStore]:
    store = open_postgres(settings(url, **more), ids=UuidIds())
    try:
        yield store
    finally:
        await store.close()


def database(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0] if "host=" not in url else url.split("/")[3].partition("?")[0]


@pytest.fixture
def own_server() -> Iterator[PostgreSQL]:
    """A server for those who stop it."""
    with postgresql_server() as server:
        yield server


def _terminate(server: PostgreSQL, url: str) -> None:
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database(url)}'")


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
                open_postgres(settings(url), ids=CountingIds())


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
                        "terminate": lambda: _terminate(own_server, url),
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
        _terminate(postgresql, postgresql_url)
        assert len(await store.accounts()) == 1
        await Stage(store).create(2)
        assert not set(before) & set(postgresql.backends(database(postgresql_url)))


async def test_a_second_daemon_is_refused_until_the_first_is_gone(postgresql_url: str) -> None:
    second = store_for(settings(postgresql_url), ids=CountingIds())
    async with opened(postgresql_url):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="another process uses the database") as refused:
                await second.prepare()
        assert "one daemon per database" in refused.value.hint
        with pytest.raises(StoreUnavailableError, match="not open"):
            await second.ping()
        with pytest.raises(StoreUnavailableError, match="another process"):
            upgrade_database(settings(postgresql_url))
        assert database_status(settings(postgresql_url)).current == schema.HEAD
    await second.prepare()
    await Stage(second).create()
    await second.close()


async def test_who_lost_the_claim_writes_nothing_more(postgresql: PostgreSQL, postgresql_url: str) -> None:
    async with opened(postgresql_url) as first:
        await Stage(first).create(1)
        _terminate(postgresql, postgresql_url)
        async with opened(postgresql_url) as second:
            with pytest.raises(StoreUnavailableError, match="another process uses the database"):
                await Stage(first).create(2)
            assert len(await first.accounts()) == 1
            await Stage(second).create(3)
        await Stage(first).create(2)
        assert len(await first.accounts()) == 3


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
            async with asyncio.timeout(10):
                while not postgresql.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                    await asyncio.sleep(POLL_SECONDS)
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
        postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")
        with pytest.raises(StoreUnavailableError, match="does not exist"):
            await store.ping()
        postgresql.execute(f"CREATE DATABASE {name} TEMPLATE {postgresql.template()} OWNER byokd")
        with pytest.raises(StoreUnavailableError, match="deleted or replaced") as trouble:
            await store.ping()
        assert "start again" in trouble.value.hint


async def test_a_read_only_database_is_named_and_works_when_it_is_not(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    name = database(postgresql_url)
    async with opened(postgresql_url) as store:
        postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        _terminate(postgresql, postgresql_url)
        with pytest.raises(StoreUnavailableError, match="read-only") as trouble:
            await store.ping()
        assert "primary" in trouble.value.hint
        assert await store.accounts() == []
        postgresql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        _terminate(postgresql, postgresql_url)
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
            with pytest.raises(StoreUnavailableError, match="full") as trouble:
                for number in range(1, 2000):
                    if number == 3:
                        _fill(filler)
                    await store.create_account(
                        spec(number, key=None),
                        placement(key=None, sealed=os.urandom(4000)),
                        incarnation=f"life-{number}",
                        now=at(0),
                    )
            assert "space" in trouble.value.hint
            created = len(await store.accounts())
            contents = await stage.contents()
            assert len(contents["events"]) == len(contents["account_keys"]) == created > 0
            filler.unlink()
            await stage.create(created + 1, key=None)
        own_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        own_server.execute("DROP TABLESPACE small")


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            return


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"url": "postgresql://nobody@{address}/{name}"}, "refuses the user or its password"),
        ({"url": "postgresql://byokd@{address}/none"}, "does not exist"),
        ({"url": "postgresql://byokd@127.0.0.1:1/{name}"}, "cannot be reached"),
        ({"url": "postgresql://byokd@/{name}?host=/nowhere"}, "cannot be reached"),
        ({"url": "postgresql://byokd@{address}/{name}", "tls": "verify-full"}, "TLS failed"),
    ],
)
def test_what_keeps_a_store_from_opening_is_named(
    postgresql: PostgreSQL, postgresql_url: str, change: dict[str, str], told: str
) -> None:
    values = {"address": f"127.0.0.1:{postgresql.port}", "name": database(postgresql_url)}
    wrong = settings(change["url"].format(**values), tls=change.get("tls", "auto"))
    for use in (lambda: open_postgres(wrong, ids=CountingIds()), lambda: database_status(wrong)):
        with pytest.raises(StoreUnavailableError, match=told) as trouble:
            use()
        assert trouble.value.hint


async def test_the_password_is_read_from_its_file_and_told_to_nobody(
    postgresql: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    url = postgresql.tcp_url(database(postgresql_url), user="locked")
    password = tmp_path / "password"
    for wrong in ("", "close sesame"):
        password.write_text(wrong)
        with pytest.raises(StoreUnavailableError, match="refuses the user or its password") as refused:
            open_postgres(settings(url, password_file=str(password)), ids=CountingIds())
        assert "sesame" not in f"{refused.value} {refused.value.hint}"
    password.write_text("open sesame\n")
    postgresql.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO locked", database=database(postgresql_url))
    async with opened(url, password_file=str(password)) as store:
        await store.ping()
        shown = repr(store._runner.writer) + repr(store._runner.writer.url)
        assert "sesame" not in shown
    password.unlink()
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        open_postgres(settings(url, password_file=str(password)), ids=CountingIds())


async def test_a_newer_schema_is_refused(postgresql: PostgreSQL, postgresql_url: str) -> None:
    postgresql.execute("UPDATE alembic_version SET version_num = '9999'", database=database(postgresql_url))
    for use in (lambda: open_postgres(settings(postgresql_url), ids=CountingIds()), _upgrade(postgresql_url)):
        with pytest.raises(StoreUnavailableError, match="9999"):
            use()
    assert database_status(settings(postgresql_url)).ahead


def _upgrade(url: str):  # noqa: ANN202 - a callable
    return lambda: upgrade_database(settings(url))


def test_a_database_in_another_encoding_is_refused(postgresql: PostgreSQL) -> None:
    postgresql.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER byokd")
    try:
        with pytest.raises(StoreUnavailableError, match="encoding LATIN1") as refused:
            open_postgres(settings(postgresql.url("latin")), ids=CountingIds())
        assert "UTF8" in refused.value.hint
    finally:
        postgresql.execute("DROP DATABASE latin")


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
    import psycopg

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


async def test_a_nul_in_a_message_does_not_stop_a_verdict(stage: Stage) -> None:
    await stage.create()
    await stage.decide(**{**denial(), "message": "refused:\0why"})
    found = (await stage.watch()).current_version.verdict.message
    assert found in {"refused:\0why", "refused:\N{REPLACEMENT CHARACTER}why"}


async def test_a_row_whose_owner_vanished_is_stale(stage: Stage) -> None:
    account = await stage.create()
    watch = await stage.watch()
    await stage.store.delete_account(account.id, now=at(1))
    from byokd.adapters.sql.watches import add_version

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
    assert found == [("accounts", "id"), ("watches", "key_name")]


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def tls_in_front(server: PostgreSQL, files: ServerFiles) -> AsyncIterator[int]:
    """Speak TLS in front of the server, as PostgreSQL does: the one in the wheel is built without. Gives the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == SSL_REQUEST
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            writer.close()
            return
        behind, ahead = await asyncio.open_unix_connection(f"{server.directory}/.s.PGSQL.{server.port}")
        await asyncio.gather(_relay(reader, ahead), _relay(behind, writer))

    front = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with front:
        yield front.sockets[0].getsockname()[1]


async def test_tls_checks_the_authority_and_the_name(
    postgresql: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    files, name = server_files(tmp_path / "tls"), database(postgresql_url)
    stranger = server_files(tmp_path / "stranger").authority
    async with tls_in_front(postgresql, files) as port:

        async def prepared(host: str, authority: Path) -> None:
            told = settings(f"postgresql://byokd@{host}:{port}/{name}", tls="verify-full", ca_file=str(authority))
            store = store_for(told, ids=CountingIds())
            try:
                await store.prepare()
                await Stage(store).create()
            finally:
                await store.close()

        await prepared("127.0.0.1", files.authority)
        for host, authority in (("127.0.0.1", stranger), ("localhost", files.authority)):
            with pytest.raises(StoreUnavailableError, match="TLS failed") as refused:
                await prepared(host, authority)
            assert "store.ca_file" in refused.value.hint


def told(url: str, **more: object) -> dict[str, object]:
    return conninfo_to_dict(conninfo(settings(url, **more)))


@pytest.mark.parametrize("host", ["db.example", "10.0.0.1", "[2001:db8::1]", "127.0.0.1,db.example"])
def test_tls_is_verified_wherever_somebody_may_be_in_between(host: str, tmp_path: Path) -> None:
    assert told(f"postgresql://byokd@{host}/byokd")["sslmode"] == "verify-full"
    assert told(f"postgresql://byokd@{host}/byokd", ca_file=str(tmp_path))["sslrootcert"] == str(tmp_path)
    assert told(f"postgresql://byokd@{host}/byokd", tls="off")["sslmode"] == "disable"


@pytest.mark.parametrize(
    "where", ["127.0.0.1/byokd", "localhost:1/byokd", "[::1]/byokd", "/byokd?host=/run/postgresql"]
)
def test_tls_is_not_asked_for_on_the_same_machine_unless_told(where: str) -> None:
    assert told(f"postgresql://byokd@{where}")["sslmode"] == "disable"
    assert told(f"postgresql://byokd@{where}", tls="verify-full")["sslmode"] == "verify-full"


def test_of_several_hosts_the_one_that_can_be_written_is_taken() -> None:
    assert told("postgresql://byokd@one,two:5433/byokd")["target_session_attrs"] == "read-write"
