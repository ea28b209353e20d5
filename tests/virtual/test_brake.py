"""The brake over a whole service: our own fault makes nobody Inaccessible, a customer's doing does."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.brake import ReleaseCause
from byokd.domain.vocabulary import DetectedBy, Reason, RefusalKind
from byokd.runtime.unusable import UnusableError
from virtual.fleets import (
    ENGAGED,
    INACCESSIBLE,
    RELEASED,
    all_held,
    break_credential,
    closed,
    fleet,
    held,
    inaccessible,
    is_engaged,
    join,
    mend_credential,
    of_service,
    released,
    shared,
    short_hold,
    until,
    with_brake,
)
from virtual.using import protect, reveal
from virtual.vaults import Vault
from virtual.world import MINUTE, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

BOUND = 81.0


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=shared())


@pytest.mark.parametrize("size", [3, 20, 300])
async def test_our_broken_credential_makes_nobody_inaccessible(world: World, size: int) -> None:
    async with world.running():
        customers = await fleet(world, size)
        await asyncio.sleep(2 * MINUTE)
        break_credential(customers)
        await until(lambda: is_engaged(world), seconds=BOUND)
        (told,) = of_service(world, ENGAGED)
        first = min(call.time for customer in customers for call in customer.vault.calls if call.outcome != "ok")
        assert told["at"] - first < 5.2, "by the first confirmation, or nobody would have been held"
        await until(lambda: all_held(world, customers), seconds=BOUND)
        await world.restart()
        await asyncio.sleep(6 * MINUTE)
        assert (await is_engaged(world), await held(world)) == (True, size)
        mend_credential(customers)
        await until(lambda: released(world), seconds=5 * MINUTE + 10)
        await asyncio.sleep(2 * MINUTE)
        (gone,) = of_service(world, RELEASED)
        assert gone["data"]["cause"] == "proof"
        assert len(of_service(world, ENGAGED)) == 1
        assert closed(world, customers) == []


async def test_the_end_of_a_fault_is_noticed_for_all_as_soon_as_for_one(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 20)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        await asyncio.sleep(30 * MINUTE)
        mend_credential(customers)
        await until(lambda: fewer_held(world, 20), seconds=5 * MINUTE + 1)
        await until(lambda: released(world), seconds=6)


async def fewer_held(world: World, before: int) -> bool:
    return await held(world) < before


@pytest.mark.parametrize("others", [1, 2, 20])
async def test_a_customer_who_revokes_many_keys_at_once_is_told_in_time(world: World, others: int) -> None:
    async with world.running():
        customers = [await join(world, number) for number in range(2, others + 2)]
        # Half of the keys are in one vault, the others each in one of its own.
        leaving = [await join(world, 1, keys=25)]
        leaving += [await join(world, number, of_tenant=1) for number in range(100, 125)]
        await asyncio.sleep(2 * MINUTE)
        begun = world.now
        break_credential(leaving)
        await asyncio.sleep(BOUND)
        accounts = [account for customer in leaving for account in customer.accounts]
        assert all(world.told(account, INACCESSIBLE)[0]["at"] - begun <= BOUND for account in accounts)
        assert (len(accounts), await inaccessible(world)) == (50, 50)
        assert closed(world, customers) == []
        assert of_service(world, ENGAGED) == []


def disable(vault: Vault) -> None:
    for name in vault.keys:
        vault.disable(name)


def delete(vault: Vault) -> None:
    for name in vault.keys:
        vault.delete(name)


@pytest.mark.parametrize("revoke", [disable, delete])
async def test_what_the_vault_says_of_its_key_is_never_held(world: World, revoke: Callable[[Vault], None]) -> None:
    async with world.running():
        customers = await fleet(world, 12)
        begun = world.now
        for customer in customers:
            revoke(customer.vault)
        await asyncio.sleep(BOUND)
        assert len(closed(world, customers)) == 12
        assert all(world.told(one.accounts[0], INACCESSIBLE)[0]["at"] - begun <= BOUND for one in customers)
        assert of_service(world, ENGAGED) == []


async def test_a_key_that_is_deleted_while_the_brake_holds_is_told_of(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 12)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        customers[0].vault.grant()
        delete(customers[0].vault)
        await world.until_told(customers[0].accounts[0], INACCESSIBLE, within=5 * MINUTE)
        assert await held(world) == 11
        mend_credential(customers)
        await until(lambda: released(world), seconds=5 * MINUTE + 10)
        assert closed(world, customers) == customers[0].accounts


async def test_two_of_many_are_no_fault_of_ours(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 20)
        await asyncio.sleep(MINUTE)
        break_credential(customers[:2])
        await asyncio.sleep(BOUND)
        assert len(closed(world, customers)) == 2
        assert of_service(world, ENGAGED) == []


async def test_after_max_hold_a_denial_counts_and_the_brake_stays(make_world: Callable[..., World]) -> None:
    world = make_world(settings=short_hold())
    async with world.running():
        customers = await fleet(world, 5)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        (told,) = of_service(world, ENGAGED)
        await asyncio.sleep(9 * MINUTE)
        assert await inaccessible(world) == 0
        await asyncio.sleep(2 * MINUTE)
        assert len(closed(world, customers)) == 5
        assert all(world.told(one.accounts[0], INACCESSIBLE)[0]["at"] - told["at"] >= 600 for one in customers)
        await asyncio.sleep(30 * MINUTE)
        assert await is_engaged(world), "time alone never releases it"
        mend_credential(customers)
        await until(lambda: released(world), seconds=5 * MINUTE + 10)
        assert await inaccessible(world) == 0


async def test_an_operator_confirms(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 12)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        assert await world.service.brakeman.settle(ReleaseCause.CONFIRMED) == 12
        for customer in customers:
            told = await world.until_told(customer.accounts[0], INACCESSIBLE, within=2)
            assert (told["data"]["reason"], told["data"]["detectedBy"]) == ("AccessDenied", "operator")
        assert not await is_engaged(world)
        await asyncio.sleep(10 * MINUTE)
        assert (await inaccessible(world), await is_engaged(world)) == (12, False)
        mend_credential(customers)
        await asyncio.sleep(6 * MINUTE)
        assert await inaccessible(world) == 0
        await world.assert_converged(keys_open=False)


async def test_an_operator_discards_and_what_is_denied_later_counts_anew(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 12)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        mend_credential(customers)
        assert await world.service.brakeman.settle(ReleaseCause.DISCARDED) == 12
        await asyncio.sleep(10 * MINUTE)
        assert (await is_engaged(world), closed(world, customers)) == (False, [])
        (told,) = of_service(world, RELEASED)
        assert (told["data"]["cause"], told["data"]["held"]) == ("discarded", 12)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        assert closed(world, customers) == []


async def test_an_operator_holds_by_hand_until_released(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 20)
        await world.service.brakeman.engage("we change the credential")
        break_credential(customers[:1])
        await asyncio.sleep(BOUND)
        assert (await held(world), closed(world, customers)) == (1, [])
        mend_credential(customers)
        await asyncio.sleep(10 * MINUTE)
        assert (await held(world), await is_engaged(world)) == (0, True)
        assert await world.service.brakeman.settle(ReleaseCause.DISCARDED) == 0
        assert not await is_engaged(world)


async def test_observing_tells_and_holds_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_brake(mode="observe"))
    async with world.running():
        customers = await fleet(world, 12)
        break_credential(customers)
        await asyncio.sleep(BOUND)
        assert len(closed(world, customers)) == 12
        (told,) = of_service(world, ENGAGED)
        assert told["data"]["mode"] == "observe"
        await asyncio.sleep(10 * MINUTE)
        assert of_service(world, RELEASED) == []
        mend_credential(customers)
        await asyncio.sleep(6 * MINUTE)
        assert len(of_service(world, RELEASED)) == 1


async def test_while_held_each_use_is_as_the_vault_says_at_that_moment(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 3)
        for customer in customers:
            await protect(world, customer.accounts[0])
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        account, vault = customers[0].accounts[0], customers[0].vault
        assert len(world.service.plaintext) == 0
        with pytest.raises(UnusableError):
            await reveal(world, account)
        vault.grant()
        before = len(vault.called("unwrapKey"))
        assert [await reveal(world, account) for _ in range(2)]
        assert len(vault.called("unwrapKey")) >= before + 2, "each use by an unwrap of its own"
        vault.revoke()
        with pytest.raises(UnusableError):
            await reveal(world, account)
        await world.restart()
        vault.grant()
        before = len(vault.called("unwrapKey"))
        assert [await reveal(world, account) for _ in range(2)]
        assert len(vault.called("unwrapKey")) == before + 2, "the doubt is stored"


async def test_networks_that_block_us_are_held_after_their_longer_wait(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 30)
        await asyncio.sleep(2 * MINUTE)
        for customer in customers:
            customer.vault.block()
        await until(lambda: is_engaged(world), seconds=BOUND + 5 * MINUTE)
        (told,) = of_service(world, ENGAGED)
        assert (told["data"]["reasons"], told["data"]["suspected"]) == ("NetworkBlocked", 30)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        for customer in customers:
            customer.vault.blocked = False
        await until(lambda: released(world), seconds=5 * MINUTE + 10)
        assert closed(world, customers) == []


async def test_a_start_in_the_first_seconds_of_a_fault_loses_nobody(world: World) -> None:
    async with world.running():
        # Registered at once, so that after a while of looks nobody is looked at for a while.
        customers = [await join(world, number) for number in range(1, 301)]
        await asyncio.sleep(2 * MINUTE)
        break_credential(customers)
        await asyncio.sleep(3)
        await world.restart()
        await until(lambda: all_held(world, customers), seconds=2 * BOUND)
        assert closed(world, customers) == []


async def test_while_nobody_else_answers_several_denials_wait_but_not_for_long(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 40)
        for customer in customers[3:]:
            customer.vault.strike(Reason.TIMED_OUT)
        await asyncio.sleep(2 * MINUTE)
        break_credential(customers[:3])
        for customer in customers[:3]:
            (watch,) = [one for one in await world.sql.watches() if one.key == customer.keys[0]]
            world.service.scheduler.hint(watch.id, detected_by=DetectedBy.HINT)
        await asyncio.sleep(BOUND)
        refusals = [
            min(call.time for call in one.vault.calls if call.outcome == "AccessDenied") for one in customers[:3]
        ]
        told = [world.told(one.accounts[0], INACCESSIBLE)[0]["at"] for one in customers[:3]]
        assert all(15 < at - first < 30 for first, at in zip(refusals, told, strict=True))
        assert of_service(world, ENGAGED) == []


async def test_the_first_denial_has_ten_others_looked_at(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 40)
        await asyncio.sleep(2 * MINUTE)
        odd = customers[7].vault
        odd.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        await world.until(lambda: struck(odd), within=BOUND)
        first = next(call for call in odd.calls if call.outcome != "ok")
        await asyncio.sleep(0.3)
        asked = [one for one in customers if one.vault is not odd and one.vault.called("unwrapKey", since=first.ended)]
        assert 10 <= len(asked) <= 12, "and perhaps one or two in their turn"
        assert closed(world, customers) == []


async def test_others_are_looked_at_too_when_the_first_denial_was_committed_unknown_to_us(
    make_world: Callable[..., World],
) -> None:
    settings = with_checks(interval=timedelta(minutes=20))
    world = make_world(settings=settings.model_copy(update={"identities": shared().identities}))
    async with world.running():
        customers = await fleet(world, 6)
        break_credential(customers)
        (watch,) = [one for one in await world.sql.watches() if one.key == customers[3].keys[0]]
        world.store.after, world.store.fail_next = True, "commit_decision"
        world.service.scheduler.hint(watch.id, detected_by=DetectedBy.HINT)
        await until(lambda: all_held(world, customers), seconds=MINUTE)
        assert world.store.failed == ["commit_decision"]
        assert closed(world, customers) == []


async def struck(vault: Vault) -> bool:
    return any(call.outcome != "ok" for call in vault.calls)


async def test_the_pages_tell_of_an_engaged_brake(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 4)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        await asyncio.sleep(10)
        condition = world.service.health.conditions["brake"]
        assert not condition.well
        assert "denials held: 4" in condition.message
        value = world.service.metrics.registry.get_sample_value
        assert value("byokd_brake_engaged") == 1
        assert value("byokd_denials_held") == 4
        assert value("byokd_brake_engagements_total", {"cause": "tally"}) == 1
        mend_credential(customers)
        await until(lambda: released(world), seconds=5 * MINUTE + 10)
        await asyncio.sleep(3)
        assert world.service.health.is_well("brake")
        assert value("byokd_brake_engaged") == value("byokd_denials_held") == 0
        names = [line["event"] for line in world.logs]
        assert [names.count(name) for name in ("brake-engaged", "denial-held", "brake-released")] == [1, 4, 1]
