"""Whom the brake counts: whoever our own fault struck, also when the store stumbled or an operator spoke too soon."""

import asyncio
from collections.abc import Callable

import pytest

from byokd.domain.brake import ReleaseCause
from byokd.domain.vocabulary import DetectedBy
from virtual.fleets import (
    ENGAGED,
    Customer,
    all_held,
    break_credential,
    closed,
    fleet,
    held,
    is_engaged,
    mend_credential,
    of_service,
    released,
    shared,
    until,
)
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=shared())


async def suspected(world: World) -> int:
    versions = [version for watch in await world.sql.watches() for version in watch.versions]
    return sum(version.verdict.suspicion is not None for version in versions)


async def hint(world: World, customer: Customer) -> None:
    (watch,) = [one for one in await world.sql.watches() if one.key == customer.keys[0]]
    world.service.scheduler.hint(watch.id, detected_by=DetectedBy.HINT)


async def test_a_denial_that_could_not_be_stored_is_waited_for(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 3)
        customers[2].vault.latency = 0.5
        break_credential(customers)
        await hint(world, customers[0])

        async def two_are_stored() -> bool:
            return await suspected(world) == 2

        await world.until(two_are_stored, within=5)
        world.store.fail_next = "commit_decision"
        await until(lambda: all_held(world, customers), seconds=MINUTE)
        assert world.store.failed == ["commit_decision"]
        assert closed(world, customers) == []


async def test_one_who_was_confirmed_before_the_others_were_looked_at_counts_with_them(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 3)
        break_credential(customers[:1])
        await hint(world, customers[0])
        await until(lambda: is_closed(world, customers[0]), seconds=20)
        break_credential(customers)
        await until(lambda: is_engaged(world), seconds=2 * MINUTE)
        assert closed(world, customers) == customers[0].accounts
        assert of_service(world, ENGAGED)[0]["data"]["suspected"] == 3
        mend_credential(customers)
        await until(lambda: released(world), seconds=8 * MINUTE)
        assert closed(world, customers) == customers[0].accounts


async def test_who_revoked_long_before_does_not_count(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 3)
        break_credential(customers[:1])
        await until(lambda: is_closed(world, customers[0]), seconds=2 * MINUTE)
        await asyncio.sleep(2 * MINUTE)
        break_credential(customers)
        await until(lambda: is_closed(world, customers[2]), seconds=2 * MINUTE)
        assert of_service(world, ENGAGED) == []


@pytest.mark.parametrize("size", [3, 12])
async def test_discarded_too_soon_nobody_is_closed(world: World, size: int) -> None:
    async with world.running():
        customers = await fleet(world, size)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        # One does not answer when all are looked at again.
        customers[0].vault.latency = 60
        assert await world.service.brakeman.settle(ReleaseCause.DISCARDED) == size
        await until(lambda: is_engaged(world), seconds=20)
        await until(lambda: some_held(world, size - 1), seconds=10)
        await asyncio.sleep(10 * MINUTE)
        assert closed(world, customers) == []


async def test_a_discarded_denial_is_no_leave_to_use_the_key(world: World) -> None:
    async with world.running():
        customers = await fleet(world, 3)
        break_credential(customers)
        await until(lambda: all_held(world, customers), seconds=2 * MINUTE)
        for customer in customers:
            customer.vault.latency = 60
        await world.service.brakeman.settle(ReleaseCause.DISCARDED)
        assert await suspected(world) == 3


async def some_held(world: World, least: int) -> bool:
    return await held(world) >= least


async def is_closed(world: World, customer: Customer) -> bool:
    return closed(world, [customer]) == customer.accounts
