"""`byokd doctor` on broken set-ups: each defect is named by exactly one finding, with what to do."""

import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byokd.adapters.sql.claim import Claim
from byokd.domain.identifiers import VaultHost
from byokd.emulator import FaultKind, Network
from byokd.ports.examining import Greeting, VaultGreeter
from byokd.runtime import doctor as module
from byokd.runtime.findings import Grade
from doctor.setup import PASSWORD, VAULT, Good, SetUp, good_set_up, report
from parts.processes import free_port
from store.builders import TENANT

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real("iotcore")]

OTHER_TENANT = "99999999-2222-3333-4444-555555555555"
Break = Callable[[SetUp], Awaitable[object] | None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def good(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Good]:
    async with good_set_up(tmp_path_factory.mktemp("doctor")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def set_up(good: Good, tmp_path: Path) -> AsyncIterator[SetUp]:
    yield SetUp.copy(good, tmp_path)
    await good.emulator.control.clear_faults()
    await good.emulator.control.change_vault(VAULT, tenant=TENANT, network=Network.OPEN)


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def listen(set_up: SetUp, *, mode: int) -> None:
    path = set_up.directory / "api.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.chmod(mode)


def other_key(set_up: SetUp) -> None:
    (set_up.directory / "keys/storage.1.key").write_bytes(os.urandom(32))


def no_identity_endpoint(set_up: SetUp) -> None:
    assert set_up.patch is not None
    set_up.patch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{free_port()}")


def fault(kind: FaultKind) -> Break:
    return lambda set_up: set_up.good.emulator.control.set_fault(VAULT, kind)  # type: ignore[return-value]


def silent_vault(set_up: SetUp) -> Awaitable[object]:
    assert set_up.patch is not None
    set_up.patch.setattr(module, "VAULT_SECONDS", 0.3)
    return set_up.good.emulator.control.set_fault(VAULT, FaultKind.HANG)


def no_tls(set_up: SetUp) -> None:
    set_up.change('connect_timeout = "5 s"', 'connect_timeout = "300 ms"')
    set_up.change("mqtt://", "mqtts://")


def change_vault(**change: Any) -> Break:  # noqa: ANN401 - of a vault
    return lambda set_up: set_up.good.emulator.control.change_vault(VAULT, **change)  # type: ignore[return-value]


def said(**changes: object) -> Break:
    def say(set_up: SetUp) -> None:
        set_up.report = report(**changes)

    return say


def somewhere(set_up: SetUp) -> str:
    return next(iter(set_up.good.emulator.connect_to.values()))


DEFECTS: dict[str, tuple[Break, Grade, str, str]] = {
    "the database is something else": (
        lambda s: s.database.write_bytes(b"x" * 5000) and None,
        Grade.BAD,
        "database",
        "not a database",
    ),
    "the database's directory is missing": (
        lambda s: s.change("byokd.db", "nowhere/byokd.db"),
        Grade.BAD,
        "database",
        "does not exist",
    ),
    "the database is of a newer version": (
        lambda s: sql(s.database, "UPDATE alembic_version SET version_num = '9999'"),
        Grade.BAD,
        "database",
        "schema 9999 of a newer version",
    ),
    "the schema is old and not to be upgraded": (
        lambda s: (s.change("[store]", "[store]\nupgrade_at_start = false"), s.database.unlink())[0],
        Grade.BAD,
        "database",
        "schema none, needed is",
    ),
    "others can read the database": (lambda s: s.database.chmod(0o644), Grade.BAD, "database", "others than its owner"),
    "a service key is missing": (
        lambda s: (s.directory / "keys/audit.1.key").unlink(),
        Grade.BAD,
        "service-keys",
        "there is no audit key",
    ),
    "others can read a service key": (
        lambda s: (s.directory / "keys/audit.1.key").chmod(0o644),
        Grade.BAD,
        "service-keys",
        "others than its owner can read",
    ),
    "a service key is another one": (other_key, Grade.BAD, "service-keys", "not those that sealed the database"),
    "a service key that is needed has another name": (
        lambda s: (s.directory / "keys/storage.1.key").rename(s.directory / "keys/storage.2.key") and None,
        Grade.BAD,
        "service-keys",
        "that are not there: storage.1",
    ),
    "nobody is at the broker's address": (
        lambda s: s.change(f"mqtt://{s.good.broker}", f"mqtt://127.0.0.1:{free_port()}"),
        Grade.BAD,
        "broker",
        "Connection refused",
    ),
    "the broker speaks no TLS": (
        no_tls,
        Grade.BAD,
        "broker",
        "",
    ),
    "accounts use an identity that is not configured": (
        lambda s: s.change("[identities.platform]", "[identities.other]"),
        Grade.BAD,
        "identities",
        "accounts use the identity platform, which is not configured",
    ),
    "the endpoint does not know the identity": (
        lambda s: s.change('kind = "managed-identity"', 'client_id = "00000000-0000-0000-0000-00000000dead"'),
        Grade.BAD,
        "identities",
        "no token for platform from http://127.0.0.1:",
    ),
    "the endpoint is not there": (no_identity_endpoint, Grade.BAD, "identities", "no token for platform from http"),
    "names do not resolve": (
        lambda s: s.change(f'"{somewhere(s)}"', '"nowhere.invalid:443"'),
        Grade.BAD,
        "vaults",
        "contoso.vault.azure.net: NameNotResolved",
    ),
    "nobody is at the vault's address": (
        lambda s: s.change(f'"{somewhere(s)}"', f'"127.0.0.1:{free_port()}"'),
        Grade.BAD,
        "vaults",
        "ConnectionFailed",
    ),
    "the wrong authority is trusted": (
        lambda s: s.change(f'ca_file = "{s.good.emulator.ca_file}"', ""),
        Grade.BAD,
        "vaults",
        "TlsFailed",
    ),
    "a proxy answers": (fault(FaultKind.PROXY_PAGE), Grade.BAD, "vaults", "ForeignAnswer"),
    "the vault is silent": (silent_vault, Grade.BAD, "vaults", "no answer in time: TimedOut"),
    "the vault fails": (fault(FaultKind.UNAVAILABLE), Grade.WARN, "vaults", "VaultError"),
    "the vault throttles": (fault(FaultKind.THROTTLE), Grade.WARN, "vaults", "Throttled"),
    "the vault is of another tenant": (
        change_vault(tenant=OTHER_TENANT),
        Grade.BAD,
        "vaults",
        f"names the tenant {OTHER_TENANT}",
    ),
    "everybody may connect to the socket": (
        lambda s: listen(s, mode=0o666),
        Grade.BAD,
        "socket",
        "everybody may connect",
    ),
    "something else is at the socket's place": (
        lambda s: (s.directory / "api.sock").touch(),
        Grade.BAD,
        "socket",
        "is no socket",
    ),
    "the socket's directory is open to all": (
        lambda s: s.directory.chmod(0o777),
        Grade.BAD,
        "socket",
        "everybody may put something else",
    ),
    "the socket's directory is missing": (
        lambda s: s.change("/api.sock", "/nowhere/api.sock"),
        Grade.WARN,
        "socket",
        "is not there",
    ),
    "the daemon is not ready": (
        said(ready=False, notReadyBecause=["store: the disk of the database is full"]),
        Grade.BAD,
        "daemon",
        "store: the disk of the database is full",
    ),
    "the daemon's bus is in trouble": (
        said(
            ready=False,
            notReadyBecause=["bus: refused"],
            components={"bus": {"ok": False, "message": "the broker refuses 2 topics", "hint": "let it"}},
        ),
        Grade.BAD,
        "broker",
        "the running daemon says: the broker refuses 2 topics",
    ),
    "the daemon's presence is lost": (
        said(presence={"connected": False, "problem": "Not authorized"}),
        Grade.BAD,
        "broker",
        "presence is not connected: Not authorized",
    ),
    "nobody watches over the daemon": (said(watchdogSeconds=None), Grade.WARN, "service-manager", ""),
}


@pytest.mark.parametrize("defect", DEFECTS)
async def test_a_defect_is_named_by_exactly_one_finding(
    set_up: SetUp, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    breaks, grade, what, words = DEFECTS[defect]
    set_up.patch = monkeypatch
    broken = breaks(set_up)
    if broken is not None and not isinstance(broken, str | int | bytes | Path):
        await broken
    (finding,) = await set_up.trouble()
    assert (finding.grade, finding.what) == (grade, what)
    assert words in finding.found
    assert finding.hint


async def test_a_good_set_up_is_good_in_every_respect_and_nothing_secret_is_said(set_up: SetUp) -> None:
    findings = await set_up.findings()
    assert [finding.what for finding in findings if finding.grade is not Grade.OK] == []
    whats = ["database", "service-keys", "socket", "daemon", "broker", "identities"]
    whats += ["brake", "accounts", "vaults", "clock"]
    assert [finding.what for finding in findings] == whats
    said = " ".join(finding.found for finding in findings)
    assert PASSWORD not in said
    for key in (set_up.directory / "keys").iterdir():
        assert key.read_bytes().hex() not in said
    assert set_up.database.stat().st_mtime == (set_up.good.directory / "byokd.db").stat().st_mtime
    assert {path.name for path in set_up.directory.iterdir()} == {
        "byokd.db",
        "byokd.db.lock",
        "byokd.toml",
        "keys",
        "password",
    }


async def test_with_a_daemon_the_broker_is_not_connected_to(set_up: SetUp) -> None:
    set_up.report = report()
    set_up.change(f"mqtt://{set_up.good.broker}", f"mqtt://127.0.0.1:{free_port()}")
    findings = await set_up.findings()
    assert {finding.grade for finding in findings} == {Grade.OK}
    assert "service-manager" in {finding.what for finding in findings}


async def test_before_the_first_start_nothing_is_missing(set_up: SetUp) -> None:
    set_up.database.unlink()
    findings = {finding.what: finding for finding in await set_up.findings()}
    assert {finding.grade for finding in findings.values()} == {Grade.OK}
    assert "still empty" in findings["database"].found
    assert "no vault is watched yet" in findings["vaults"].found
    assert "a token was had" in findings["identities"].found


async def test_whoever_holds_the_database_is_named(set_up: SetUp) -> None:
    claim = Claim(set_up.database)
    claim.take()
    try:
        (finding,) = await set_up.trouble()
        assert (finding.grade, finding.what) == (Grade.WARN, "database")
        assert f"held by process {os.getpid()}, and no daemon answers" in finding.found
        set_up.report = report()
        assert await set_up.trouble() == []
    finally:
        claim.release()


async def test_keys_that_only_the_daemon_may_read_are_no_defect_of_it(set_up: SetUp) -> None:
    set_up.report = report()
    (set_up.directory / "keys/audit.1.key").unlink()
    (finding,) = await set_up.trouble()
    assert (finding.grade, finding.what) == (Grade.WARN, "service-keys")
    assert "the running daemon has proved its keys" in finding.found


@pytest.mark.parametrize(
    ("minutes", "grade"), [(0, Grade.OK), (1, Grade.WARN), (-1, Grade.WARN), (6, Grade.BAD), (-6, Grade.BAD)]
)
async def test_a_clock_that_is_wrong_is_told_by_the_vaults(set_up: SetUp, minutes: int, grade: Grade) -> None:
    class Elsewhen:
        def __init__(self, real: VaultGreeter) -> None:
            self._real = real

        async def greet(self, host: VaultHost) -> Greeting:
            greeting = await self._real.greet(host)
            return replace(greeting, asked_at=greeting.asked_at + timedelta(minutes=minutes))

    findings = {one.what: one for one in await set_up.findings(Elsewhen)}
    assert findings["clock"].grade is grade
    assert {one.grade for what, one in findings.items() if what != "clock"} == {Grade.OK}
    if minutes:
        assert ("ahead of" if minutes > 0 else "behind") in findings["clock"].found


async def test_everything_broken_at_once_is_named_one_by_one(set_up: SetUp) -> None:
    set_up.database.write_bytes(b"x" * 5000)
    (set_up.directory / "keys/system.1.key").unlink()
    set_up.change(f"mqtt://{set_up.good.broker}", f"mqtt://127.0.0.1:{free_port()}")
    set_up.change('kind = "managed-identity"', 'client_id = "00000000-0000-0000-0000-00000000dead"')
    listen(set_up, mode=0o666)
    set_up.report = "the daemon cannot be asked: Permission denied"
    named = [finding.what for finding in await set_up.trouble()]
    assert named == ["database", "service-keys", "socket", "daemon", "broker", "identities"]
