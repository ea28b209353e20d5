"""New versions of customers' keys: adopted, proved, carried to every account; nothing is lost on the way."""

import asyncio
import itertools

import pytest

from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.vocabulary import Reason, State
from byokd.runtime.registrar import Action
from store.builders import Stage
from virtual.vaults import Mishap
from virtual.world import MINUTE, World, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

REWRAPPED, FAILED = "byokd.accountkey.rewrapped", "byokd.accountkey.rewrap-failed"
DETECTED, RETIRED = "byokd.key.version-detected", "byokd.key.version-retired"
UNUSABLE = "byokd.key.newest-version-unusable"
SETTLE = 15 * MINUTE


async def secrets_of(world: World, accounts: list[AccountId]) -> dict[AccountId, bytes]:
    return {account: (await world.open(await world.account(account))).account_key for account in accounts}


async def all_on_newest(world: World, key: KeyIdentifier) -> bool:
    newest = world.vaults.vaults[key.host].key(key.name).newest.id
    return all(
        account.current is not None and account.current.version == newest for account in await world.sql.accounts()
    )


async def test_a_new_version_is_adopted_within_an_interval_and_every_account_is_rewrapped(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=20)
        before = await secrets_of(world, accounts)
        old = vault.key().newest.id
        await asyncio.sleep(2 * MINUTE)
        vault.rotate()
        await world.until(lambda: all_on_newest(world, key), within=67)
        assert await secrets_of(world, accounts) == before
        for account in accounts:
            await world.until_told(account, REWRAPPED, within=2)
        (detected,) = world.told_of_key(key, DETECTED)
        assert detected["data"]["previousKeyIdentifier"].endswith(old)

        done = world.now
        assert not world.told_of_key(key, RETIRED)
        await asyncio.sleep(SETTLE - 10)
        assert not world.told_of_key(key, RETIRED)
        await asyncio.sleep(20)
        (retired,) = world.told_of_key(key, RETIRED)
        assert retired["data"]["keyIdentifier"] == str(key.at(old))
        assert SETTLE - 6 <= retired["at"] - done <= SETTLE + 6
        wraps = (await Stage(world.sql).contents())["account_keys"]
        assert len(wraps) == len(accounts)

        vault.disable(version=0)
        quiet = world.now
        await asyncio.sleep(5 * MINUTE)
        assert {call.version for call in vault.called("unwrapKey", since=quiet)} == {vault.key().newest.id}
        await world.assert_converged()


async def test_a_pinned_account_stays_on_its_version(world: World) -> None:
    vault, key = world.one_vault()
    pinned = key.at(vault.key().newest.id)
    async with world.running():
        (moving,) = await world.register(key)
        (staying,) = await world.register(pinned, first=2)
        vault.rotate()
        await world.until_told(moving, REWRAPPED, within=67)
        await asyncio.sleep(20 * MINUTE)
        assert (await world.account(staying)).current == pinned
        assert not world.told(staying, REWRAPPED)
        assert not world.told_of_key(key, RETIRED), "the pinned account still needs it"
        vault.disable(version=0)
        await world.until_told(staying, "byokd.account.inaccessible", within=81)
        assert await world.state(moving) is State.ACCESSIBLE


async def test_two_rotations_in_the_same_second_end_on_the_last(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=10)
        before = await secrets_of(world, accounts)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        watch = (await world.watch(key)).id
        await world.service.scheduler.check_now(watch)
        vault.rotate()
        assert vault.key().versions[1].created == vault.key().versions[2].created
        await world.until(lambda: all_on_newest(world, key), within=70)
        assert await secrets_of(world, accounts) == before
        await asyncio.sleep(SETTLE + 10)
        assert len(world.told_of_key(key, RETIRED)) == 2
        await world.assert_converged()


