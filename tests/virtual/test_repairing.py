"""An operator gives an Inaccessible account another identity or tenant: only if that one unwraps its key now."""

import asyncio
from collections.abc import Callable

import pytest

from byokd.domain.accounts import AccountSpec, instant
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId
from byokd.domain.vocabulary import State
from byokd.ports import KeyTarget
from byokd.runtime.registrar import Action, Result
from virtual.registering import IDENTITIES, OTHERS, SETTINGS, SHARED, SPARE, apply, contents, spec_with, vault_of
from virtual.using import protect, reveal
from virtual.vaults import IDENTITY, OPERATIONS, TENANT, Vault
from virtual.world import MINUTE, World, account_id

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

LOST = 3 * MINUTE
SETTLED = 25 * MINUTE
"""After which the former wrap is erased, and its watch with it."""


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=SETTINGS)


async def lost(world: World, vault: Vault, key: KeyIdentifier) -> AccountId:
    """An account whose identity was taken its rights."""
    (account,) = await world.register(key)
    vault.revoke()
    await world.until_told_state(account, State.INACCESSIBLE, within=LOST)
    return account


async def repair(
    world: World, account: AccountId, *, identity: IdentityName | None = None, tenant: TenantId | None = None
) -> Result:
    return await world.service.repairer.repair(await world.account(account), identity=identity, tenant=tenant)


async def refused(
    world: World, account: AccountId, *, identity: IdentityName | None = None, tenant: TenantId | None = None
) -> str:
    before = await contents(world)
    result = await repair(world, account, identity=identity, tenant=tenant)
    assert result.action is Action.REFUSED, result
    assert result.hint
    assert await contents(world) == before
    return result.message


