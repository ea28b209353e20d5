"""Denials and recoveries: how soon they are told, and what is no denial."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.vocabulary import Reason, RefusalKind, State
from virtual.vaults import Mishap, Vault
from virtual.world import MINUTE, World, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

INACCESSIBLE, ACCESSIBLE = "byokd.account.inaccessible", "byokd.account.accessible"
BOUND = 81.0


def remake(vault: Vault) -> None:
    vault.key().versions.clear()
    vault.create()


def delete_while_busy(vault: Vault) -> None:
    vault.delete()
    vault.strike(Reason.THROTTLED, "get")


def forbid(vault: Vault) -> None:
    vault.key().newest.operations = frozenset({"wrapKey"})


REVOCATIONS: dict[str, tuple[Callable[[Vault], None], Reason]] = {
    "disabled": (Vault.disable, Reason.KEY_DISABLED),
    "deleted": (Vault.delete, Reason.KEY_NOT_FOUND),
    "deleted, and GET is throttled": (delete_while_busy, Reason.KEY_NOT_FOUND),
    "made anew": (remake, Reason.KEY_VERSION_NOT_FOUND),
    "revoked": (Vault.revoke, Reason.ACCESS_DENIED),
    "operation forbidden": (forbid, Reason.KEY_OPERATION_NOT_PERMITTED),
    "another value": (lambda vault: vault.strike(Mishap.WRONG_VALUE, "unwrapKey"), Reason.PROBE_MISMATCH),
}


@settings(max_examples=20)
@given(
    kind=st.sampled_from(sorted(REVOCATIONS)),
    phase=st.floats(1, 200),
    seed=st.integers(0, 2**16),
    latency=st.sampled_from((0.005, 0.3, 1.2)),
)
def test_revocation_is_told_within_81_seconds_and_never_by_one_denial(
    service_keys: Path, kind: str, phase: float, seed: int, latency: float
) -> None:
    revoke, reason = REVOCATIONS[kind]

    async def scenario() -> None:
        vault, key = world.one_vault()
        vault.latency = latency
        async with world.running():
            (account,) = await world.register(key)
            await asyncio.sleep(phase)
            begun = world.now
            revoke(vault)
            event = await world.until_told(account, INACCESSIBLE, within=BOUND + 1)
            assert event["at"] - begun <= BOUND
            assert event["data"]["reason"] == reason
            # Made anew between the two calls of a check, a key looks rotated: then a rewrap meets the first denial.
            called = [call for call in vault.called("unwrapKey", since=begun - 5) if call.way != "kept"]
            denials = [call for call in called if call.outcome != "ok"]
            assert len(denials) == 2
            first, second = denials
            assert second.time - first.time >= 5
            assert (first.way, second.way) == ("probe", "fresh")
            await world.assert_converged(keys_open=False)

    world = World(service_keys, seed=seed)
    virtually(scenario())
    world.close()


@pytest.mark.parametrize("kind", list(RefusalKind))
async def test_one_odd_denial_changes_nothing(world: World, kind: RefusalKind) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        for _ in range(3):
            vault.strike(kind, "unwrapKey", count=1)
            await asyncio.sleep(2 * MINUTE)
            assert not vault.faults
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]
        assert [call.way for call in vault.called("unwrapKey") if call.outcome == "ok" and call.way == "fresh"]
        await world.assert_converged()


async def test_network_rules_count_only_after_five_minutes(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.blocked = True
        begun = world.now
        event = await world.until_told(account, INACCESSIBLE, within=7 * MINUTE)
        assert 5 * MINUTE <= event["at"] - begun <= 5 * MINUTE + BOUND
        assert event["data"]["reason"] == Reason.NETWORK_BLOCKED


async def test_rechecks_come_after_10_s_doubling_to_5_min_and_recovery_is_told_at_the_next(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        denied = (await world.until_told(account, INACCESSIBLE, within=BOUND))["at"]
        await asyncio.sleep(30 * MINUTE)
        times = [call.time for call in vault.called("unwrapKey", since=denied)]
        gaps = [later - sooner for sooner, later in zip([denied, *times], times, strict=False)]
        assert gaps[:7] == pytest.approx([10, 10, 20, 40, 80, 160, 300], abs=2)
        assert gaps[7:] == pytest.approx([300] * len(gaps[7:]), abs=2)

        vault.enable()
        begun = world.now
        event = await world.until_told(account, ACCESSIBLE, within=5 * MINUTE + 1)
        assert event["at"] - begun <= times[-1] + 301 - begun
        await world.assert_converged()


async def test_recovery_soon_after_the_denial_is_told_soon(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await world.until_told(account, INACCESSIBLE, within=BOUND)
        vault.enable()
        await world.until_told(account, ACCESSIBLE, within=11)
        await world.assert_converged()


async def test_an_operators_check_brings_rechecks_back_to_10_s(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await world.until_told(account, INACCESSIBLE, within=BOUND)
        await asyncio.sleep(30 * MINUTE)
        checked = await world.service.scheduler.check_now((await world.watch(key)).id)
        assert checked is not None
        begun = world.now
        await asyncio.sleep(45)
        times = [call.time - begun for call in vault.called("unwrapKey", since=begun)]
        assert times == pytest.approx([10, 20, 40], abs=1)
        vault.enable()
        await world.until_told(account, ACCESSIBLE, within=41)


async def test_an_operator_is_answered_with_what_the_check_found(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.revoke()
        checked = await world.service.scheduler.check_now((await world.watch(key)).id)
        assert checked is not None
        assert checked.watch.current_version.verdict.suspicion is not None
        event = await world.until_told(account, INACCESSIBLE, within=6)
        assert event["data"]["reason"] == Reason.ACCESS_DENIED


async def test_checks_in_quick_succession_do_not_confirm_sooner(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        watch = (await world.watch(key)).id
        vault.disable()
        begun = world.now
        while world.now - begun < 4.8:
            await world.service.scheduler.check_now(watch)
            assert await world.state(account) is State.ACCESSIBLE
        assert (await world.until_told(account, INACCESSIBLE, within=2))["at"] - begun >= 5


async def test_hint_during_a_running_check_causes_another(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE * 2)
        vault.latency = 1.0
        watch = (await world.watch(key)).id
        one = asyncio.create_task(world.service.scheduler.check_now(watch))
        await asyncio.sleep(1.5)
        assert vault.running == 1
        begun = world.now
        vault.disable()
        two = asyncio.create_task(world.service.scheduler.check_now(watch))
        await one
        checked = await two
        assert checked is not None
        assert checked.watch.current_version.verdict.suspicion is not None
        assert (await world.until_told(account, INACCESSIBLE, within=15))["at"] - begun <= 15


async def test_all_accounts_of_a_key_follow_and_those_of_other_keys_do_not(world: World) -> None:
    vault, key = world.one_vault()
    other = vault.create("other-key")
    async with world.running():
        ours = await world.register(key, count=30)
        (theirs,) = await world.register(other, first=100)
        vault.disable()
        vault.enable("other-key")
        for account in ours:
            await world.until_told(account, INACCESSIBLE, within=BOUND)
        assert await world.state(theirs) is State.ACCESSIBLE
        vault.enable()
        for account in ours:
            await world.until_told(account, ACCESSIBLE, within=MINUTE)
        await world.assert_converged()


async def test_clock_set_back_during_a_suspicion_does_not_hold_it_up(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await world.until_suspected(key)
        world.clock.stepped -= timedelta(hours=6)
        await world.until_told(account, INACCESSIBLE, within=30)


async def test_events_wait_for_the_broker_and_come_in_order(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=5)
        world.bus.drop()
        for _ in range(3):
            vault.disable()
            await asyncio.sleep(3 * MINUTE)
            vault.enable()
            await asyncio.sleep(6 * MINUTE)
        assert await world.state(accounts[0]) is State.ACCESSIBLE
        world.bus.back()
        await world.until_told(accounts[-1], ACCESSIBLE, times=3, within=31)
        await world.assert_converged()
