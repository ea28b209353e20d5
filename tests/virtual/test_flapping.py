"""Keys that come and go, and accounts that an operator wants closed when nothing is known of their keys."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.vocabulary import Reason, State
from virtual.vaults import Mishap
from virtual.world import HOUR, MINUTE, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

INACCESSIBLE, ACCESSIBLE = "byokd.account.inaccessible", "byokd.account.accessible"


@pytest.mark.parametrize("period", [3.0, 12.0, 40.0])
async def test_a_key_that_comes_and_goes_is_told_a_bounded_number_of_times_and_looked_at_with_patience(
    world: World, period: float
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=3)
        begun = world.now
        while world.now - begun < HOUR:
            vault.disable()
            await asyncio.sleep(period)
            vault.enable()
            await asyncio.sleep(period)
        for account in accounts:
            assert len(world.told(account)) <= 40
        looks = vault.called("unwrapKey", since=begun)
        assert len(looks) <= HOUR / 5 + 40

        # What was told last is true in the end, and soon.
        await asyncio.sleep(6 * MINUTE)
        assert {await world.state(account) for account in accounts} == {State.ACCESSIBLE}
        await world.assert_converged()


async def test_a_flapping_key_that_goes_for_good_is_told_as_soon_as_any_other(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        for _ in range(6):
            vault.disable()
            await world.until_told_state(account, State.INACCESSIBLE, within=81)
            vault.enable()
            await world.until_told_state(account, State.ACCESSIBLE, within=6 * MINUTE)
        vault.disable()
        begun = world.now
        await world.until_told_state(account, State.INACCESSIBLE, within=81)
        assert world.now - begun <= 81


async def test_a_restart_neither_shortens_nor_resets_what_a_flapping_key_has_to_prove(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        for _ in range(7):
            vault.disable()
            await world.until_told_state(account, State.INACCESSIBLE, within=81)
            vault.enable()
            back = world.now
            await world.until_told_state(account, State.ACCESSIBLE, within=6 * MINUTE)
        lasted = world.now - back
        vault.disable()
        await world.until_told_state(account, State.INACCESSIBLE, within=81)
        vault.enable()
        back = world.now
        while world.now - back < lasted:
            await asyncio.sleep(20)
            await world.restart()
        assert await world.state(account) is State.INACCESSIBLE
        await world.until_told_state(account, State.ACCESSIBLE, within=6 * MINUTE)


CLOSING = with_checks(fail_closed_after=timedelta(minutes=30))


@pytest.mark.parametrize("silence", [Reason.THROTTLED, Reason.TOKEN_UNAVAILABLE, Mishap.HANG])
async def test_silence_closes_where_that_is_wanted_and_one_proof_opens_again(
    make_world: Callable[..., World], silence: Reason | Mishap
) -> None:
    world = make_world(settings=CLOSING)
    vault, key = world.one_vault()
    keys = [key, *(vault.create(f"key-{number}") for number in range(4))]
    async with world.running():
        accounts = [
            account for number, one in enumerate(keys) for account in await world.register(one, first=number + 1)
        ]
        await asyncio.sleep(2 * MINUTE)
        vault.strike(silence)
        begun = world.now
        await asyncio.sleep(29 * MINUTE)
        assert all([await world.state(account) is State.ACCESSIBLE for account in accounts])
        for account in accounts:
            event = await world.until_told(account, INACCESSIBLE, within=5 * MINUTE)
            assert event["data"]["reason"] == Reason.UNVERIFIED
            assert 30 * MINUTE <= event["at"] - begun <= 34 * MINUTE
        vault.heal()
        for account in accounts:
            await world.until_told(account, ACCESSIBLE, within=6 * MINUTE)
        await world.assert_converged()


async def test_a_vault_answering_now_and_then_is_not_silent(make_world: Callable[..., World]) -> None:
    world = make_world(settings=CLOSING)
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        for minutes in (25, 5, 25):
            vault.strike(Reason.TIMED_OUT)
            await asyncio.sleep(minutes * MINUTE)
            vault.heal()
            await asyncio.sleep(2.5 * MINUTE)
        assert not world.told(account, INACCESSIBLE)
