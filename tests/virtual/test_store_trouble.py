"""A store that fails at any moment: the service goes on by itself, nothing is lost, and it is said once."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from byokd.domain.vocabulary import State
from byokd.ports import StoreUnavailableError
from byokd.records import Settled
from virtual.world import MINUTE, World, account_id, spec_of, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


@settings(max_examples=15)
@given(at=st.integers(0, 60), lasting=st.integers(1, 6), after=st.booleans(), seed=st.integers(0, 99))
@example(at=0, lasting=1, after=True, seed=0)
def test_store_that_fails_at_any_call_costs_nothing(
    service_keys: Path,
    at: int,
    lasting: int,
    after: bool,  # noqa: FBT001 - an example
    seed: int,
) -> None:
    async def scenario() -> None:
        vault, key = world.one_vault()
        async with world.running():
            accounts = await world.register(key, count=6)
            before = {account: (await world.open(await world.account(account))).account_key for account in accounts}
            await asyncio.sleep(MINUTE)
            vault.rotate()
            other = vault.create("other-key")
            (closed,) = await world.register(other, first=50)
            vault.disable("other-key")
            world.store.after = after
            first = world.store.calls + at
            world.store.fail_at = frozenset(range(first, first + lasting))
            await asyncio.sleep(4 * MINUTE)
            assert world.is_alive()
            assert await world.state(closed) is State.INACCESSIBLE
            for account in accounts:
                current = (await world.account(account)).current
                assert current is not None
                assert current.version == vault.key().newest.id
                assert (await world.open(await world.account(account))).account_key == before[account]
            vault.enable("other-key")
            await world.until_told(closed, "byokd.account.accessible", within=6 * MINUTE)
            await world.assert_converged()

    world = World(service_keys, seed=seed)
    virtually(scenario())
    world.close()


async def test_outage_is_said_once_and_its_end_too(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        world.store.fail_all = True
        vault.disable()
        await asyncio.sleep(20 * MINUTE)
        assert world.is_alive()
        world.store.fail_all = False
        await world.until_told(account, "byokd.account.inaccessible", within=3 * MINUTE)
        said = [entry["event"] for entry in world.logs if entry.get("component") == "store"]
        assert said == ["component-in-trouble", "component-recovered"]
        assert [entry["event"] for entry in world.logs if entry["event"].startswith("outbox")] == [
            "outbox-unusable",
            "outbox-usable",
        ]
        await world.assert_converged(keys_open=False)


async def test_store_that_is_gone_at_the_start_is_waited_for(world: World) -> None:
    _, key = world.one_vault()
    world.store.fail_all = True
    async with world.running():
        await asyncio.sleep(10 * MINUTE)
        assert world.is_alive()
        world.store.fail_all = False
        await asyncio.sleep(MINUTE)
        await world.register(key)
        await world.assert_converged()


async def test_operators_check_during_an_outage_is_answered_after_it(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(MINUTE)
        watch = (await world.watch(key)).id
        vault.disable()
        world.store.fail_all = True
        asking = asyncio.create_task(world.service.scheduler.check_now(watch))
        await asyncio.sleep(MINUTE)
        assert not asking.done()
        world.store.fail_all = False
        async with asyncio.timeout(MINUTE):
            checked = await asking
        assert checked is not None
        assert checked.watch.current_version.verdict.suspicion is not None


async def test_rewraps_that_trouble_breaks_off_before_their_first_step_are_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, key = world.one_vault()
    settle, failed = world.sql.settle, []

    async def settled(**times: datetime) -> Settled:
        if (await world.sql.census()).rewraps_waiting and not failed:
            failed.append(world.now)
            raise StoreUnavailableError("the disk is full", hint="make room")
        return await settle(**times)

    monkeypatch.setattr(world.sql, "settle", settled)
    async with world.running():
        (account,) = await world.register(key)
        vault.rotate()
        await world.until_told(account, "byokd.accountkey.rewrapped", within=3 * MINUTE)
        assert failed
        await world.assert_converged()


@pytest.mark.parametrize("lost", ["create_account", "watch"])
async def test_a_key_that_came_while_the_store_stumbled_is_watched(world: World, lost: str) -> None:
    vault, key = world.one_vault()
    async with world.running():
        world.store.after, world.store.fail_next = True, lost
        if lost == "create_account":
            with pytest.raises(StoreUnavailableError):
                await world.service.registrar.apply(spec_of(1, key))
        else:
            await world.service.registrar.apply(spec_of(1, key))
        assert world.store.failed == [lost]
        vault.disable()
        await world.until_told(account_id(1), "byokd.account.inaccessible", within=81)
