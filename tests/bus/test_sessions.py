"""What a session promises, on either broker."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bus.support import bus, message
from byokd.adapters.mqtt.channel import FIRST_ID, LAST_ID
from byokd.adapters.mqtt.connection import CONTENT_TYPE, Connection
from byokd.ports import BusUnavailableError
from parts.leftovers import open_sockets, other_tasks
from parts.mosquitto import mosquitto
from parts.subscriber import subscriber

CHILD = """
import asyncio, sys
from bus.support import bus, message
async def main():
    async with bus(sys.argv[1]).connect("doomed", will=message("doomed/status", b"offline", retain=True)) as session:
        await session.publish(message("doomed/status", b"online", retain=True))
        print("connected", flush=True)
        await session.lost()
asyncio.run(main())
"""


async def test_a_message_arrives_with_its_content_type(broker: str) -> None:
    async with subscriber(broker) as heard, bus(broker).connect("sender") as session:
        await session.publish(message("some/events", b'{"a":1}'))
        (arrived,) = await heard.hears("some/events")
    assert arrived.payload == b'{"a":1}'
    assert arrived.properties == {"ContentType": CONTENT_TYPE, "PayloadFormatIndicator": 1}
    assert not arrived.retained


@pytest.mark.real("mosquitto")
async def test_the_identifier_of_a_message_in_flight_is_not_given_to_another(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, bus(broker.address).connect("sender") as session:
        assert isinstance(session, Connection)
        async with subscriber(broker.address) as heard:
            broker.hang()
            try:
                async with asyncio.TaskGroup() as sending:
                    for number in range(4):
                        session._last_id = LAST_ID - 1
                        sending.create_task(session.publish(message(f"some/{number}")))
                        await asyncio.sleep(0)
                    broker.wake()
            finally:
                broker.wake()
            for number in range(4):
                await heard.hears(f"some/{number}")
            assert session._last_id == FIRST_ID + 2


@pytest.mark.real("mosquitto")
async def test_events_expire_where_that_is_set_and_states_never_do(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        host, _, port = broker.address.rpartition(":")

        def reader() -> aiomqtt.Client:
            session = Properties(PacketTypes.CONNECT)
            session.SessionExpiryInterval = 60
            version = aiomqtt.ProtocolVersion.V5
            return aiomqtt.Client(
                host, int(port), identifier="reader", protocol=version, clean_start=False, properties=session
            )

        async with reader() as client:
            await client.subscribe("some/#", qos=1)
        async with bus(broker.address, message_expiry=timedelta(seconds=1)).connect("sender") as session:
            await session.publish(message("some/events"))
            await session.publish(message("some/state", retain=True))
            await asyncio.sleep(2.5)  # the broker counts seconds of its own
            await session.publish(message("some/events", b'{"last":1}'))
        came: list[str] = []
        async with reader() as client:
            async for one in client.messages:
                came.append(f"{one.topic} {bytes(one.payload).decode()}")
                if "last" in came[-1]:
                    break
        assert came == ["some/state {}", 'some/events {"last":1}']


async def test_a_retained_message_waits_for_subscribers_and_can_be_cleared(broker: str) -> None:
    async with bus(broker).connect("sender") as session:
        await session.publish(message("some/state", b"{}", retain=True))
        async with subscriber(broker) as heard:
            (arrived,) = await heard.hears("some/state")
            assert arrived.retained
        await session.publish(message("some/state", b"", retain=True))
        await session.publish(message("other/state", b"{}", retain=True))
    async with subscriber(broker) as heard:
        await heard.hears("other/state")
        assert not heard.on("some/state")


async def test_what_is_retained_can_be_read_and_stays(broker: str) -> None:
    async with bus(broker).connect("sender") as session:
        assert await session.retained("some/state") is None
        await session.publish(message("some/state", b"one", retain=True))
        assert [await session.retained("some/state") for _ in range(3)] == [b"one"] * 3
        await session.publish(message("some/state", b"", retain=True))
        assert await session.retained("some/state") is None


async def test_concurrent_messages_keep_their_order(broker: str) -> None:
    async with subscriber(broker) as heard, bus(broker).connect("sender") as session:
        await asyncio.gather(*(session.publish(message("some/events", b"%d" % number)) for number in range(300)))
        arrived = await heard.hears("some/events", times=300)
    assert [int(one.payload) for one in arrived] == list(range(300))


async def test_a_session_leaves_nothing_behind_and_no_will(broker: str) -> None:
    before = open_sockets()
    async with subscriber(broker) as heard:
        own = open_sockets(), await other_tasks()
        async with bus(broker).connect("sender", will=message("sender/status", b"offline")) as session:
            await session.publish(message("some/events"))
        assert (open_sockets(), await other_tasks()) == own
        async with bus(broker).connect("other") as session:
            await session.publish(message("other/events"))
        await heard.hears("other/events")
        assert not heard.on("sender/status")
    assert open_sockets() == before


async def test_a_killed_client_is_reported_by_its_will(broker: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    async with subscriber(broker) as heard:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, broker, stdout=asyncio.subprocess.PIPE, env=environment
        )
        try:
            assert child.stdout is not None
            assert await child.stdout.readline() == b"connected\n"
        finally:
            child.send_signal(signal.SIGKILL)
            await child.communicate()
        statuses = await heard.hears("doomed/status", times=2)
    assert [status.payload for status in statuses] == [b"online", b"offline"]
    assert statuses[1].properties["ContentType"] == CONTENT_TYPE


async def test_a_newer_session_of_the_same_name_ends_the_older_one(broker: str) -> None:
    async def be_older() -> None:
        async with bus(broker).connect("twin") as older:
            begun.set()
            await older.lost()

    begun = asyncio.Event()
    living = asyncio.create_task(be_older())
    await begun.wait()
    async with bus(broker).connect("twin") as newer:
        with pytest.raises(BusUnavailableError, match=r"Session taken over|the connection broke"):
            await living
        await newer.publish(message())
