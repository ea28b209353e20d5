"""Rewraps while everything goes wrong: nobody pays for another's vault, nobody is asked in vain, and no key is lost."""

import asyncio

import pytest
from sqlalchemy import update

from byokd.adapters.sql.tables import account_keys
from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.vocabulary import Reason, RefusalKind, State
from byokd.ports import ServiceKeyMissingError
from byokd.runtime.registrar import Action
from virtual.vaults import Mishap, Vault
from virtual.world import MINUTE, World, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

REWRAPPED, FAILED = "byokd.accountkey.rewrapped", "byokd.accountkey.rewrap-failed"
INACCESSIBLE = "byokd.account.inaccessible"


async def secrets_of(world: World, accounts: list[AccountId]) -> dict[AccountId, bytes]:
    return {account: (await world.open(await world.account(account))).account_key for account in accounts}


async def waiting(world: World) -> int:
    return (await world.sql.census()).rewraps_waiting


async def adopt(world: World, vault: Vault, key: KeyIdentifier) -> None:
    """Make a new version and let byokd adopt it; at the end no rewrap has got further than its first call."""
    watch = (await world.watch(key)).id
    await world.service.scheduler.check_now(watch)  # one that began before must not be the one that adopts
    vault.rotate(key.name)
    await world.service.scheduler.check_now(watch)
    assert (await world.watch(key)).current_version.version == vault.key(key.name).newest.id


async def done(world: World) -> bool:
    return await waiting(world) == 0


async def test_vault_that_hangs_holds_up_nobody_else(world: World) -> None:
    stuck, stuck_key = world.one_vault("contoso")
    other, other_key = world.one_vault("fabrikam")
    async with world.running():
        hanging = await world.register(stuck_key, count=60)
        accounts = await world.register(other_key, first=100, count=60)
        before = await secrets_of(world, [*hanging, *accounts])
        await adopt(world, stuck, stuck_key)
        stuck.strike(Mishap.HANG, "wrapKey")
        await adopt(world, other, other_key)
        for account in accounts:
            await world.until_told(account, REWRAPPED, within=3)
        stuck.heal()
        await world.until(lambda: done(world), within=3 * MINUTE)
        assert await secrets_of(world, [*hanging, *accounts]) == before
        await world.assert_converged()


async def test_vault_that_answers_checks_but_does_not_wrap_is_probed_by_one_account(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=300)
        before = await secrets_of(world, accounts)
        await adopt(world, vault, key)
        begun = world.now
        left = await waiting(world)
        vault.strike(Reason.THROTTLED, "wrapKey")
        await asyncio.sleep(30 * MINUTE)
        asked = [call for call in vault.called("wrapKey", since=begun) if call.outcome == Reason.THROTTLED]
        assert world.settings.rewrap.vault_concurrency < len(asked) < 50, "all those on their way, then one at a time"
        assert sum(len(world.told(account, FAILED)) for account in accounts) <= len(asked)
        assert await waiting(world) > left - 20
        vault.faults.clear()
        await world.until(lambda: done(world), within=2 * MINUTE)
        assert await secrets_of(world, accounts) == before
        await world.assert_converged()


async def test_key_that_refuses_to_wrap_costs_the_other_keys_of_its_vault_nothing(world: World) -> None:
    vault, key = world.one_vault()
    other = vault.create("other-key")
    async with world.running():
        refused = await world.register(key, count=40)
        accounts = await world.register(other, first=100, count=40)
        await adopt(world, vault, key)
        begun = world.now
        vault.strike(RefusalKind.ACCESS_DENIED, "wrapKey", version=vault.key().newest.id)
        await adopt(world, vault, other)
        for account in accounts:
            await world.until_told(account, REWRAPPED, within=3)
        await asyncio.sleep(10 * MINUTE)
        asked = [call for call in vault.called("wrapKey", since=begun) if call.outcome == RefusalKind.ACCESS_DENIED]
        assert len(asked) < 30
        told = [event for account in refused for event in world.told(account, FAILED)]
        assert told
        assert all(event["data"]["targetKeyIdentifier"].endswith(vault.key().newest.id) for event in told)
        assert {await world.state(account) for account in refused} == {State.ACCESSIBLE}


