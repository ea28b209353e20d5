"""Hints: quick, few checks however many there are, and none is lost."""

import asyncio
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.identifiers import WatchId
from byokd.domain.vocabulary import Reason
from byokd.ports import KeyTarget
from virtual.vaults import IDENTITY, TENANT, Vault
from virtual.world import MINUTE, World, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

SPACING = 5.0
LATENCY = 0.02


def checks(vault: Vault, *, since: float = 0.0) -> list[float]:
    return [call.time for call in vault.called("unwrapKey", since=since) if call.way == "probe"]


async def after_a_check(world: World) -> WatchId:
    """Wait until the one watch was checked a second ago, so that no poll comes for most of a minute."""
    (watch,) = await world.sql.watches()
    await world.service.scheduler.check_now(watch.id)
    await asyncio.sleep(1)
    return watch.id


async def test_a_hint_is_followed_at_once_and_once_more_a_little_later(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        watch = await after_a_check(world)
        hinted = world.now
        world.service.scheduler.hint(watch)
        await asyncio.sleep(40)
        assert [round(at - hinted, 1) for at in checks(vault, since=hinted)] == [0.0, SPACING]


async def test_ten_thousand_hints_for_a_key_cost_a_handful_of_checks(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        await after_a_check(world)
        target = KeyTarget(IDENTITY, TENANT, key.at(vault.key().newest.id))
        hinted = world.now
        for _ in range(100):
            for _ in range(100):
                world.service.scheduler.hint_version(target)
            await asyncio.sleep(0.2)
        await asyncio.sleep(10)
        assert 5 <= len(checks(vault, since=hinted)) <= 20 / SPACING + 2


@settings(max_examples=25)
@given(
    hints=st.lists(st.floats(0, 40), min_size=1, max_size=30),
    latency=st.sampled_from([LATENCY, 1.0]),
    asked=st.lists(st.floats(0, 40), max_size=3),
)
def test_hinted_checks_keep_their_distance_and_none_is_lost(
    service_keys: Path, hints: list[float], latency: float, asked: list[float]
) -> None:
    async def scenario() -> None:
        vault, key = world.one_vault()
        async with world.running():
            await world.register(key)
            watch = await after_a_check(world)
            vault.latency = latency
            begun = world.now
            async with asyncio.TaskGroup() as group:
                for at in hints:
                    group.create_task(later(begun + at, hint, watch))
                for at in asked:
                    group.create_task(later(begun + at, order, watch))
            await asyncio.sleep(2 * SPACING + 4 * latency)
            seen = checks(vault, since=begun)
            for at in hints:
                assert any(0 <= one - begun - at <= SPACING + 2 * latency + 0.01 for one in seen), "none is lost"
            assert len(seen) <= bound([begun + at for at in hints]) + len(asked) + 1

    async def later(at: float, act: object, watch: WatchId) -> None:
        await asyncio.sleep(at - world.now)
        act(watch)  # type: ignore[operator]

    def hint(watch: WatchId) -> None:
        world.service.scheduler.hint(watch)

    def order(watch: WatchId) -> None:
        orders.append(asyncio.ensure_future(world.service.scheduler.check_now(watch)))

    orders: list[object] = []
    world = World(service_keys)
    virtually(scenario())
    world.close()


def bound(hints: Iterable[float]) -> int:
    """At most one check per spacing from the first hint of a row to a spacing after the last one."""
    count, until = 0, -1.0
    for at in sorted(hints):
        if at >= until:
            count, until = count + 2, at + SPACING
        elif at > until - SPACING:
            count, until = count + 1, until + SPACING
    return count


async def test_a_hint_during_a_check_is_followed_by_another_one(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        watch = await after_a_check(world)
        vault.latency = 1.0
        checking = asyncio.create_task(world.service.scheduler.check_now(watch))
        await asyncio.sleep(1.5)
        hinted = world.now
        world.service.scheduler.hint(watch)
        await checking
        await asyncio.sleep(1.5)  # a call is counted when it has ended
        assert [at > hinted for at in checks(vault, since=hinted - 2)] == [False, True]


async def test_operators_who_ask_at_the_same_time_share_a_check_and_none_waits_for_the_spacing(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        watch = await after_a_check(world)
        begun = world.now
        shared = await asyncio.gather(*(world.service.scheduler.check_now(watch) for _ in range(50)))
        assert len(checks(vault, since=begun)) == 1
        assert len({id(checked) for checked in shared}) == 1
        for _ in range(5):
            assert await world.service.scheduler.check_now(watch) is not None
        assert len(checks(vault, since=begun)) == 6
        assert world.now - begun <= 1


async def test_who_asks_while_a_check_runs_gets_one_that_began_later(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        watch = await after_a_check(world)
        vault.latency = 1.0
        first = asyncio.create_task(world.service.scheduler.check_now(watch))
        await asyncio.sleep(1.2)
        vault.disable()
        second = await world.service.scheduler.check_now(watch)
        assert second is not None
        assert (await first) is not second
        assert second.watch.current_version.verdict.suspicion is not None


@pytest.mark.parametrize("latency", [LATENCY, 1.0])
@pytest.mark.parametrize("again", [0.001, 1.0, 4.9])
async def test_a_denial_that_hints_had_us_look_at_is_detected_by_them_and_another_one_delays_nothing(
    world: World, latency: float, again: float
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        watch = await after_a_check(world)
        vault.latency = latency
        vault.revoke()
        world.service.scheduler.hint(watch)
        await world.until_suspected(key)
        suspected = world.now
        await asyncio.sleep(again)
        world.service.scheduler.hint(watch)
        told = await world.until_told(account, "byokd.account.inaccessible", within=10)
        assert told["data"]["detectedBy"] == "hint"
        assert latency > LATENCY or told["at"] - suspected <= SPACING + 0.1


async def test_a_hint_at_what_a_poll_suspects_takes_nothing_from_the_poll_but_the_look_that_confirms(
    world: World,
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        watch = await after_a_check(world)
        vault.revoke()
        await world.until_suspected(key)
        await asyncio.sleep(1)
        world.service.scheduler.hint(watch)
        told = await world.until_told(account, "byokd.account.inaccessible", within=10)
        assert told["data"]["detectedBy"] == "poll"


async def test_a_reload_does_not_forget_what_made_us_look(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        watch = await after_a_check(world)
        vault.revoke()
        vault.latency = 1.0
        world.service.scheduler.hint(watch)
        await world.until_suspected(key)
        # Another look follows this one, too soon to count, and the one that does is nobody's echo.
        world.service.scheduler.hint(watch)
        await asyncio.sleep(SPACING - 0.5)
        await world.reload()
        told = await world.until_told(account, "byokd.account.inaccessible", within=10)
        assert told["data"]["detectedBy"] == "hint"


async def test_a_hint_at_a_failing_vault_waits_for_the_next_try(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.strike(Reason.THROTTLED)
        await asyncio.sleep(10 * MINUTE)
        (watch,) = await world.sql.watches()
        since = world.now
        for _ in range(600):
            world.service.scheduler.hint(watch.id)
            await asyncio.sleep(1)
        tries = checks(vault, since=since)
        assert all(later - sooner >= 59.9 for sooner, later in pairwise(tries))
        assert len(tries) >= 9


async def test_who_still_waits_when_the_daemon_stops_hears_that_there_is_no_answer(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        watch = await after_a_check(world)
        vault.latency = 1.0
        scheduler = world.service.scheduler
        running = asyncio.create_task(scheduler.check_now(watch))
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(scheduler.check_now(watch))
        await asyncio.sleep(0.1)
        await world.stop()
        assert await running is not None
        assert await waiting is None
        assert await scheduler.check_now(watch) is None