@pytest.mark.parametrize(("how", "count"), [("disabled", 400), ("deleted", 100)])
async def test_accounts_go_on_later_when_the_key_was_taken_away_in_the_middle(
    world: World, how: str, count: int
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=count)
        before = await secrets_of(world, accounts)
        await asyncio.sleep(MINUTE)
        vault.rotate()

        async def half_are_rewrapped() -> bool:
            return 0.3 * count < (await world.sql.census()).rewraps_waiting < 0.7 * count

        await world.until(half_are_rewrapped, within=70)
        if how == "disabled":
            vault.disable(version=0)
        else:
            vault.delete()
        await asyncio.sleep(10 * MINUTE)
        census = await world.sql.census()
        left = census.rewraps_waiting
        assert 0.1 * count < left < 0.7 * count
        assert census.accounts[State.INACCESSIBLE] == (left if how == "disabled" else count)
        vault.heal()

        async def all_are_back() -> bool:
            census = await world.sql.census()
            return census.rewraps_waiting == 0 and census.accounts[State.INACCESSIBLE] == 0

        await world.until(all_are_back, within=12 * MINUTE)
        assert await all_on_newest(world, key)
        assert await secrets_of(world, accounts) == before
        await world.assert_converged(keys_open=False)


async def test_unfit_new_version_is_told_once_and_the_old_one_stays(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        vault.disable(version=1)
        await asyncio.sleep(10 * MINUTE)
        assert len(world.told_of_key(key, UNUSABLE)) == 1
        assert not world.told(account, REWRAPPED)
        assert await world.state(account) is State.ACCESSIBLE
        vault.enable()
        await world.until_told(account, REWRAPPED, within=67)
        await world.assert_converged()


async def test_new_version_that_refuses_to_wrap_is_told_and_not_adopted(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.rotate()
        vault.revoke("wrapKey")
        await asyncio.sleep(10 * MINUTE)
        assert len(world.told_of_key(key, UNUSABLE)) == 1
        assert not world.told_of_key(key, DETECTED)
        assert await world.state(account) is State.ACCESSIBLE
        vault.grant()
        await world.until_told(account, REWRAPPED, within=67)


async def test_rewraps_that_are_throttled_are_tried_again_with_growing_waits(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        before = await secrets_of(world, [account])
        await asyncio.sleep(MINUTE)
        vault.rotate()
        newest = vault.key().newest

        async def is_adopted() -> bool:
            return (await world.watch(key)).current_version.version == newest.id

        # Adopting takes one wrap; from then on wraps are throttled, while checks go on undisturbed.
        watch = (await world.watch(key)).id
        vault.latency = 0.5
        checking = asyncio.create_task(world.service.scheduler.check_now(watch))
        await world.until(is_adopted, within=10)
        vault.strike(Reason.THROTTLED, "wrapKey")
        await checking
        await asyncio.sleep(12 * MINUTE)
        tries = [call.time for call in vault.called("wrapKey") if call.outcome == Reason.THROTTLED]
        gaps = [later - sooner for sooner, later in itertools.pairwise(tries)]
        assert gaps == sorted(gaps)
        assert gaps[:4] == pytest.approx([10, 20, 40, 80], abs=7)
        assert [event["data"]["attempt"] for event in world.told(account, FAILED)] == [1, 2, 4]
        assert await world.state(account) is State.ACCESSIBLE

        vault.faults.clear()
        await world.until_told(account, REWRAPPED, within=10 * MINUTE + 6)
        assert await secrets_of(world, [account]) == before
        await world.assert_converged()


async def test_wrap_that_does_not_open_again_is_never_committed(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=3)
        before = await secrets_of(world, accounts)
        vault.rotate()
        vault.strike(Mishap.WRONG_VALUE, "unwrapKey", count=40)
        await asyncio.sleep(20 * MINUTE)
        vault.faults.clear()
        await world.until(lambda: all_on_newest(world, key), within=11 * MINUTE)
        await asyncio.sleep(10 * MINUTE)
        assert await secrets_of(world, accounts) == before
        await world.assert_converged()


async def test_wrap_that_does_not_open_at_once_is_not_committed(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=3)
        before = await secrets_of(world, accounts)
        vault.rotate()
        newest = vault.key().newest.id

        async def is_adopted() -> bool:
            return (await world.watch(key)).current_version.version == newest

        vault.latency = 0.5
        await world.until(is_adopted, within=70)
        vault.strike(Mishap.WRONG_VALUE, "unwrapKey", count=3, version=newest)
        await asyncio.sleep(5)
        assert not vault.faults
        assert [len(world.told(account, FAILED)) for account in accounts] == [1, 1, 1]
        assert await secrets_of(world, accounts) == before
        await world.until(lambda: all_on_newest(world, key), within=20)
        assert await secrets_of(world, accounts) == before
        await world.assert_converged()


async def test_stale_answer_never_brings_an_older_version_back(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.latency = 1.0
        vault.rotate()
        await asyncio.sleep(2)
        vault.rotate()
        skipped = len(world.told_of_key(key, DETECTED)) == 0
        await world.until(lambda: all_on_newest(world, key), within=140)
        known = len(world.told_of_key(key, DETECTED)), len(world.told(account, REWRAPPED))
        assert skipped, "one version was never adopted, so that only its age speaks against it"
        assert known == (1, 1)
        vault.strike(Mishap.STALE, "get")
        await asyncio.sleep(SETTLE + 5 * MINUTE)
        assert (len(world.told_of_key(key, DETECTED)), len(world.told(account, REWRAPPED))) == known
        assert (await world.account(account)).current == key.at(vault.key().newest.id)
        assert not [entry for entry in world.logs if entry["event"] == "check-failed"]


async def test_account_deleted_while_it_is_checked_or_rewrapped(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=4)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        vault.latency = 1.0

        async def is_adopted() -> bool:
            return (await world.watch(key)).current_version.version == vault.key().newest.id

        await world.until(is_adopted, within=90)
        await asyncio.sleep(0.5)
        assert await world.service.registrar.delete(accounts[0])
        assert await world.service.registrar.delete(accounts[1])
        again = await world.service.registrar.apply(spec_of(1, key))
        assert again.action is Action.CREATED
        await asyncio.sleep(2 * MINUTE)
        assert await all_on_newest(world, key)

        watch = (await world.watch(key)).id
        checking = asyncio.create_task(world.service.scheduler.check_now(watch))
        await asyncio.sleep(0.5)
        for account in (accounts[0], *accounts[2:]):
            assert await world.service.registrar.delete(account)
        await asyncio.wait({checking}, timeout=60)
        assert checking.done(), "whoever asked for the check waits for ever"
        await asyncio.sleep(world.settings.checks.deadline.total_seconds())  # for the check that was under way
        calls = len(vault.calls)
        await asyncio.sleep(20 * MINUTE)
        assert len(vault.calls) == calls
        assert world.is_alive()
        await world.assert_converged()


async def test_account_moved_to_another_key_while_the_old_one_rotates(world: World) -> None:
    vault, key = world.one_vault()
    other, other_key = world.one_vault("fabrikam")
    async with world.running():
        (account,) = await world.register(key)
        before = await secrets_of(world, [account])
        vault.rotate()
        vault.latency = 1.0
        watch = (await world.watch(key)).id
        await world.service.scheduler.check_now(watch)
        moved = await world.service.registrar.apply(spec_of(1, other_key))
        assert moved.action is Action.UPDATED, moved
        back = await world.service.registrar.apply(spec_of(1, None))
        assert back.action is Action.UPDATED
        vault.latency = 0.02
        again = await world.service.registrar.apply(spec_of(1, key))
        assert again.action is Action.UPDATED
        await asyncio.sleep(SETTLE + 5 * MINUTE)
        assert await secrets_of(world, [account]) == before
        assert await all_on_newest(world, key)
        other.disable()
        await asyncio.sleep(5 * MINUTE)
        assert await world.state(account) is State.ACCESSIBLE
        await world.assert_converged()