async def test_refusal_met_by_a_rewrap_rings_for_a_check_and_is_no_verdict_itself(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=200)
        await adopt(world, vault, key)
        vault.disable(version=0)
        begun = world.now
        last = accounts[-1]
        told = await world.until_told(last, INACCESSIBLE, within=8)
        assert told["at"] - begun > 5, "confirmed, as any other"
        refused = [call for call in vault.called("unwrapKey", since=begun) if not call.probe and call.outcome != "ok"]
        assert len(refused) <= 2 * world.settings.rewrap.vault_concurrency
        vault.enable()
        await world.until(lambda: done(world), within=MINUTE)
        await world.until_told(last, "byokd.account.accessible", within=10)
        await world.assert_converged()


async def test_one_odd_refusal_changes_no_state(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=3)
        await adopt(world, vault, key)
        vault.strike(RefusalKind.ACCESS_DENIED, "wrapKey", count=1)
        await world.until(lambda: done(world), within=30)
        await asyncio.sleep(2 * MINUTE)
        assert not [event for account in accounts for event in world.told(account, INACCESSIBLE)]


async def test_damaged_records_are_named_and_the_rest_go_on(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=120)
        damaged = accounts[:10]
        kept = {account: await world.sql.wrapped_key(account) for account in damaged}

        async def write(account: AccountId, sealed: bytes) -> None:
            row = update(account_keys).where(account_keys.c.account == str(account)).values(sealed=sealed)
            await world.sql._runner.write(lambda c: c.execute(row))

        for account in damaged:
            await write(account, b"damaged")
        await asyncio.sleep(MINUTE)
        vault.rotate()
        for account in accounts[10:]:
            await world.until_told(account, REWRAPPED, within=75)
        assert await waiting(world) == len(damaged)
        await asyncio.sleep(15 * MINUTE)
        for account in damaged:
            told = world.told(account, FAILED)
            assert [event["data"]["attempt"] for event in told] == [1, 2, 4]
            assert all(event["data"]["failure"] for event in told)
            wrapped = kept[account]
            assert wrapped is not None
            await write(account, wrapped.sealed.data)
        await world.until(lambda: done(world), within=11 * MINUTE)
        await world.assert_converged()


@pytest.mark.parametrize("service_key", ["open", "seal"])
async def test_service_key_that_is_missing_is_our_fault_and_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, service_key: str
) -> None:
    vault, key = world.one_vault()

    def missing(*_: object, **__: object) -> bytes:
        raise ServiceKeyMissingError("the storage key 1 is not there")

    async with world.running():
        accounts = await world.register(key, count=5)
        before = await secrets_of(world, accounts)
        with monkeypatch.context() as patch:
            patch.setattr(type(world.sealer), service_key, missing)
            await asyncio.sleep(MINUTE)
            vault.rotate()
            await asyncio.sleep(5 * MINUTE)
            assert world.is_alive()
            assert await waiting(world) == len(accounts)
            assert all(world.told(account, FAILED) for account in accounts)
        await world.until(lambda: done(world), within=11 * MINUTE)
        assert await secrets_of(world, accounts) == before
        assert not [event for account in accounts for event in world.told(account, INACCESSIBLE)]


