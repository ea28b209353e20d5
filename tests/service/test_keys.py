"""`byokd keys ...` as an operator uses it: real processes, real files, kills."""

import json
import secrets
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.adapters.sql import accounts, open_sqlite
from byokd.adapters.sql.chain import Recorder
from byokd.demo.processes import byokd_command, child
from byokd.demo.stage import Stage, make_service_keys
from byokd.domain.payload import Payload
from byokd.records import Claim, KeyPlacement
from byokd.runtime.clock import SystemRandomness, UuidIds
from byokd.runtime.layers import Layers
from byokd.settings import StoreSettings
from parts.waiting import until
from service.support import KEY, Ran, byokd, customer, entry, plain_environment
from store.builders import account_id, spec

SETTINGS = """\
[service]
socket = "{directory}/api.sock"
[store]
url = "sqlite:///{directory}/byokd.db"
[service_keys]
directory = "{directory}/keys"
[mqtt]
url = "mqtt://127.0.0.1:1"
[http]
listen = "127.0.0.1:0"
"""
BASE = str(account_id(1)).removesuffix("1")


async def house(directory: Path, *, count: int) -> Path:
    """Settings, keys and a database of accounts under the system key; give the settings."""
    path = directory / "byokd.toml"
    path.write_text(SETTINGS.format(directory=directory))
    make_service_keys(directory / "keys")
    randomness, ids, now = SystemRandomness(), UuidIds(), datetime.now(UTC)
    service_keys = FileServiceKeys(directory / "keys")
    layers = Layers(AesGcmSealer(service_keys, randomness), HkdfAccountCipher(randomness))
    recorder = Recorder(ids, HmacAuditor(service_keys))
    store = open_sqlite(StoreSettings(url=f"sqlite:///{directory}/byokd.db"), ids=ids, auditor=recorder.auditor)

    def fill(connection: Connection) -> None:
        for number in range(1, count + 1):
            payload = Payload.bind(randomness.bytes(32), account=account_id(number), generation=1)
            placement = KeyPlacement(None, layers.wrap(payload, account_id(number), by_customer=None), None)
            accounts.create_account(
                connection,
                spec(number, key=None),
                placement,
                incarnation=ids.new(),
                recorder=recorder,
                now=now,
                claim=Claim.EXCLUSIVE,
            )

    await store._runner.write(fill)
    await store.record_service_key_checks(service_keys.fingerprints())
    await store.close()
    return path


@asynccontextmanager
async def daemon(path: Path) -> AsyncIterator[Any]:
    log = path.parent / "daemon.log"
    begun = log.stat().st_size if log.exists() else 0
    command = byokd_command("run", "--settings", str(path))
    async with child(command, log=log, environment=plain_environment()) as process:
        await until(lambda: b'"started"' in log.read_bytes()[begun:] or process.returncode is not None)
        assert process.returncode is None
        yield process


async def keys(path: Path, *arguments: str) -> Ran:
    environment = plain_environment() | {"BYOKD_SOCKET": str(path.parent / "api.sock"), "BYOKD_SETTINGS": str(path)}
    return await byokd("keys", *arguments, environment=environment)


def add_keys(path: Path, number: int) -> None:
    for kind in ("system", "storage"):
        new = path.parent / f"keys/{kind}.{number}.key"
        new.touch(mode=0o600)
        new.write_bytes(secrets.token_bytes(32))


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path.parent}/byokd.db?mode=ro", uri=True, timeout=5)) as database:
        return database.execute(query).fetchall()


def moved(path: Path) -> int:
    return int(ask(path, "select count(*) from account_keys where storage_key = '2' and system_key = '2'")[0][0])


async def test_a_rotation_that_is_killed_goes_on_by_itself_and_the_old_keys_can_go(tmp_path: Path) -> None:
    count = 3000
    path = await house(tmp_path, count=count)
    add_keys(path, 2)
    async with daemon(path) as process:
        listed = await keys(path, "list")
        assert f"storage.1: {count} sealed" in listed.out
        assert "storage.2: 0 sealed, newest" in listed.out
        ordered = await keys(path, "rotate", "--no-wait", "--json")
        assert ordered.code == 0
        assert json.loads(ordered.out)["rotation"]["endedAt"] is None or moved(path) == count
        process.send_signal(signal.SIGKILL)
        await process.wait()
    # Wherever the first was killed, the second is killed in the middle.
    with closing(sqlite3.connect(tmp_path / "byokd.db")) as database, database:
        database.execute("update rotations set ended_at = null")
    left_behind = moved(path)
    if left_behind < count:
        async with daemon(path) as process:
            await until(lambda: moved(path) > left_behind)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with daemon(path):
        await until(lambda: moved(path) == count)
        await until(lambda: ask(path, "select ended_at from rotations")[0][0] is not None)
        done = await keys(path, "rotate")
        assert done.code == 0, done
        assert "everything is sealed under system.2 and storage.2" in done.out
        assert "no longer needed: system.1, storage.1" in done.out
        assert "Backups" in done.out
    for kind in ("system", "storage"):
        (tmp_path / f"keys/{kind}.1.key").unlink()
    async with daemon(path):
        proved = await keys(path, "verify")
        assert (proved.code, proved.out) == (
            0,
            f"{count} opens, 0 opens up to the vault, 0 cannot be proved now, 0 damaged\n",
        )


