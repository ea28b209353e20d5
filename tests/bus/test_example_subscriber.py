"""The example of docs/events.md keeps a correct table through deaths of itself and of the broker."""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bus.support import PREFIX, bus, commit, message, publisher, row, running
from byokd.adapters.sql import SqlStore
from byokd.records import OutboxRow, Retained
from byokd.runtime.envelope import trial_message
from parts.certificates import server_files
from parts.mosquitto import mosquitto, password_file
from parts.waiting import until

EXAMPLE = Path(__file__).parents[2] / "docs/examples/subscriber.py"
ACCOUNTS = 20


@asynccontextmanager
async def example(address: str, table: Path, **login: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    host, _, port = address.rpartition(":")
    given = {f"MQTT_{name.upper()}": str(value) for name, value in login.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLE, host, port, table, env=os.environ | given, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


def change(account: int, sequence: int, state: str, *, incarnation: str = "one", deleted: bool = False) -> OutboxRow:
    made = row(
        f"accounts/s/g/{account}",
        retained=Retained.CLEAR if deleted else Retained.SET,
        account=f"/{account}",
        incarnation=incarnation,
        sequence=sequence,
        state=state,
        reason=None,
    )
    return OutboxRow(made.number, made.id, made.stream, _type(deleted=deleted), made.time, made.document, made.retained)


def _type(*, deleted: bool) -> str:
    return "byokd.account.deleted" if deleted else "byokd.account.updated"


def shown(table: Path) -> dict[str, tuple[str, int]]:
    if not table.exists():
        return {}
    connection = sqlite3.connect(table)
    try:
        rows = connection.execute("SELECT account, state, sequence FROM accounts").fetchall()
    except sqlite3.OperationalError:
        return {}
    finally:
        connection.close()
    return {account: (state, sequence) for account, state, sequence in rows}


@pytest.mark.real("mosquitto")
async def test_the_table_is_right_after_deaths_of_the_subscriber_and_the_broker(
    tmp_path: Path, store: SqlStore
) -> None:
    place = tmp_path / "mosquitto"
    place.mkdir()
    place.chmod(0o777)
    kept = ("persistence true", f"persistence_location {place}/", "autosave_interval 1", "autosave_on_changes true")
    table, sequence = tmp_path / "accounts.db", 0

    async def story(*, last: bool = False) -> dict[str, tuple[str, int]]:
        nonlocal sequence
        for _ in range(5):
            sequence += 1
            state = ("Accessible", "Inaccessible")[sequence % 2]
            await commit(store, *(change(account, sequence, state) for account in range(ACCOUNTS)))
        if last:
            sequence += 1
            await commit(store, change(0, sequence, "Accessible", deleted=True))
        sending.notify()
        expected = {f"/{account}": (state, sequence) for account in range(ACCOUNTS)}
        if last:
            expected |= {f"/{account}": (state, sequence - 1) for account in range(1, ACCOUNTS)}
            expected["/0"] = ("Deleted", sequence)
        return expected

    async with mosquitto(place, "max_queued_messages 100000", *kept) as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            async with example(broker.address, table):
                expected = await story()
                await until(lambda: shown(table) == expected)
            await story()  # while nobody listens
            async with example(broker.address, table) as process:
                process.kill()
            async with example(broker.address, table):
                expected = await story()
                await broker.kill()
                await until(lambda: not sending.status.link.connected)
                expected = await story()
                await broker.start()
                await until(lambda: shown(table) == expected)
                expected = await story(last=True)
                await until(lambda: shown(table) == expected)


@pytest.mark.real("mosquitto")
async def test_a_death_in_the_middle_of_many_deletions_loses_none(tmp_path: Path, store: SqlStore) -> None:
    table, many = tmp_path / "accounts.db", 400

    def deleted() -> int:
        return sum(state == "Deleted" for state, _ in shown(table).values())

    async with mosquitto(tmp_path / "mosquitto", "max_queued_messages 100000") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            async with example(broker.address, table):
                await commit(store, *(change(account, 1, "Accessible") for account in range(many)))
                sending.notify()
                await until(lambda: len(shown(table)) == many)
                await commit(store, *(change(account, 2, "Accessible", deleted=True) for account in range(many)))
                sending.notify()
                await until(lambda: deleted() > 0)
            noted = deleted()
            async with example(broker.address, table):
                await until(lambda: deleted() == many)
    assert noted < many


@pytest.mark.real("mosquitto")
async def test_what_is_no_event_of_an_account_is_passed_over(tmp_path: Path) -> None:
    table = tmp_path / "accounts.db"
    data = {"account": "/1", "incarnation": "one", "sequence": 1, "state": "Accessible", "reason": None}
    event = {"type": "byokd.account.created", "time": "2026-03-01T12:00:00Z", "data": data}
    state = message(f"{PREFIX}/accounts/s/g/1/state", json.dumps(event).encode(), retain=True)
    trial = trial_message(f"{PREFIX}/accounts/s/g/0/state", prefix=PREFIX, name="doctor")
    async with mosquitto(tmp_path / "mosquitto") as broker, bus(broker.address).connect("sender") as session:
        # Retained, so that it comes however late the example is.
        await session.publish(replace(trial, retain=True))
        async with example(broker.address, table):
            await until(lambda: shown(table) == {})
            await session.publish(state)
            await until(lambda: shown(table) == {"/1": ("Accessible", 1)})


@pytest.mark.real("mosquitto")
async def test_it_logs_in_over_tls_and_says_why_it_does_not_follow(tmp_path: Path) -> None:
    files = server_files(tmp_path / "tls")
    passwords = await password_file(tmp_path, byokd="b", reader="r")
    lines = ("listener {port} 127.0.0.1", f"certfile {files.certificate}", f"keyfile {files.key}")
    wants = ("allow_anonymous false", f"password_file {passwords}", f"cafile {files.authority}")
    table = tmp_path / "accounts.db"
    async with mosquitto(tmp_path / "mosquitto", *lines, *wants) as broker:
        login = {"username": "reader", "ca": files.authority}
        async with example(broker.address, table, password="wrong", **login) as refused, asyncio.timeout(20):
            assert refused.stderr is not None
            assert b"trying again" in await refused.stderr.readline()
        async with example(broker.address, table, password="r", **login):
            byokd = {"username": "byokd", "password_file": _secret(tmp_path, "b"), "ca_file": files.authority}
            async with bus(broker.address, scheme="mqtts", **byokd).connect("sender") as session:
                data = {"account": "/1", "incarnation": "one", "sequence": 1, "state": "Accessible", "reason": None}
                event = {"type": "byokd.account.created", "time": "2026-03-01T12:00:00Z", "data": data}
                topic = f"{PREFIX}/accounts/s/g/1/state"
                await session.publish(message(topic, json.dumps(event).encode(), retain=True))
            await until(lambda: shown(table) == {"/1": ("Accessible", 1)})


def _secret(directory: Path, password: str) -> Path:
    path = directory / "secret"
    path.write_text(password)
    return path