async def test_another_identity_that_unwraps_the_key_gives_the_account_back(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.revoke()
        await world.until_told_state(account, State.INACCESSIBLE, within=LOST)
        before = await world.account(account)
        result = await repair(world, account, identity=SPARE)
        assert (result.action, result.message) == (Action.REPAIRED, "")
        after = await world.account(account)
        assert (after.state, after.spec.identity, after.generation) == (State.ACCESSIBLE, SPARE, before.generation + 1)
        assert await reveal(world, account)
        await world.until_told_state(account, State.ACCESSIBLE, within=5)
        updated, accessible = world.told(account)[-2:]
        assert (updated["type"], updated["data"]["changed"]) == ("byokd.account.updated", "encryption,identity")
        assert (accessible["type"], accessible["data"]["previousState"]) == ("byokd.account.accessible", "Inaccessible")
        looked = len(vault.calls)
        await world.until(lambda: _looked_at(vault, looked), within=2 * MINUTE)
        vault.grants[SPARE] = frozenset()
        await world.until_told_state(account, State.INACCESSIBLE, within=LOST)
        vault.grants[SPARE] = OPERATIONS
        await world.until_told_state(account, State.ACCESSIBLE, within=LOST)
        await world.stop()
        (line,) = [entry for entry in world.logs if entry["event"] == "identity-repaired"]
        assert (line["account"], line["identity"], line["tenant"]) == (str(account), SPARE, None)


async def _looked_at(vault: Vault, calls: int) -> bool:
    return len(vault.calls) > calls


async def test_a_vault_that_moved_to_another_tenant_is_followed_by_its_account(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        (account,) = await world.register(key)
        vault.move(OTHERS)
        await world.until_told_state(account, State.INACCESSIBLE, within=LOST)
        assert "another tenant" in await refused(world, account, identity=SPARE)
        result = await repair(world, account, tenant=OTHERS)
        assert result.action is Action.REPAIRED, result
        after = await world.account(account)
        assert (after.spec.tenant, after.spec.identity, after.state) == (OTHERS, IDENTITY, State.ACCESSIBLE)
        told = await world.until_told(account, "byokd.account.updated", within=5)
        assert told["data"]["changed"] == "encryption,tenant"
        await asyncio.sleep(SETTLED)
        assert await _is_unwatched(world, key)
        assert await world.state(account) is State.ACCESSIBLE
        (mine,) = await apply(world, spec_with(2, key))
        assert mine.action is Action.REFUSED, "the identity went with the account"


async def test_an_account_joins_the_watch_that_the_other_identity_has_already(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        account = await lost(world, vault, key)
        assert (await apply(world, spec_with(2, key, SPARE)))[0].action is Action.CREATED
        assert (await repair(world, account, identity=SPARE)).action is Action.REPAIRED
        first, second = await world.account(account), await world.account(account_id(2))
        assert (first.watch, first.wrapping_version) == (second.watch, second.wrapping_version)
        vault.grant()
        await asyncio.sleep(SETTLED)
        assert await _is_unwatched(world, key)


async def test_an_account_is_well_since_it_joined_a_watch_and_not_since_that_is_well(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        await apply(world, spec_with(2, key, SPARE))
        await asyncio.sleep(SETTLED)
        account = await lost(world, vault, key)
        lost_at = (await world.account(account)).since
        assert (await repair(world, account, identity=SPARE)).action is Action.REPAIRED
        found = (await world.account(account)).since
        assert found > lost_at
        await world.until_told_state(account, State.ACCESSIBLE, within=5)
        assert world.told(account)[-1]["data"]["since"] == instant(found)


async def _is_unwatched(world: World, key: KeyIdentifier) -> bool:
    return await world.sql.find_watch(KeyTarget(IDENTITY, TENANT, key)) is None


async def test_a_requirement_that_the_vault_lost_does_not_keep_an_account_closed(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        account = await lost(world, vault, key)
        vault.key().recovery_level = "Purgeable"
        result = await repair(world, account, identity=SHARED)
        assert result.action is Action.REPAIRED, "what unwraps the account key needs no tag: it is the account's"
        assert [one.partition(":")[0] for one in result.warnings] == ["PurgeProtectionOff"]


async def test_who_does_not_unwrap_the_present_key_is_refused(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        account = await lost(world, vault, key)
        vault.grants[SPARE] = frozenset({"get", "wrapKey"})
        said = await refused(world, account, identity=SPARE)
        assert said == f"the vault refuses the identity {SPARE}: it lacks the permission unwrapKey"
        vault.grants[SPARE] = frozenset({"unwrapKey"})
        assert "lacks the permission get" in await refused(world, account, identity=SPARE)
        vault.grants[SPARE] = OPERATIONS
        vault.disable()
        assert "the key version is disabled" in await refused(world, account, identity=SPARE)
        vault.enable()
        vault.delete()
        assert "no such key" in await refused(world, account, identity=SPARE)
        vault.recover()
        assert (await repair(world, account, identity=SPARE)).action is Action.REPAIRED


async def test_what_is_not_lost_or_another_customers_is_not_repaired(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    _, other_key = vault_of(world, "fabrikam", OTHERS)
    async with world.running():
        (account,) = await world.register(key)
        system = AccountSpec(account_id(8), TENANT, "westeurope", None)
        others = spec_with(9, other_key, SPARE, OTHERS)
        assert [one.action for one in await apply(world, system, others)] == [Action.CREATED] * 2
        assert "the account works" in await refused(world, account, identity=SHARED)
        assert "no customer key" in await refused(world, system.id, identity=SHARED)
        vault.revoke()
        await world.until_told_state(account, State.INACCESSIBLE, within=LOST)
        assert "already" in await refused(world, account)
        assert "already" in await refused(world, account, identity=IDENTITY, tenant=TENANT)
        asked = len([call for call in vault.calls if call.way == "kept"])
        assert "serves accounts of another customer" in await refused(world, account, identity=SPARE)
        assert len([call for call in vault.calls if call.way == "kept"]) == asked
        assert IDENTITIES[SPARE].shared is False
