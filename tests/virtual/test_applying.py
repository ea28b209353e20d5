"""An apply of many accounts: their order, vaults that do not answer, a store that fails half-way."""

import pytest

from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import IdentityName, KeyIdentifier
from byokd.domain.vocabulary import Reason
from byokd.runtime.applying import VAULTS_AT_ONCE, apply_all
from byokd.runtime.registrar import Action, Result
from byokd.settings import RegistrationSettings
from virtual.vaults import IDENTITY, Mishap, Vault
from virtual.world import World, account_id, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

DEADLINE = RegistrationSettings().deadline.total_seconds()


async def apply(world: World, specs: list[AccountSpec]) -> tuple[list[Result], float]:
    """Apply; give the results, which must be in the order of the file, and the seconds that it took."""
    begun = world.now
    wait = world.settings.registration.wait_for_grant
    results = await apply_all(world.service.registrar, specs, clock=world.clock, wait_for_grant=wait)
    assert [result.account for result in results] == [spec.id for spec in specs]
    return results, world.now - begun


def actions(results: list[Result]) -> list[Action]:
    return [result.action for result in results]


def many_vaults(world: World, count: int) -> list[tuple[Vault, KeyIdentifier]]:
    return [world.one_vault(f"vault{number:02d}") for number in range(count)]


async def test_accounts_of_one_vault_come_one_after_the_other_and_vaults_side_by_side(world: World) -> None:
    vaults = many_vaults(world, VAULTS_AT_ONCE)
    async with world.running():
        specs = [spec_of(number, vaults[number % len(vaults)][1]) for number in range(2 * len(vaults))]
        specs.append(spec_of(len(specs), None))
        results, took = await apply(world, specs)
        assert set(actions(results)) == {Action.CREATED}
        wraps = [vault.called("wrapKey") for vault, _ in vaults]
        assert {len(calls) for calls in wraps} == {3}
        assert took < 3 * 7 * vaults[0][0].latency
        assert [await world.account(spec.id) for spec in specs]


async def test_at_most_sixteen_vaults_are_waited_for_at_once(world: World) -> None:
    vaults = many_vaults(world, 2 * VAULTS_AT_ONCE)
    async with world.running():
        for vault, _ in vaults:
            vault.strike(Mishap.HANG)
        results, took = await apply(world, [spec_of(number, key) for number, (_, key) in enumerate(vaults)])
        assert set(actions(results)) == {Action.REFUSED}
        assert took == pytest.approx(2 * DEADLINE, abs=0.5)
        assert world.vaults.most_running == VAULTS_AT_ONCE


async def test_a_hanging_vault_costs_one_deadline_whatever_the_number_of_its_accounts(world: World) -> None:
    vault, key = world.one_vault()
    _, other = world.one_vault("other")
    async with world.running():
        vault.strike(Mishap.HANG)
        specs = [spec_of(number, key) for number in range(1000)]
        results, took = await apply(world, [*specs, spec_of(1000, other)])
        assert actions(results) == [*[Action.REFUSED] * 1000, Action.CREATED]
        assert took == pytest.approx(DEADLINE, abs=0.5)
        assert results[0].message == "look at the key: the vault did not answer: TimedOut"
        assert {result.message for result in results[1:1000]} == {"not tried: the vault did not answer a moment ago"}
        assert {result.hint for result in results[1:1000]} == {"nothing was changed; apply again when it answers"}
        vault.heal()
        again, _ = await apply(world, specs[:3])
        assert actions(again) == [Action.CREATED] * 3


async def test_what_does_not_need_a_silent_vault_is_done_all_the_same(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key, first=1, count=3)
        vault.strike(Mishap.HANG)
        moved = AccountSpec(account_id(2), spec_of(2, key).tenant, "northeurope", spec_of(2, key).customer_key)
        results, _ = await apply(world, [spec_of(4, key), spec_of(1, key), moved, spec_of(5, key), spec_of(6, None)])
        assert actions(results) == [
            Action.REFUSED,
            Action.UNCHANGED,
            Action.UPDATED,
            Action.REFUSED,
            Action.CREATED,
        ]


async def test_the_vault_that_an_account_leaves_is_the_one_that_was_silent(world: World) -> None:
    old, old_key = world.one_vault("old")
    _, new_key = world.one_vault("new")
    async with world.running():
        await world.register(old_key, first=1, count=4)
        old.strike(Mishap.HANG)
        specs = [*(spec_of(number, new_key) for number in (1, 2, 5)), spec_of(3, None), spec_of(4, None)]
        results, took = await apply(world, specs)
        assert actions(results) == [
            Action.REFUSED,
            Action.REFUSED,
            Action.CREATED,
            Action.REFUSED,
            Action.REFUSED,
        ]
        assert took < DEADLINE + 1


async def test_a_refusal_is_not_silence(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        results, _ = await apply(world, [spec_of(1, KeyIdentifier(key.host, "absent")), spec_of(2, key)])
        assert actions(results) == [Action.REFUSED, Action.CREATED]
        assert len(vault.called("get")) == 2


async def test_without_a_token_only_that_identity_is_given_up(world: World) -> None:
    vault, key = world.one_vault()
    _, other = world.one_vault("other")
    vault.grants[IdentityName("second")] = vault.grants[IDENTITY]
    async with world.running():
        vault.strike(Reason.TOKEN_UNAVAILABLE, count=1)
        second = spec_of(3, key)
        assert second.customer_key is not None
        by_second = AccountSpec(
            second.id, second.tenant, second.location, type(second.customer_key)(IdentityName("second"), key)
        )
        results, _ = await apply(world, [spec_of(1, key), spec_of(2, key), by_second])
        assert actions(results) == [Action.REFUSED, Action.REFUSED, Action.CREATED]
        assert results[1].message == "not tried: there was no token for the identity a moment ago"
        later, _ = await apply(world, [spec_of(4, other)])
        assert actions(later) == [Action.CREATED]


async def test_a_store_that_fails_half_way_loses_no_result(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key, count=1)
        specs = [spec_of(number, key) for number in range(1, 7)]
        original = world.store._store.create_account
        made: list[object] = []

        async def create_account(*args: object, **kwargs: object) -> object:
            if len(made) == 2:
                world.store.fail_all = True
                raise world.store._trouble("create_account")
            made.append(args)
            return await original(*args, **kwargs)

        world.store._store.create_account = create_account  # type: ignore[method-assign, assignment]
        try:
            results, _ = await apply(world, specs)
        finally:
            world.store.fail_all = False
            world.store._store.create_account = original  # type: ignore[method-assign]
        assert actions(results) == [Action.UNCHANGED, *[Action.CREATED] * 2, *[Action.REFUSED] * 3]
        assert results[3].message == "perhaps not applied: the disk is full"
        assert {result.message for result in results[4:]} == {"not tried: the disk is full"}
        assert {result.hint for result in results[3:]} == {"make room; then apply again"}
        asked = len(vault.called("wrapKey"))
        again, _ = await apply(world, specs)
        assert actions(again) == [*[Action.UNCHANGED] * 3, *[Action.CREATED] * 3]
        assert len(vault.called("wrapKey")) > asked
