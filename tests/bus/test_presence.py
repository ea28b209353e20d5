"""Whether a daemon is there, as subscribers see it."""

import asyncio
from pathlib import Path

import pytest

from bus.support import PREFIX, bus, running, settings
from byokd.ports import BusUnavailableError
from byokd.runtime.clock import SystemClock, SystemRandomness, UuidIds
from byokd.runtime.presence import Presence
from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import Subscriber, subscriber
from parts.waiting import until

TOPIC = f"{PREFIX}/daemons/one/status"


def presence(address: str) -> Presence:
    return Presence(
        bus(address),
        SystemClock(),
        SystemRandomness(),
        UuidIds(),
        settings(address),
        instance="one",
        version="1.2",
    )


def told(heard: Subscriber) -> list[str]:
    return [one.event["data"]["status"] for one in heard.on(TOPIC)]


async def test_a_daemon_is_online_until_it_says_goodbye(broker: str) -> None:
    async with subscriber(broker) as heard:
        async with running(presence(broker)):
            await heard.hears(TOPIC)
        await heard.hears(TOPIC, times=2)
        assert told(heard) == ["online", "offline"]
        assert len({one.event["id"] for one in heard.heard}) == 2
    async with subscriber(broker) as latecomer:
        await latecomer.hears(TOPIC)
        assert told(latecomer) == ["offline"]


async def test_after_a_takeover_by_its_own_name_a_daemon_ends_as_online(broker: str) -> None:
    async with subscriber(broker) as heard, running(presence(broker)):
        await heard.hears(TOPIC)
        # The broker drops the older connection and sends its Will; the daemon then takes the name back.
        with pytest.raises(BusUnavailableError):
            await take_over(broker)
        await heard.until(lambda: "offline" in told(heard) and told(heard)[-1] == "online")


async def take_over(address: str) -> None:
    async with bus(address).connect("byokd-presence-byokd-v1-one") as session:
        await session.lost()


@pytest.mark.real("mosquitto")
async def test_presence_returns_with_the_broker(killable: Mosquitto) -> None:
    attending = presence(killable.address)
    async with running(attending):
        await until(lambda: attending.status.connected)
        await killable.kill()
        await until(lambda: not attending.status.connected)
        await killable.start()
        async with subscriber(killable.address) as heard:
            await heard.hears(TOPIC)
            assert told(heard) == ["online"]


@pytest.mark.real("mosquitto")
async def test_a_hung_broker_does_not_hold_up_the_goodbye(killable: Mosquitto) -> None:
    attending = presence(killable.address)
    async with subscriber(killable.address) as heard, asyncio.timeout(5):
        async with running(attending):
            await heard.hears(TOPIC)
            killable.hang()
        killable.wake()


@pytest.mark.real("mosquitto")
async def test_what_the_broker_refuses_is_named_and_said_again_without_a_new_connection(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {PREFIX}/#\n")
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        present = presence(broker.address)
        async with subscriber(broker.address) as heard, running(present):
            await until(lambda: present.problem is not None)
            assert present.problem == f"{TOPIC}: Not authorized"
            since = present.status.since
            rules.write_text(f"topic readwrite {PREFIX}/#\n")
            broker.reload()
            await heard.hears(TOPIC)
            await until(lambda: present.problem is None)
            assert (told(heard), present.status.since) == (["online"], since)
