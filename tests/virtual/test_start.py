"""A start with everything overdue: no stampede, the doubtful first, and everybody's turn comes."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from byokd.domain.vocabulary import Reason
from virtual.backlog import Place, begun, fill, make_overdue
from virtual.vaults import Mishap, Vault
from virtual.world import MINUTE, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

MANY = 10_000
SUSPECTED = (MANY - 1, MANY - 2, MANY // 2)


def vaults(world: World, name: str, count: int) -> list[Vault]:
    return [world.vaults.make(f"{name}{number}") for number in range(count)]


def spread_evenly(world: World) -> list[Place]:
    return [(world.vaults.make(f"vault{number:05d}"), "key") for number in range(MANY)]


def all_in_one(world: World) -> list[Place]:
    vault = world.vaults.make("crowded")
    return [(vault, f"key-{number}") for number in range(MANY)]


def mostly_in_one(world: World) -> list[Place]:
    vault = world.vaults.make("crowded")
    return [
        (world.vaults.make(f"vault{number:05d}") if number % 10 == 0 else vault, f"key-{number}")
        for number in range(MANY)
    ]


@pytest.mark.parametrize("layout", [spread_evenly, all_in_one, mostly_in_one])
async def test_ten_thousand_overdue_watches_are_admitted_at_no_more_than_twice_the_steady_rate(
    world: World, layout: Callable[[World], list[Place]]
) -> None:
    async with world.running():
        places = layout(world)
        keys = await fill(world, places)
        await make_overdue(world, suspected=SUSPECTED)
        start, seconds = world.now, 4
        await world.start()
        await asyncio.sleep(seconds)
        checks = begun(world, since=start)
        per_second = 2 * MANY / 60
        for second in range(seconds):
            admitted = [at for at, _, _ in checks if second <= at - start < second + 1]
            assert len(admitted) <= per_second + 2
        doubtful = {places[number - 1][0].key(places[number - 1][1]).newest.id for number in SUSPECTED}
        assert {version for _, _, version in checks[:3]} == doubtful
        busiest = max(world.vaults.all(), key=lambda vault: len(vault.calls))
        assert busiest.most_running <= world.settings.checks.vault_concurrency
        assert len(busiest.called(since=start)) <= 1000, "our share of what the vault grants in ten seconds"
        alone = {vault.host for at, vault, _ in checks if vault is not busiest}
        if layout is mostly_in_one:
            assert len(alone) >= 0.9 * seconds * per_second / 10, "the crowded vault holds nobody else up"
        if layout is spread_evenly:
            assert len(alone) >= 0.99 * seconds * per_second

        asked = world.now
        checked = await world.service.scheduler.check_now((await world.watch(keys[-1])).id)
        assert checked is not None
        assert world.now - asked <= 0.3, "an operator does not wait for the backlog"
        vault, name = places[-2]
        world.service.scheduler.hint((await world.watch(keys[-2])).id)
        asked = world.now
        await asyncio.sleep(0.3)
        assert [call for call in vault.called(since=asked) if call.version == vault.key(name).newest.id]


async def test_a_daemon_that_dies_every_three_seconds_still_gets_around_to_everybody(world: World) -> None:
    """Also behind more watches than may be checked at once, all overdue for longer, whose vaults hang."""
    async with world.running():
        hanging = [(vault, f"key-{n}") for vault in vaults(world, "hanging", 30) for n in range(4)]
        well = [(vault, f"key-{n}") for vault in vaults(world, "well", 40) for n in range(12)]
        await fill(world, [*hanging, *well])
        for vault, _ in hanging:
            vault.strike(Mishap.HANG)
        await make_overdue(world)
        start, left = world.now, {vault.key(name).newest.id for vault, name in well}
        lives = 0
        while left:
            lives += 1
            assert lives <= 20, "600 watches, 20 a second, of which a life of 3 s keeps those of 2 s at least"
            await world.start()
            await asyncio.sleep(3)
            await world.crash()
            left -= {version for _, _, version in begun(world, since=start)}


async def test_due_times_from_before_the_clock_was_set_back_keep_nobody_waiting(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(3 * MINUTE)
        await world.stop()
        world.clock.stepped = timedelta(days=-1)
        since = world.now
        await world.start()
        await asyncio.sleep(5 * MINUTE + 1)
        assert vault.called("unwrapKey", since=since)


@pytest.mark.parametrize("lives", [7, 31])
async def test_the_backoff_of_a_throttling_vault_survives_restarts_neither_reset_nor_shortened(
    world: World, lives: int
) -> None:
    vault, key = world.one_vault()
    keys = [key, *(vault.create(f"key-{number}") for number in range(14))]
    async with world.running():
        for number, one in enumerate(keys, start=1):
            await world.register(one, first=number)
        await asyncio.sleep(2 * MINUTE)
        vault.strike(Reason.THROTTLED)
        await asyncio.sleep(5 * MINUTE)
        begun = world.now
        while world.now - begun < 10 * MINUTE:
            await world.restart()
            await asyncio.sleep(lives)
        tries = [call.time for call in vault.called(since=begun)]
        gaps = [later - sooner for sooner, later in pairwise(tries)]
        assert all(59.9 <= gap <= 67 for gap in gaps), gaps
        assert len(tries) >= 8
        vault.faults.clear()
        healed = world.now
        await asyncio.sleep(MINUTE + 5)
        seen = {call.version for call in vault.called("unwrapKey", since=healed)}
        assert len(seen) == len(keys), "all go on as soon as one found that it answers"
        assert await world.sql.failing_vaults() == {}


async def test_our_own_trouble_neither_ends_nor_begins_the_backoff_of_a_vault(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(2 * MINUTE)
        vault.strike(Reason.TOKEN_UNAVAILABLE)
        await asyncio.sleep(3 * MINUTE)
        assert await world.sql.failing_vaults() == {}
        vault.faults.clear()
        vault.strike(Reason.THROTTLED)
        await asyncio.sleep(3 * MINUTE)
        failing = (await world.sql.failing_vaults())[vault.host]
        vault.faults.clear()
        vault.strike(Reason.TOKEN_UNAVAILABLE)
        await asyncio.sleep(2 * MINUTE)
        assert (await world.sql.failing_vaults())[vault.host].backoff == failing.backoff
        vault.faults.clear()
        await asyncio.sleep(2 * MINUTE)
        assert await world.sql.failing_vaults() == {}


async def test_many_vaults_that_hang_leave_the_others_their_turn(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_checks(concurrency=10))
    async with world.running():
        hanging = [(vault, "key") for vault in vaults(world, "hanging", 200)]
        well = [(vault, "key") for vault in vaults(world, "well", 20)]
        await fill(world, [*hanging, *well])
        await world.start()
        await asyncio.sleep(2 * MINUTE)
        for vault, _ in hanging:
            vault.strike(Mishap.HANG)
        await asyncio.sleep(5 * MINUTE)
        since = world.now
        await asyncio.sleep(5 * MINUTE)
        for vault, _ in well:
            times = [since, *(call.time for call in vault.called("unwrapKey", since=since)), world.now]
            assert max(later - sooner for sooner, later in pairwise(times)) <= 67
