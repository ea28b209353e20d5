"""What lets a store on PostgreSQL open, and what keeps it from that: claim, password, TLS, schema, encoding."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from byokd.adapters.sql import open_postgres, schema, upgrade_database
from byokd.adapters.sql.opening import database_status, store_for
from byokd.adapters.sql.postgres import conninfo
from byokd.ports import StoreUnavailableError
from parts.certificates import server_files
from parts.postgresql import PostgreSQL
from store.builders import CountingIds, Stage, auditor
from store.postgres import database, opened, settings, terminate, tls_in_front

pytestmark = pytest.mark.real("postgresql")


async def test_a_second_daemon_is_refused_until_the_first_is_gone(postgresql_url: str) -> None:
    second = store_for(settings(postgresql_url), ids=CountingIds(), auditor=auditor())
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
        terminate(postgresql, postgresql_url)
        async with opened(postgresql_url) as second:
            with pytest.raises(StoreUnavailableError, match="another process uses the database"):
                await Stage(first).create(2)
            assert len(await first.accounts()) == 1
            await Stage(second).create(3)
        await Stage(first).create(2)
        assert len(await first.accounts()) == 3


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
    for use in (lambda: open_postgres(wrong, ids=CountingIds(), auditor=auditor()), lambda: database_status(wrong)):
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
            open_postgres(settings(url, password_file=str(password)), ids=CountingIds(), auditor=auditor())
        assert "sesame" not in f"{refused.value} {refused.value.hint}"
    password.write_text("open sesame\n")
    postgresql.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO locked", database=database(postgresql_url))
    async with opened(url, password_file=str(password)) as store:
        await store.ping()
        shown = repr(store._runner.writer) + repr(store._runner.writer.url)
        assert "sesame" not in shown
    password.unlink()
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        open_postgres(settings(url, password_file=str(password)), ids=CountingIds(), auditor=auditor())


async def test_a_newer_schema_is_refused(postgresql: PostgreSQL, postgresql_url: str) -> None:
    postgresql.execute("UPDATE alembic_version SET version_num = '9999'", database=database(postgresql_url))
    for use in (
        lambda: open_postgres(settings(postgresql_url), ids=CountingIds(), auditor=auditor()),
        lambda: upgrade_database(settings(postgresql_url)),
    ):
        with pytest.raises(StoreUnavailableError, match="9999"):
            use()
    assert database_status(settings(postgresql_url)).ahead


def test_a_database_in_another_encoding_is_refused(postgresql: PostgreSQL) -> None:
    postgresql.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER byokd")
    try:
        with pytest.raises(StoreUnavailableError, match="encoding LATIN1") as refused:
            open_postgres(settings(postgresql.url("latin")), ids=CountingIds(), auditor=auditor())
        assert "UTF8" in refused.value.hint
    finally:
        postgresql.execute("DROP DATABASE latin")


async def test_tls_checks_the_authority_and_the_name(
    postgresql: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    files, name = server_files(tmp_path / "tls"), database(postgresql_url)
    stranger = server_files(tmp_path / "stranger").authority
    async with tls_in_front(postgresql, files) as port:

        async def prepared(host: str, authority: Path) -> None:
            told = settings(f"postgresql://byokd@{host}:{port}/{name}", tls="verify-full", ca_file=str(authority))
            store = store_for(told, ids=CountingIds(), auditor=auditor())
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
