"""Vaults that lose what was wanted of them: a warning and an event, and nothing else, over restarts."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.accounts import CustomerKey
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.properties import VaultProperties
from byokd.domain.vocabulary import State, WarningKind
from byokd.ports import KeyTarget
from byokd.runtime.registrar import Action
from byokd.runtime.requirements import MOST_ASKED
from byokd.settings import ArmSettings, Settings
from virtual.using import number
from virtual.vaults import IDENTITY, OPERATIONS, TENANT
from virtual.world import HOUR, MINUTE, World, spec_of, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

OTHERS, SPARE = TenantId("99999999-2222-3333-4444-555555555555"), IdentityName("spare")
GOOD = VaultProperties("westeurope", soft_delete=True, purge_protection=True)
ELSEWHERE = VaultProperties("eastus", soft_delete=True, purge_protection=True)
SOON = timedelta(minutes=20)
"""In place of a day, which would be thousands of polls."""

MakeWorld = Callable[..., World]


class Registry:
    """What ARM tells, as told, and who asked when."""

    def __init__(self, world: World) -> None:
        self.told: VaultProperties | None = GOOD
        self.asked: list[tuple[float, KeyTarget]] = []
        self._world = world

    async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:
        assert subscription == spec_of(1, None).id.subscription
        self.asked.append((self._world.now, target))
        return self.told

    def hosts(self, *, since: float = 0.0) -> list[VaultHost]:
        return [target.key.host for at, target in self.asked if at >= since]


def with_arm(make_world: MakeWorld, *, interval: timedelta = SOON, enabled: bool = True) -> tuple[World, Registry]:
    world = make_world(settings=Settings(arm=ArmSettings(enabled=enabled, interval=interval)))
    registry = Registry(world)
    world.registry = registry
    return world, registry


async def kinds(world: World, key: KeyIdentifier) -> set[WarningKind]:
    return {warning.kind for warning in (await world.watch(key)).warnings}


def told(world: World, key: KeyIdentifier) -> list[str]:
    return [event["type"].removeprefix("byokd.key.") for event in world.bus.told_of_key(key)]


async def test_once_a_day_is_the_pace() -> None:
    assert ArmSettings().interval == timedelta(days=1)


async def test_a_region_lost_later_is_one_event_over_restarts_and_clears_when_it_is_right_again(
    make_world: MakeWorld,
) -> None:
    world, registry = with_arm(make_world)
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(10 * MINUTE)
        assert told(world, key) == []
        registry.told = ELSEWHERE
        for _ in range(3):
            await asyncio.sleep(SOON.total_seconds())
            await world.restart()
        assert told(world, key) == ["vault-elsewhere"]
        (event,) = world.bus.told_of_key(key)
        committed = datetime.fromisoformat(event["time"]) - world.clock.now()
        assert event["at"] - world.now - committed.total_seconds() < 0.1, "at once"
        assert event["data"]["message"] == "the vault is in the region eastus, accounts with this key are in westeurope"
        assert await kinds(world, key) == {WarningKind.VAULT_ELSEWHERE}
        assert number(world, "byokd_warnings", kind="VaultElsewhere") == 1
        assert await world.state(account) is State.ACCESSIBLE
        registry.told = GOOD
        await asyncio.sleep(2 * SOON.total_seconds())
        assert await kinds(world, key) == set()
        registry.told = ELSEWHERE
        await asyncio.sleep(2 * SOON.total_seconds())
        assert told(world, key) == ["vault-elsewhere"] * 2
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]


async def test_soft_delete_lost_later_is_told_and_costs_nobody_anything(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world)
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(5 * MINUTE)
        registry.told = VaultProperties("westeurope", soft_delete=False, purge_protection=True)
        await asyncio.sleep(2 * SOON.total_seconds())
        assert told(world, key) == ["soft-delete-off"]
        assert await kinds(world, key) == {WarningKind.SOFT_DELETE_OFF}
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]


async def test_where_arm_is_not_readable_nothing_is_claimed_and_nothing_changes(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world)
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        registry.told = None
        await asyncio.sleep(3 * SOON.total_seconds())
        assert told(world, key) == []
        registry.told = ELSEWHERE
        await asyncio.sleep(2 * SOON.total_seconds())
        registry.told = None
        await asyncio.sleep(3 * SOON.total_seconds())
        assert await kinds(world, key) == {WarningKind.VAULT_ELSEWHERE}
        assert told(world, key) == ["vault-elsewhere"]


async def test_without_leave_nobody_is_asked(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world, enabled=False)
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        registered = len(registry.asked)
        await asyncio.sleep(2 * SOON.total_seconds())
        assert len(registry.asked) == registered


async def test_a_reload_may_let_arm_be_asked_and_may_take_that_back(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world, enabled=False)
    _, key = world.one_vault()
    without, allowed = world.settings, Settings(arm=ArmSettings(enabled=True, interval=SOON))
    async with world.running():
        await world.register(key)
        await world.reload(allowed)
        begun, registry.told = world.now, ELSEWHERE
        await asyncio.sleep(2 * MINUTE)
        assert registry.hosts(since=begun) == [key.host]
        await world.reload(without)
        begun, registry.told = world.now, GOOD
        await asyncio.sleep(2 * SOON.total_seconds())
        assert registry.hosts(since=begun) == []
        assert await kinds(world, key) == {WarningKind.VAULT_ELSEWHERE}, "nobody can tell that it is gone"


async def test_each_vault_is_asked_about_once_in_an_interval_one_after_the_other_and_not_sooner_for_a_restart(
    make_world: MakeWorld,
) -> None:
    world, registry = with_arm(make_world, interval=timedelta(hours=1))
    keys = [world.one_vault(f"vault{count:02d}")[1] for count in range(10)]
    async with world.running():
        for first, key in enumerate(keys, start=1):
            await world.register(key, first=first)
        begun = world.now
        for _ in range(4):
            await asyncio.sleep(HOUR / 8)
            await world.restart()
        asked = [at for at, _ in registry.asked if at >= begun]
        assert sorted(registry.hosts(since=begun)) == sorted(key.host for key in keys)
        apart = [late - early for early, late in pairwise(asked)]
        assert sum(wait < MINUTE - 1 for wait in apart) <= 4, "spread out, but that a restart begins with a turn"
        before = len(registry.asked)
        await asyncio.sleep(HOUR)
        assert len(registry.asked) - before == len(keys)


async def test_with_many_vaults_all_have_their_turn_in_half_the_interval(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world, interval=timedelta(minutes=8))
    keys = [world.one_vault(f"vault{count:02d}")[1] for count in range(10)]
    async with world.running():
        for first, key in enumerate(keys, start=1):
            await world.register(key, first=first)
        begun = world.now
        await asyncio.sleep(MINUTE + 4.2 * MINUTE)
        assert set(registry.hosts(since=begun + 1)) == {key.host for key in keys}


async def test_no_more_than_a_few_identities_ask_about_a_vault_but_each_has_its_turn_some_day(
    make_world: MakeWorld,
) -> None:
    world, registry = with_arm(make_world)
    vault = world.vaults.make("contoso")
    keys = [vault.create(f"key{count}") for count in range(7)]
    async with world.running():
        for first, key in enumerate(keys, start=1):
            await world.register(key, first=first)
        await asyncio.sleep(5 * MINUTE)
        registry.told, begun = None, world.now
        await asyncio.sleep(SOON.total_seconds())
        assert len(registry.hosts(since=begun)) == MOST_ASKED
        await asyncio.sleep(20 * SOON.total_seconds())
        assert {target.key for at, target in registry.asked if at >= begun} == set(keys)


async def test_what_one_key_of_a_vault_finds_out_goes_for_all_of_its_keys(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world)
    vault = world.vaults.make("contoso")
    keys = [vault.create(f"key{count}") for count in range(3)]
    async with world.running():
        for first, key in enumerate(keys, start=1):
            await world.register(key, first=first)
        await asyncio.sleep(5 * MINUTE)
        registry.told, begun = ELSEWHERE, world.now
        await asyncio.sleep(1.5 * SOON.total_seconds())
        assert len(registry.hosts(since=begun)) == 1
        assert [told(world, key) for key in keys] == [["vault-elsewhere"]] * 3


async def test_an_account_whose_location_is_corrected_is_looked_at_soon(make_world: MakeWorld) -> None:
    world, registry = with_arm(make_world, interval=timedelta(days=1))
    _, key = world.one_vault()
    async with world.running():
        registry.told = None
        await world.register(key)
        await asyncio.sleep(5 * MINUTE)
        registry.told = ELSEWHERE
        assert await kinds(world, key) == set(), "nobody could tell"
        result = await world.service.registrar.apply(replace(spec_of(1, key), location="eastus"))
        assert result.action is Action.UPDATED
        await asyncio.sleep(2 * MINUTE)
        assert registry.hosts(since=5 * MINUTE)[1:] == [key.host], "after the registrar itself"
        assert await kinds(world, key) == set()


async def test_a_check_that_writes_meanwhile_costs_a_turn_and_nothing_else(make_world: MakeWorld) -> None:
    world, _ = with_arm(make_world)
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(5 * MINUTE)

        class Meddling(Registry):
            async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:
                if not self.asked:
                    vault.key().recovery_level = "Recoverable+Purgeable"
                    await world.service.scheduler.check_now((await world.watch(key)).id)
                return await super().vault(target, subscription=subscription)

        meddling = Meddling(world)
        meddling.told = ELSEWHERE
        world.service.requirements._registry = meddling
        await asyncio.sleep(1.5 * SOON.total_seconds())
        assert len(meddling.asked) == 2
        assert sorted(told(world, key)) == ["purge-protection-off", "vault-elsewhere"]
        assert await kinds(world, key) == {WarningKind.PURGE_PROTECTION_OFF, WarningKind.VAULT_ELSEWHERE}


async def test_what_one_tenants_identity_reads_is_no_word_about_the_other_tenants_keys(make_world: MakeWorld) -> None:
    world, _ = with_arm(make_world)
    vault, key = world.one_vault()

    class OfOthers(Registry):
        async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:
            told = await super().vault(target, subscription=subscription)
            return told if target.tenant == OTHERS else None

    world.registry = registry = OfOthers(world)
    async with world.running():
        await world.register(key)
        vault.grants[SPARE] = OPERATIONS
        vault.move(OTHERS)
        moved = replace(spec_of(2, key), tenant=OTHERS, customer_key=CustomerKey(SPARE, key))
        assert (await world.service.registrar.apply(moved)).action is Action.CREATED
        registry.told = ELSEWHERE
        await asyncio.sleep(2 * SOON.total_seconds())
        assert {(target.identity, target.tenant) for _, target in registry.asked} == {
            (IDENTITY, TENANT),
            (SPARE, OTHERS),
        }
        assert await kinds(world, key) == set()
        theirs = await world.sql.find_watch(KeyTarget(SPARE, OTHERS, key))
        assert theirs is not None
        assert [warning.kind for warning in theirs.warnings] == [WarningKind.VAULT_ELSEWHERE]


UNSAFE = VaultProperties("eastus", soft_delete=False, purge_protection=True)
KINDS = {
    GOOD: frozenset[WarningKind](),
    ELSEWHERE: frozenset({WarningKind.VAULT_ELSEWHERE}),
    UNSAFE: frozenset({WarningKind.VAULT_ELSEWHERE, WarningKind.SOFT_DELETE_OFF}),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*KINDS, None]), st.sampled_from(["wait", "restart", "fail", "fail after the commit"])),
    min_size=1,
    max_size=7,
)


@given(steps=STEPS)
@settings(max_examples=15)
def test_whatever_arm_tells_and_whatever_fails_each_loss_is_one_event_and_no_account_hears_of_it(
    service_keys: Path, steps: list[tuple[VaultProperties | None, str]]
) -> None:
    async def scenario() -> None:
        often = timedelta(minutes=4)
        world = World(service_keys, settings=Settings(arm=ArmSettings(enabled=True, interval=often)))
        world.registry = registry = Registry(world)
        _, key = world.one_vault()
        present, events = frozenset[WarningKind](), 0
        async with world.running():
            (account,) = await world.register(key)
            for told_now, happens in steps:
                registry.told = told_now
                if happens == "restart":
                    await world.restart()
                elif happens != "wait":
                    world.store.fail_next, world.store.after = "commit_decision", happens != "fail"
                await asyncio.sleep(2.5 * often.total_seconds())
                world.store.fail_next, world.store.after = "", False
                found = present if told_now is None else KINDS[told_now]
                events += len(found - present)
                present = found
                assert await kinds(world, key) == present
                assert len(told(world, key)) == events
            assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]
        world.close()

    virtually(scenario())
