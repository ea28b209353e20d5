"""deploy/mosquitto does what docs/events.md promises of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import byokd
from bus.support import PREFIX, bus, message, publisher, running
from byokd.adapters.sql import SqlStore
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import AccountId, TenantId
from byokd.ports import BusRefusedError, BusSession, BusUnavailableError
from byokd.records import KeyPlacement
from byokd.runtime.clock import SystemClock, UuidIds
from parts.mosquitto import Mosquitto, mosquitto, password_file
from parts.subscriber import subscriber
from parts.waiting import until
from store.builders import sealed

DEPLOY = Path(byokd.__file__).parent.parent.parent / "deploy" / "mosquitto"

MANY_ACCOUNTS = {
    "# autosave_interval 5\n# autosave_on_changes false\n": "autosave_interval 5\nautosave_on_changes false\n",
    "\nautosave_interval 1\nautosave_on_changes true\n": "\n",
}
SOON = timedelta(seconds=15)
TENANT = TenantId("00000000-0000-0000-0000-000000000002")

pytestmark = pytest.mark.real("mosquitto")


@asynccontextmanager
async def deployed(directory: Path, *, many_accounts: bool = False) -> AsyncIterator[Mosquitto]:
    """Run the configuration as it is, but for its port and its paths; or as it says for many accounts."""
    data = directory / "data"
    data.mkdir()
    passwords = await password_file(directory, byokd="b", reader="r")
    text = (DEPLOY / "mosquitto.conf").read_text()
    for there, here in {
        "\nlistener 1883 127.0.0.1\n": "\nlistener {port} 127.0.0.1\n",
        "/etc/mosquitto/byokd.passwords\nacl_file": f"{passwords}\nacl_file",
        "/etc/mosquitto/byokd.acl": str(DEPLOY / "acl"),
        "/var/lib/mosquitto/": f"{data}/",
        **(MANY_ACCOUNTS if many_accounts else {}),
    }.items():
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    async with mosquitto(directory / "mosquitto", *text.splitlines()) as broker:
        yield broker


def secret(directory: Path, password: str) -> Path:
    path = directory / f"secret-{password}"
    path.write_text(password)
    return path


async def test_only_byokd_writes_and_whoever_logs_in_reads(tmp_path: Path) -> None:
    reader = {"username": "reader", "password_file": secret(tmp_path, "r")}
    async with deployed(tmp_path) as broker:
        async with subscriber(broker.address, username="reader", password="r") as heard:
            async with sender(broker, tmp_path) as session:
                await session.publish(message(f"{PREFIX}/some/events"))
                with pytest.raises(BusRefusedError):
                    await session.publish(message("elsewhere/events"))
            await heard.hears(f"{PREFIX}/some/events")
        async with bus(broker.address, **reader).connect("intruder") as session:
            with pytest.raises(BusRefusedError):
                await session.publish(message(f"{PREFIX}/some/events"))
        with pytest.raises(BusUnavailableError):
            async with bus(broker.address).connect("nobody"):
                pass


async def test_what_was_acknowledged_survives_a_kill_but_for_the_last(tmp_path: Path) -> None:
    topics = [f"{PREFIX}/{number:02}/state" for number in range(20)]
    async with deployed(tmp_path) as broker:
        async with sender(broker, tmp_path) as session:
            for topic in topics:
                await session.publish(message(topic, retain=True))
        await broker.kill()
        await broker.start()
        async with subscriber(broker.address, username="reader", password="r") as heard:
            await heard.until(lambda: {one.topic for one in heard.heard} >= set(topics[:-2]))


async def test_for_many_accounts_what_was_acknowledged_is_saved_within_seconds_and_survives_a_kill(
    tmp_path: Path,
) -> None:
    topics = [f"{PREFIX}/{number:02}/state" for number in range(20)]
    async with deployed(tmp_path, many_accounts=True) as broker:
        async with sender(broker, tmp_path) as session:
            for topic in topics:
                await session.publish(message(topic, retain=True))
        saved = tmp_path / "data" / "mosquitto.db"
        await until(lambda: saved.exists() and topics[-1].encode() in saved.read_bytes())
        await broker.kill()
        await broker.start()
        async with subscriber(broker.address, username="reader", password="r") as heard:
            await heard.until(lambda: {one.topic for one in heard.heard} >= set(topics))


async def test_what_a_kill_took_from_the_broker_before_it_was_saved_is_sent_again(
    tmp_path: Path, store: SqlStore
) -> None:
    accounts = [AccountId(str(TENANT), "group", f"name{number}") for number in range(20)]
    topics = {f"{PREFIX}/{account.topic}/state" for account in accounts}
    placement = KeyPlacement(None, sealed(b"sealed", system_key="1"), None)
    for account in accounts:
        spec = AccountSpec(account, TENANT, "westeurope", None)
        await store.create_account(spec, placement, incarnation=UuidIds().new(), now=SystemClock().now())
    async with deployed(tmp_path, many_accounts=True) as broker:
        sending = publisher(store, broker.address, username="byokd", password_file=secret(tmp_path, "b"))
        async with running(sending):
            assert await sending.drain(within=SOON)
            await broker.kill()
            await broker.start()
            async with subscriber(broker.address, username="reader", password="r") as heard:
                await heard.until(lambda: {one.topic for one in heard.heard} >= topics)


async def test_an_absent_subscriber_with_a_session_gets_a_long_backlog(tmp_path: Path) -> None:
    topics = [f"{PREFIX}/some/events"] * 1500
    async with deployed(tmp_path) as broker:
        async with absentee(broker) as client:
            await client.subscribe(f"{PREFIX}/#", qos=1)
        async with sender(broker, tmp_path) as session:
            await asyncio.gather(*(session.publish(message(topic)) for topic in topics))
        async with absentee(broker) as client, asyncio.timeout(15):
            for _ in topics:
                await anext(client.messages)


def sender(broker: Mosquitto, directory: Path) -> AbstractAsyncContextManager[BusSession]:
    return bus(broker.address, username="byokd", password_file=secret(directory, "b")).connect("sender")


def absentee(broker: Mosquitto) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    return aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier="absentee",
        username="reader",
        password="r",
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
    )
