"""Accounts in a store of their own, what a broker retains of them, and a broker that keeps it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from bus.support import PREFIX, bus, message, publisher, running
from byokd.adapters.sql import SqlStore
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import AccountId, TenantId
from byokd.records import KeyPlacement
from byokd.runtime.clock import SystemClock, UuidIds
from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import Subscriber, subscriber
from store.builders import sealed

SOON = timedelta(seconds=15)
MARKER = f"{PREFIX}/service/marker"
END = f"{PREFIX}/test/end"
CLOCK = SystemClock()


def account_id(name: str) -> AccountId:
    return AccountId("00000000-0000-0000-0000-000000000001", "group", f"name{name}")


def spec(name: str, location: str = "westeurope") -> AccountSpec:
    return AccountSpec(account_id(name), TenantId("00000000-0000-0000-0000-000000000002"), location, None)


async def create(store: SqlStore, *names: str) -> None:
    for name in names:
        placement = KeyPlacement(None, sealed(b"sealed", system_key="1"), None)
        await store.create_account(spec(name), placement, incarnation=UuidIds().new(), now=CLOCK.now())


async def change(store: SqlStore, name: str, location: str) -> None:
    account = await store.account(account_id(name))
    assert account is not None
    await store.update_account(account, spec(name, location), None, now=CLOCK.now())


async def delete(store: SqlStore, *names: str) -> None:
    for name in names:
        assert await store.delete_account(account_id(name), now=CLOCK.now())


async def retained_states(address: str) -> dict[str, tuple[str, int]]:
    """What a newcomer finds: incarnation and sequence by topic. What is retained comes before anything newer."""
    async with subscriber(address) as newcomer:
        async with bus(address).connect("teller") as session:
            await session.publish(message(END))
        await newcomer.hears(END)
        return {
            one.topic: (one.event["data"]["incarnation"], one.event["data"]["sequence"])
            for one in newcomer.heard
            if one.retained and one.topic.endswith("/state")
        }


async def committed_states(store: SqlStore) -> dict[str, tuple[str, int]]:
    return {f"{PREFIX}/{one.id.topic}/state": (one.incarnation, one.sequence) for one in await store.accounts()}


async def converged(address: str, store: SqlStore) -> bool:
    return await retained_states(address) == await committed_states(store)


def told(heard: Subscriber) -> list[tuple[str, int]]:
    """Name and sequence of the events that were heard, in their order."""
    return [
        (one.topic.split("/")[-2].removeprefix("name"), one.event["data"]["sequence"])
        for one in heard.heard
        if one.topic.endswith("/events") and one.topic.startswith(f"{PREFIX}/accounts/")
    ]


async def published(store: SqlStore, address: str) -> None:
    async with running(sending := publisher(store, address)):
        assert await sending.drain(within=SOON)


@asynccontextmanager
async def persistent(directory: Path) -> AsyncIterator[Mosquitto]:
    """A broker that saves everything when it stops."""
    data = directory / "data"
    data.mkdir()
    lines = ("persistence true", f"persistence_location {data}/", "autosave_interval 0")
    async with mosquitto(directory / "mosquitto", *lines) as broker:
        yield broker