async def test_offline_nothing_is_written_made_or_claimed(tmp_path: Path) -> None:
    path = await house(tmp_path, count=3)

    def everything() -> dict[str, tuple[bytes, float]]:
        return {entry.name: (entry.read_bytes(), entry.stat().st_mtime) for entry in tmp_path.glob("byokd.*")}

    before = everything()
    ran = await keys(path, "verify", "--offline", "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "ok": True,
        "proofs": {"opens": 3, "opens-up-to-the-vault": 0, "cannot-be-proved-now": 0, "damaged": 0},
    }
    assert everything() == before
    async with daemon(path):
        beside = await keys(path, "verify", "--offline")
        assert (beside.code, beside.out.split(",")[0]) == (0, "3 opens")


async def test_damage_is_named_online_and_offline_and_a_rotation_leaves_it_alone(tmp_path: Path) -> None:
    path = await house(tmp_path, count=5)
    with closing(sqlite3.connect(tmp_path / "byokd.db")) as database, database:
        sealed = dict(database.execute("select account, sealed from account_keys").fetchall())
        change = "update account_keys set sealed = ? where account = ?"
        first, second, third = (str(account_id(number)) for number in (1, 2, 3))
        database.execute(change, (sealed[first][:-1] + bytes([sealed[first][-1] ^ 1]), first))
        database.execute(change, (sealed[second], third))
        database.execute(change, (sealed[third], second))
    offline = await keys(path, "verify", "--offline")
    assert offline.code == 1
    named = {line.partition(": ")[0] for line in offline.out.splitlines()[:-1]}
    assert named == {first, second, third}
    assert offline.out.splitlines()[-1] == "2 opens, 0 opens up to the vault, 0 cannot be proved now, 3 damaged"
    add_keys(path, 2)
    async with daemon(path):
        online = await keys(path, "verify")
        assert (online.code, sorted(online.out.splitlines())) == (1, sorted(offline.out.splitlines()))
        rotated = await keys(path, "rotate")
        assert rotated.code == 1
        assert rotated.err.count("does not open in its place") == 3
        assert "3 seals did not open and stay as they are" in rotated.err
        assert "no longer needed" not in rotated.out
        assert moved(path) == 2
        socket = plain_environment() | {"BYOKD_SOCKET": str(path.parent / "api.sock")}
        listed = await byokd("accounts", "list", environment=socket)
        assert listed.out.count("Accessible (damaged)") == 3
        shown = await byokd("accounts", "show", first, environment=socket)
        assert "damaged since" in shown.out
        assert "Accessible" in shown.out
        content = ("--kind", "content-key", "--name", "one", "--file", str(path))
        used = await byokd("accounts", "protect", first, *content, environment=socket)
        assert used.err.startswith("error: AccountKeyDamaged: the account key does not open since ")
        for blob in sealed.values():
            assert blob.hex()[-20:] not in (tmp_path / "daemon.log").read_text() + rotated.err + online.out
    for kind in ("system", "storage"):
        (tmp_path / f"keys/{kind}.1.key").rename(tmp_path / f"{kind}.1.key")
    missing = await keys(path, "verify", "--offline", "--json")
    assert missing.code == 1
    last = json.loads(missing.out.splitlines()[-1])
    assert last["proofs"]["cannot-be-proved-now"] == 3
    assert {json.loads(line)["reason"] for line in missing.out.splitlines()[:-1]} == {"ServiceKeyMissing"}
    refused = await byokd("run", "--settings", str(path), environment=plain_environment())
    assert refused.code == 2
    assert "service keys that are not there: storage.1, system.1" in refused.err


async def test_trouble_with_settings_and_usage_exits_2(tmp_path: Path) -> None:
    path = await house(tmp_path, count=1)
    assert (await keys(path, "verify", "--vaults")).code == 2
    shutil.move(tmp_path / "keys/storage.1.key", tmp_path / "storage.1.key")
    without = await keys(path, "verify", "--offline")
    assert without.code == 2
    assert "there is no storage key" in without.err
    assert (
        await byokd("keys", "verify", "--offline", "--settings", "/none", environment=plain_environment())
    ).code == 2
    (tmp_path / "keys/storage.1.key").write_bytes(bytes(32))
    (tmp_path / "keys/storage.1.key").chmod(0o600)
    other = await keys(path, "verify", "--offline")
    assert (other.code, other.out) == (2, "")
    assert "not those that sealed the database: storage.1" in other.err
    (tmp_path / "byokd.db").unlink()
    shutil.move(tmp_path / "storage.1.key", tmp_path / "keys/storage.1.key")
    gone = await keys(path, "verify", "--offline")
    assert gone.code == 1
    assert "there is no database" in gone.err
    assert not (tmp_path / "byokd.db").exists()


async def test_the_vaults_are_asked_by_the_daemon_and_offline_on_request(stage: Stage) -> None:
    tenant = await customer(stage)
    accounts_file = stage.directory / "two.yaml"
    accounts_file.write_text(
        "accounts:\n" + entry(tenant, name="contoso", key=KEY) + entry(tenant, name="fabrikam", key=KEY)
    )
    environment = stage.environment | {"BYOKD_SETTINGS": str(stage.directory / "byokd.toml")}

    async def run(*arguments: str) -> Ran:
        return await byokd(*arguments, environment=environment)

    assert (await run("accounts", "apply", "-f", str(accounts_file))).code == 0
    assert (await run("keys", "verify")).out.startswith("2 opens, 0 opens up to the vault")
    doorstep = await run("keys", "verify", "--offline")
    assert (doorstep.code, doorstep.out.startswith("0 opens, 2 opens up to the vault")) == (0, True)
    inside = await run("keys", "verify", "--offline", "--vaults")
    assert inside.out.startswith("2 opens, 0 opens up to the vault"), inside
    await stage.control.revoke("customer-keys")
    for arguments in ((), ("--offline", "--vaults")):
        refused = await run("keys", "verify", *arguments)
        assert refused.code == 1
        assert refused.out.count("cannot be proved now: AccessDenied") == 2
