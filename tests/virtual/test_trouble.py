"""Vaults that do not answer: nobody loses access, and the vault is asked with patience."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import datetime

import pytest

from byokd.domain.vocabulary import Reason, RefusalKind, State
from virtual.vaults import Mishap
from virtual.world import HOUR, MINUTE, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

SILENCES = [Reason.THROTTLED, Reason.NAME_NOT_RESOLVED, Mishap.HANG]
UNVERIFIED, VERIFIED = "byokd.account.unverified", "byokd.account.verified"


@pytest.mark.parametrize("silence", SILENCES)
async def test_a_vault_silent_for_hours_costs_nobody_access_and_is_asked_with_backoff(
    world: World, silence: Reason | Mishap
) -> None:
    vault, key = world.one_vault()
    keys = [key, *(vault.create(f"key-{number}") for number in range(14))]
    well, well_key = world.one_vault("fabrikam")
    async with world.running():
        accounts = [
            account for number, one in enumerate(keys) for account in await world.register(one, first=number + 1)
        ]
        await world.register(well_key, first=100)
        await asyncio.sleep(2 * MINUTE)
        vault.strike(silence)
        begun = world.now
        await asyncio.sleep(1.25 * HOUR)

        for account in accounts:
            assert [event["type"] for event in world.told(account)] == ["byokd.account.created", UNVERIFIED]
            told = world.told(account, UNVERIFIED)[0]
            assert 14 * MINUTE <= told["at"] - begun <= 18 * MINUTE
            assert await world.state(account) is State.ACCESSIBLE
        failing = [call.time for call in vault.called(since=begun + 10 * MINUTE)]
        assert all(later - sooner >= 59 for sooner, later in itertools.pairwise(failing))
        checks = [call.time for call in well.called("unwrapKey", since=begun)]
        assert all(later - sooner <= 67 for sooner, later in itertools.pairwise(checks))

        vault.faults.clear()
        healed = world.now
        for account in accounts:
            await world.until_told(account, VERIFIED, within=62)
        assert world.now - healed <= 62
        assert {call.version for call in vault.called("unwrapKey", since=healed)} == {
            one.versions[0].id for one in vault.keys.values()
        }
        await world.assert_converged()


async def test_a_denial_after_a_silence_is_not_told_as_verified(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.THROTTLED)
        await world.until_told(account, UNVERIFIED, within=20 * MINUTE)
        (unverified,) = world.told(account, UNVERIFIED)
        assert (unverified["data"]["detectedBy"], unverified["data"]["observedAt"]) == (None, None)
        vault.faults.clear()
        vault.strike(RefusalKind.ACCESS_DENIED)
        await world.until_told(account, "byokd.account.inaccessible", within=2 * MINUTE)
        assert not world.told(account, VERIFIED)
        (inaccessible,) = world.told(account, "byokd.account.inaccessible")
        assert inaccessible["data"]["unverifiedSince"] is None


async def test_a_denial_that_was_wrong_keeps_an_account_unverified_until_its_key_unwraps(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.THROTTLED)
        await world.until_told(account, UNVERIFIED, within=20 * MINUTE)
        vault.faults.clear()
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        mended = world.now
        await world.until_told(account, VERIFIED, within=2 * MINUTE)
        assert len(vault.called("unwrapKey", since=mended)) == 2  # the denial, and the look that found it wrong
        (verified,) = world.told(account, VERIFIED)
        assert datetime.fromisoformat(verified["data"]["observedAt"]) > datetime.fromisoformat(
            world.told(account, UNVERIFIED)[0]["data"]["unverifiedSince"]
        )


async def test_only_one_watch_probes_a_failing_vault(world: World) -> None:
    vault, key = world.one_vault()
    keys = [key, *(vault.create(f"key-{number}") for number in range(19))]
    async with world.running():
        for number, one in enumerate(keys):
            await world.register(one, first=number + 1)
        await asyncio.sleep(2 * MINUTE)
        vault.strike(Mishap.HANG)
        await asyncio.sleep(15)
        vault.most_running = 0
        await asyncio.sleep(20 * MINUTE)
        assert vault.most_running == 1


async def test_our_own_token_trouble_neither_denies_nor_slows_a_vault(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.TOKEN_UNAVAILABLE)
        begun = world.now
        await asyncio.sleep(10 * MINUTE)
        assert len(vault.called("unwrapKey", since=begun)) >= 9
        assert await world.state(account) is State.ACCESSIBLE


async def test_silence_between_two_denials_neither_confirms_nor_forgets(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await world.until_suspected(key)
        vault.strike(Reason.THROTTLED)
        await asyncio.sleep(20 * MINUTE)
        assert await world.state(account) is State.ACCESSIBLE
        vault.faults.clear()
        await world.until_told(account, "byokd.account.inaccessible", within=62)
        await world.assert_converged(keys_open=False)


async def test_checks_at_once_stay_within_both_bounds(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_checks(concurrency=10, vault_concurrency=3))
    vaults = [world.vaults.make(f"vault{letter}") for letter in "abcde"]
    async with world.running():
        number = 0
        for vault in vaults:
            for name in range(12):
                number += 1
                await world.register(vault.create(f"key-{name}"), first=number)
        await asyncio.sleep(MINUTE)
        for vault in vaults:
            vault.latency, vault.most_running = 2.0, 0
        world.vaults.most_running = 0
        watches = await world.sql.watches()
        await asyncio.gather(*(world.service.scheduler.check_now(watch.id) for watch in watches))
        await asyncio.sleep(3 * MINUTE)
        assert world.vaults.most_running == 10
        assert [vault.most_running for vault in vaults] == [3] * 5
        await world.assert_converged()


async def test_an_unexpected_exception_in_one_check_does_not_stop_the_others(world: World) -> None:
    bad, bad_key = world.one_vault("bad")
    good, good_key = world.one_vault("good")
    async with world.running():
        (hurt,) = await world.register(bad_key)
        (unhurt,) = await world.register(good_key, first=2)
        bad.strike(Mishap.DEFECT)
        begun = world.now
        await asyncio.sleep(10 * MINUTE)
        assert world.is_alive()
        assert len(good.called("unwrapKey", since=begun)) >= 9
        assert await world.state(hurt) is State.ACCESSIBLE
        good.disable()
        await world.until_told(unhurt, "byokd.account.inaccessible", within=81)
        bad.faults.clear()
        bad.disable()
        await world.until_told(hurt, "byokd.account.inaccessible", within=81)
