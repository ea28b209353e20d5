"""What one vault costs: calls within our share of its limit, few looks at a key that flips, nothing kept afterwards."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from byokd.domain.vocabulary import Reason
from byokd.settings import Settings
from virtual.vaults import Vault
from virtual.world import MINUTE, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

INACCESSIBLE, FAILED = "byokd.account.inaccessible", "byokd.accountkey.rewrap-failed"


def with_share(share: float, *, rewrap_deadline: float = 15) -> Settings:
    settings = Settings()
    vaults = settings.vaults.model_copy(update={"quota_share": share})
    rewrap = settings.rewrap.model_copy(update={"deadline": timedelta(seconds=rewrap_deadline)})
    return settings.model_copy(update={"vaults": vaults, "rewrap": rewrap})


def assert_within(vault: Vault, units: int, *, since: float) -> None:
    """A call of keys of 2048 bits in software weighs one."""
    times = sorted(call.time for call in vault.called(since=since))
    assert all(later - sooner >= 10 for sooner, later in zip(times, times[units:], strict=False))


async def test_a_rotation_keeps_to_our_share_and_a_revocation_meanwhile_is_told_in_time(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settings=with_share(0.05))
    vault, key = world.one_vault()
    other = vault.create("other")
    async with world.running():
        accounts = await world.register(key, count=450)
        (account,) = await world.register(other, first=1000)
        await asyncio.sleep(2 * MINUTE)
        begun = world.now
        vault.rotate()
        await asyncio.sleep(MINUTE + 10)
        assert 0 < (await world.sql.census()).rewraps_waiting < len(accounts)
        revoked = world.now
        vault.disable("other")
        await world.until_told(account, INACCESSIBLE, within=71)
        assert world.now - revoked <= 71

        async def is_done() -> bool:
            return not (await world.sql.census()).rewraps_waiting

        await world.until(is_done, within=3 * MINUTE)
        assert_within(vault, 200, since=begun)
        assert not [account for account in accounts if world.told(account, FAILED)]


async def test_rewraps_that_our_own_limit_leaves_no_time_are_no_failures_of_anybody(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settings=with_share(0.05, rewrap_deadline=0.5))
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=30)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        await world.service.scheduler.check_now((await world.watch(key)).id)

        async def is_done() -> bool:
            return not (await world.sql.census()).rewraps_waiting

        await world.until(is_done, within=10 * MINUTE)
        value = world.service.metrics.registry.get_sample_value
        assert value("byokd_vault_calls_given_up_total", {"priority": "rewrap"})
        assert not [account for account in accounts if world.told(account, FAILED)]
        assert await world.sql.failing_vaults() == {}
        await world.assert_converged()


async def test_a_key_that_flips_costs_few_looks_and_nobody_else_anything(world: World) -> None:
    vault, key = world.one_vault()
    well, well_key = world.one_vault("well")
    async with world.running():
        await world.register(key)
        await world.register(well_key, first=2)
        await asyncio.sleep(2 * MINUTE)
        begun = world.now
        for flip in range(600):
            vault.enable(enabled=flip % 2 == 1)
            await asyncio.sleep(3)
        looks = vault.called("unwrapKey", since=begun)
        assert len(looks) <= (world.now - begun) / 5 + 2
        times = [call.time for call in well.called("unwrapKey", since=begun)]
        assert max(later - sooner for sooner, later in pairwise(times)) <= 67


async def test_a_vault_that_answers_now_and_then_while_it_throttles_stays_in_backoff(world: World) -> None:
    """Of four checks at once, three are throttled: the fourth does not let the next four loose."""
    vault, key = world.one_vault()
    keys = [key, *(vault.create(f"key-{number}") for number in range(39))]
    async with world.running():
        for number, one in enumerate(keys, start=1):
            await world.register(one, first=number)
        await asyncio.sleep(2 * MINUTE)
        begun = world.now
        watches = await world.sql.watches()
        vault.strike(Reason.THROTTLED, "unwrapKey", count=3)
        for watch in watches:
            world.service.scheduler.hint(watch.id)
        await asyncio.sleep(1.9)
        assert len(vault.called("unwrapKey", since=begun)) == 4
        await asyncio.sleep(0.135)
        assert vault.running == 1, "one probes, and the rest still wait"


async def test_nothing_is_kept_of_a_vault_that_nobody_uses_any_more(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_checks(recheck_first=timedelta(seconds=10)))
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=2)
        await asyncio.sleep(2 * MINUTE)
        scheduler = world.service.scheduler
        vault.latency = 2.0
        (watch,) = await world.sql.watches()
        checking = asyncio.create_task(scheduler.check_now(watch.id))
        await asyncio.sleep(1)
        for account in accounts:
            await world.service.registrar.delete(account)
        assert not list(scheduler._roster)
        assert not scheduler._roster.hosts
        await checking
        await asyncio.sleep(MINUTE)
        assert (list(scheduler._turns.running), scheduler._dues._changed) == ([], set())
        assert scheduler._line.next_due() is None, "it is not checked again"
