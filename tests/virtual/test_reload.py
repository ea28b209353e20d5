"""Other settings while the daemon runs: nothing is lost, repeated without need, or said that is not so."""

import asyncio
import json
from datetime import timedelta
from itertools import pairwise

import pytest

from byokd.domain.vocabulary import Reason, State
from virtual.vaults import IDENTITY
from virtual.world import MINUTE, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

INACCESSIBLE = "byokd.account.inaccessible"
QUICK = with_checks(interval=timedelta(seconds=10))


def presence(world: World) -> list[str]:
    return [
        json.loads(message.payload)["data"]["status"] for _, message in world.bus.messages if "daemons" in message.topic
    ]


async def test_a_new_interval_is_kept_from_the_next_check_on(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(5 * MINUTE)
        await world.reload(QUICK)
        changed = world.now
        await asyncio.sleep(5 * MINUTE)
        before = [call.time for call in vault.called("unwrapKey") if call.time < changed]
        after = [call.time for call in vault.called("unwrapKey") if call.time > changed]
        assert all(later - sooner >= 54 for sooner, later in pairwise(before[2:]))
        assert after[0] - changed <= 67
        assert all(8.9 <= later - sooner <= 11.1 for sooner, later in pairwise(after))


async def test_nobody_hears_of_a_reload_and_readiness_stays(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        told, service = len(world.bus.messages), world.service
        for _ in range(3):
            await world.reload(QUICK)
            assert all(condition.well for condition in world.service.health.conditions.values())
            assert world.service.observer.census is not None
        assert world.service is not service
        assert world.service.publisher is service.publisher
        await asyncio.sleep(MINUTE)
        assert len(world.bus.messages) == told
        assert presence(world) == ["online"]


async def test_other_settings_of_the_bus_make_new_connections_without_a_goodbye_and_events_go_on(world: World) -> None:
    vault, key = world.one_vault()
    changed = world.settings.model_copy(update={"mqtt": world.settings.mqtt.model_copy(update={"window": 7})})
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        before = world.service.publisher
        await world.reload(changed)
        assert world.service.publisher is not before
        vault.disable()
        await world.until_told(account, INACCESSIBLE, within=90)
        assert presence(world) == ["online", "online"]
        vault.enable()
        await asyncio.sleep(10 * MINUTE)
        await world.assert_converged()


async def test_leaving_a_broker_is_a_goodbye(world: World) -> None:
    mqtt = world.settings.mqtt.model_copy(update={"url": "mqtt://elsewhere:1883"})
    async with world.running():
        await asyncio.sleep(MINUTE)
        await world.reload(world.settings.model_copy(update={"mqtt": mqtt}))
        await asyncio.sleep(1)
        assert presence(world) == ["online", "offline", "online"]


async def test_a_reload_between_the_two_denials_neither_shortens_nor_resets(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.disable()
        await world.until_suspected(key)
        first = world.now
        await asyncio.sleep(1)
        await world.reload()
        event = await world.until_told(account, INACCESSIBLE, within=10)
        assert 4.9 <= event["at"] - first <= 6
        assert await world.state(account) is State.INACCESSIBLE


async def test_a_check_under_way_ends_before_the_change(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        vault.latency = 2
        asked = asyncio.create_task(world.service.scheduler.check_now((await world.watch(key)).id))
        await asyncio.sleep(0.5)
        await world.reload()
        assert asked.done()
        assert await asked is not None
        assert [log for log in world.logs if log["event"] in {"task-ended", "farewell-cut-short"}] == []


async def test_a_successor_knows_at_once_what_is_watched_and_who_is_looked_at_with_what(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        watch = (await world.watch(key)).id
        for _ in range(2):
            await world.reload()
        scheduler = world.service.scheduler
        assert (scheduler.identities, scheduler.next_look(watch) is None) == ({IDENTITY}, False)
        assert await scheduler.check_now(watch) is not None


async def test_the_backoff_of_a_throttling_vault_survives_reloads(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(2 * MINUTE)
        vault.strike(Reason.THROTTLED)
        await asyncio.sleep(5 * MINUTE)
        begun = world.now
        while world.now - begun < 10 * MINUTE:
            await world.reload()
            await asyncio.sleep(7)
        tries = [call.time for call in vault.called(since=begun)]
        gaps = [later - sooner for sooner, later in pairwise(tries)]
        assert all(59.9 <= gap <= 67 for gap in gaps), gaps
        assert len(tries) >= 8


async def test_a_stop_after_a_reload_gives_the_new_checks_their_grace(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await world.reload(QUICK)
        vault.latency = 2
        asked = asyncio.create_task(world.service.scheduler.check_now((await world.watch(key)).id))
        await asyncio.sleep(0.5)
        await world.stop()
        assert asked.done()
        assert await asked is not None


async def test_a_stop_right_after_a_reload_is_a_stop(world: World) -> None:
    async with world.running():
        await asyncio.sleep(1)
        await asyncio.gather(world.reload(QUICK), world.stop())
        assert presence(world)[-1] == "offline"
