"""The heads of the history reach the bus, once per interval in which something happened."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.adapters.sql.audit import Audit
from byokd.runtime.archive import known_heads
from byokd.settings import Settings
from store.builders import auditor
from virtual.world import MINUTE, PREFIX, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


INTERVAL = 10 * MINUTE


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    settings = Settings()
    store = settings.store.model_copy(update={"audit_interval": timedelta(seconds=INTERVAL)})
    return make_world(settings=settings.model_copy(update={"store": store}))


def _told(world: World) -> list[float]:
    return [event["at"] for event in world.bus._events(f"{PREFIX}/service/events")]


async def test_heads_are_published_once_per_interval_with_news_and_not_without(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(INTERVAL + 2 * MINUTE)
        assert len(_told(world)) == 1
        assert INTERVAL <= _told(world)[0] <= INTERVAL + MINUTE + 1
        await asyncio.sleep(3 * INTERVAL)
        assert len(_told(world)) == 1
        await world.register(key, first=2)
        await asyncio.sleep(2 * MINUTE)
        assert len(_told(world)) == 2


async def test_restarts_neither_delay_nor_hasten_them(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        for _ in range(7):
            await asyncio.sleep(100)
            await world.restart()
        await asyncio.sleep(MINUTE)
        assert len(_told(world)) == 1
        assert INTERVAL <= _told(world)[0] <= INTERVAL + MINUTE + 1


async def test_what_the_bus_was_told_vouches_for_the_history(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        await world.register(key, count=3)
        await asyncio.sleep(INTERVAL + 2 * MINUTE)
        await world.register(key, first=4)
        (line,) = [
            message.payload.decode() for _, message in world.bus.messages if message.topic == f"{PREFIX}/service/events"
        ]
        (heads,) = known_heads([line])
        assert json.loads(line)["data"]["streams"] == heads.streams == 3
        audit = Audit(world.sql._runner.writer, auditor())
        assert audit.differing(heads) is None