async def test_defect_is_logged_and_the_account_tried_again(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await adopt(world, vault, key)
        vault.strike(Mishap.DEFECT, "wrapKey", count=1)
        await world.until_told(account, REWRAPPED, within=30)
        assert world.is_alive()
        (logged,) = [entry for entry in world.logs if entry["event"] == "rewrap-broken-off"]
        assert logged["account"] == str(account)
        (told,) = world.told(account, FAILED)
        assert "nobody thought of" not in told["data"]["failure"]


async def test_version_that_vanished_before_it_could_prove_itself_is_not_adopted(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.rotate()
        gone = vault.key().newest
        vault.strike(RefusalKind.NOT_FOUND, "wrapKey", version=gone.id)
        await asyncio.sleep(3 * MINUTE)
        assert (await world.watch(key)).current_version.version == vault.key().versions[0].id
        assert not world.told(account)[1:]


async def test_vault_that_lost_the_newest_version_for_a_while_costs_no_key(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=200)
        before = await secrets_of(world, accounts)
        await adopt(world, vault, key)

        async def some_are_moved() -> bool:
            return 50 < await waiting(world) < 150

        await world.until(some_are_moved, within=10)
        lost = vault.key().versions.pop()
        await asyncio.sleep(30 * MINUTE)
        left = await waiting(world)
        assert (await world.sql.census()).accounts[State.INACCESSIBLE] == len(accounts) - left
        assert not world.told_of_key(key, "byokd.key.version-retired"), "the previous wraps may be all that is left"
        vault.key().versions.append(lost)
        await world.until(lambda: done(world), within=7 * MINUTE)
        await world.until(lambda: all_accessible(world), within=MINUTE)
        assert await secrets_of(world, accounts) == before
        await world.assert_converged()


async def all_accessible(world: World) -> bool:
    return all(account.state is State.ACCESSIBLE for account in await world.sql.accounts())


@pytest.mark.parametrize("ending", ["stop", "crash"])
async def test_rewrap_that_is_ended_in_the_middle_is_done_after_the_next_start(world: World, ending: str) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=60)
        before = await secrets_of(world, accounts)
        await adopt(world, vault, key)
        vault.latency = 1.0
        for _ in range(4):
            await asyncio.sleep(3.5)
            assert await waiting(world) > 0
            await (world.stop() if ending == "stop" else world.crash())
            await world.start()
        vault.latency = 0.02
        await world.until(lambda: done(world), within=80)
        assert await secrets_of(world, accounts) == before
        assert [len(world.told(account, REWRAPPED)) for account in accounts] == [1] * len(accounts)
        await world.assert_converged()


@pytest.mark.parametrize("change", ["deleted", "another key", "system key"])
async def test_account_that_changes_in_the_middle_of_its_rewrap_stays_as_it_was_changed(
    world: World, change: str
) -> None:
    vault, key = world.one_vault()
    _, other_key = world.one_vault("fabrikam")
    async with world.running():
        (account,) = await world.register(key)
        before = await secrets_of(world, [account])
        await adopt(world, vault, key)
        vault.strike(Mishap.SLOW, "wrapKey", count=1)
        begun = world.now
        await asyncio.sleep(1)
        if change == "deleted":
            assert await world.service.registrar.delete(account)
        else:
            wanted = other_key if change == "another key" else None
            result = await world.service.registrar.apply(spec_of(1, wanted))
            assert result.action is Action.UPDATED
        assert vault.running > 0, "the rewrap is still on its way"
        await asyncio.sleep(20)
        late = [call for call in vault.called("wrapKey", since=begun) if not call.probe and call.outcome == "ok"]
        assert late, "the vault did wrap, and the result was thrown away"
        if change == "deleted":
            assert await world.sql.account(account) is None
        else:
            current = (await world.account(account)).current
            assert (None if current is None else current.host) == (None if wanted is None else wanted.host)
            assert await secrets_of(world, [account]) == before
        assert not world.told(account, REWRAPPED)
        assert not world.told(account, FAILED)
        await world.assert_converged()


async def test_two_rewrappers_over_one_store_move_each_key_once(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=50)
        before = await secrets_of(world, accounts)
        service = world._new_service()
        rival = asyncio.create_task(service.rewrapper.run())
        await adopt(world, vault, key)
        service.rewrapper.notify()
        await world.until(lambda: done(world), within=75)
        rival.cancel()
        assert [(await world.account(account)).generation for account in accounts] == [2] * len(accounts)
        for account in accounts:
            await world.until_told(account, REWRAPPED, within=2)
        await asyncio.sleep(5)
        assert [len(world.told(account, REWRAPPED)) for account in accounts] == [1] * len(accounts)
        assert await secrets_of(world, accounts) == before
        wraps = [call for call in vault.called("wrapKey") if call.version == vault.key().newest.id and not call.probe]
        assert len(wraps) > len(accounts), "they did race"
        await world.assert_converged()
