"""deploy/mosquitto does what docs/events.md promises of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import byokd
from bus.support import PREFIX, bus, message
from byokd.ports import BusRefusedError, BusSession, BusUnavailableError
from parts.mosquitto import Mosquitto, mosquitto, password_file
from parts.subscriber import subscriber

DEPLOY = Path(byokd.__file__).parent.parent.parent / "deploy" / "mosquitto"

pytestmark = pytest.mark.real("mosquitto")


@asynccontextmanager
async def deployed(directory: Path) -> AsyncIterator[Mosquitto]:
    """Run the configuration as it is, but for its port and its paths."""
    data = directory / "data"
    data.mkdir()
    passwords = await password_file(directory, byokd="b", reader="r")
    text = (DEPLOY / "mosquitto.conf").read_text()
    for there, here in {
        "\nlistener 1883 127.0.0.1\n": "\nlistener {port} 127.0.0.1\n",
        "/etc/mosquitto/byokd.passwords\nacl_file": f"{passwords}\nacl_file",
        "/etc/mosquitto/byokd.acl": str(DEPLOY / "acl"),
        "/var/lib/mosquitto/": f"{data}/",
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
