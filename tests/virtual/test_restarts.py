"""Stops, crashes and starts: nothing is forgotten, repeated without need, or hurried."""

import asyncio

import pytest

from byokd.domain.vocabulary import State
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

INACCESSIBLE = "byokd.account.inaccessible"


@pytest.mark.parametrize("orderly", [True, False])
async def test_suspicion_survives_a_restart_as_it_is(world: World, orderly: bool) -> None:  # noqa: FBT001
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.blocked = True
        await world.until_suspected(key)
        suspicion = (await world.watch(key)).current_version.verdict.suspicion
        first = world.now
        for _ in range(4):
            await asyncio.sleep(30)
            await (world.stop() if orderly else world.crash())
            await asyncio.sleep(10)
            await world.start()
            assert (await world.watch(key)).current_version.verdict.suspicion == suspicion
        event = await world.until_told(account, INACCESSIBLE, within=5 * MINUTE)
        assert 5 * MINUTE - 0.2 <= event["at"] - first <= 5 * MINUTE + 6


async def test_restart_between_the_two_denials_neither_shortens_nor_resets(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.disable()
        await world.until_suspected(key)
        first = world.now
        await asyncio.sleep(1)
        await world.restart()
        event = await world.until_told(account, INACCESSIBLE, within=10)
        assert 4.9 <= event["at"] - first <= 6


async def test_recheck_backoff_survives_a_restart(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await world.until_told(account, INACCESSIBLE, within=81)
        await asyncio.sleep(30 * MINUTE)
        await world.restart()
        begun = world.now
        await asyncio.sleep(20 * MINUTE)
        assert 4 <= len(vault.called("unwrapKey", since=begun)) <= 5


async def test_due_times_survive_a_restart(world: World) -> None:
    vaults = [world.one_vault(f"vault{letter}") for letter in "abcdefgh"]
    async with world.running():
        for number, (_, key) in enumerate(vaults, start=1):
            await world.register(key, first=number)
            await asyncio.sleep(7)
        await asyncio.sleep(3 * MINUTE)
        await world.stop()
        last = {vault.host: vault.called("unwrapKey")[-1].time for vault, _ in vaults}
        await world.start()
        await asyncio.sleep(70)
        for vault, _ in vaults:
            gap = vault.called("unwrapKey", since=last[vault.host] + 0.001)[0].time - last[vault.host]
            assert 53 <= gap <= 67, vault.host


async def test_overdue_watches_are_admitted_at_twice_the_steady_rate_and_suspected_ones_first(world: World) -> None:
    vaults = [world.one_vault(f"vault{number:03d}") for number in range(120)]
    suspect, suspect_key = vaults[-1]
    async with world.running():
        for number, (_, key) in enumerate(vaults, start=1):
            await world.register(key, first=number)
        await asyncio.sleep(MINUTE)
        suspect.disable()
        await world.until_suspected(suspect_key)
        await world.crash()
        await asyncio.sleep(10 * MINUTE)
        await world.start()
        begun = world.now
        await asyncio.sleep(29)
        firsts = sorted(
            (vault.called("unwrapKey", since=begun - 1) or [None])[0].time - begun + 0.001
            for vault, _ in vaults
            if vault.called("unwrapKey", since=begun - 1)
        )
        steady = len(vaults) / 60
        for second in range(1, 29):
            admitted = sum(1 for first in firsts if first <= second)
            assert admitted <= 2 * steady * second + 2
        assert len(firsts) >= 2 * steady * 28
        assert suspect.called("unwrapKey", since=begun - 1)[0].time - begun < 0.1
        await asyncio.sleep(5)
        assert all(vault.called("unwrapKey", since=begun - 1) for vault, _ in vaults)


async def test_crash_with_unpublished_events_and_half_followed_accounts(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=510)
        vault.disable()

        async def has_begun() -> bool:
            return (await world.sql.census()).accounts[State.INACCESSIBLE] > 0

        await world.until(has_begun, within=81)
        await world.restart()
        for account in (accounts[0], accounts[-1]):
            await world.until_told(account, INACCESSIBLE, within=10)
        await world.assert_converged(keys_open=False)


async def test_stop_during_a_running_check_waits_for_it_and_keeps_what_it_found(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.disable()
        vault.latency = 1.5
        watch = (await world.watch(key)).id
        checking = asyncio.create_task(world.service.scheduler.check_now(watch))
        await asyncio.sleep(0.5)
        begun = world.now
        await world.stop()
        assert world.now - begun <= 5
        checked = await checking
        assert checked is not None
        assert (await world.watch(key)).current_version.verdict.suspicion is not None


async def test_stop_does_not_wait_longer_than_its_graces_for_a_vault_that_hangs(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.latency = 1000.0
        asking = asyncio.create_task(world.service.scheduler.check_now((await world.watch(key)).id))
        await asyncio.sleep(0.1)
        begun = world.now
        await world.stop()
        assert world.now - begun <= 10
        await asyncio.wait({asking}, timeout=1)
        assert asking.done(), "whoever asked for the check waits for ever"
        asking.cancel()


async def test_an_account_that_leaves_before_the_vaults_are_claimed_does_not_end_the_start(world: World) -> None:
    """The management API answers as soon as the store does, which is before the claim."""
    _, key = world.one_vault()
    async with world.running():
        first, second = await world.register(key, count=2)
        await world.crash()
        starting = world._new_service()
        await starting.registrar.delete(first)
        await world.start(starting)
        await asyncio.sleep(2 * MINUTE)
        assert world.is_alive()
        assert await world.state(second) is State.ACCESSIBLE
