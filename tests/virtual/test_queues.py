"""Event Grid's queues in a running service: hints by them, and nothing that a queue does stops the polling."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.vocabulary import State
from byokd.ports.queues import QueueTrouble, QueueUnavailableError
from byokd.runtime.health import Component
from byokd.settings import CheckSettings, EventGridSettings, IdentitySettings, Settings
from queues.platform import encoded, event, source
from queues.simulated import SimulatedQueue
from virtual.using import number
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

SLOWLY = timedelta(minutes=30)


def with_queues(*names: str) -> Settings:
    sources = {name: source(visibility_timeout=timedelta(seconds=60)) for name in names}
    return Settings(
        checks=CheckSettings(interval=SLOWLY),
        identities={"platform": IdentitySettings()},
        event_grid=EventGridSettings(sources=sources),
    )


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world(settings=with_queues("customers"))
    world.event_queues["customers"] = SimulatedQueue()
    return world


def queue_of(world: World, name: str = "customers") -> SimulatedQueue:
    queue = world.event_queues[name]
    assert isinstance(queue, SimulatedQueue)
    return queue


async def test_a_new_version_is_adopted_within_the_poll_interval_of_the_queue_while_polling_is_slow(
    world: World,
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        queue_of(world).write(encoded([event(1, vault=key.host.partition(".")[0], key=key.name)]))
        begun = world.now
        rewrapped = await world.until_told(account, "byokd.accountkey.rewrapped", within=4)
        assert rewrapped["at"] - begun < 3
        assert queue_of(world).messages == {}
        assert number(world, "byokd_queue_messages_total", source="customers", outcome="taken") == 1


@pytest.mark.parametrize("trouble", [QueueTrouble.NOT_PERMITTED, QueueTrouble.UNREACHABLE, None])
async def test_whatever_a_queue_does_a_revocation_is_noticed_by_polling_and_byokd_stops_in_time(
    world: World, trouble: QueueTrouble | None
) -> None:
    vault, key = world.one_vault()
    queue = queue_of(world)
    queue.mishaps = iter(["hang"] * 1000) if trouble is None else iter(())
    queue.trouble = None if trouble is None else QueueUnavailableError(trouble, code="Word")
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        assert not world.service.health.is_well(Component.EVENT_QUEUES)
        vault.revoke()
        await world.until_told_state(account, State.INACCESSIBLE, within=1.2 * SLOWLY.total_seconds())
        assert world.is_alive()
        begun = world.now
        await world.stop()
        assert world.now - begun < 1


async def test_a_reload_takes_and_drops_queues_and_forgets_their_trouble(world: World) -> None:
    _, key = world.one_vault()
    first, second = queue_of(world), SimulatedQueue()
    world.event_queues["others"] = second
    async with world.running():
        await world.register(key)
        first.trouble = QueueUnavailableError(QueueTrouble.MISSING)
        await asyncio.sleep(MINUTE)
        assert (second.received, number(world, "byokd_queues_in_trouble")) == ([], 1)
        second.write("rubbish")
        await world.reload(with_queues("others"))
        asked = len(first.received)
        await asyncio.sleep(MINUTE)
        assert (len(first.received), len(second.received) > 10) == (asked, True)
        assert (number(world, "byokd_queues_in_trouble"), world.service.health.is_well(Component.EVENT_QUEUES)) == (
            0,
            True,
        )
        second.trouble = QueueUnavailableError(QueueTrouble.MISSING)
        await asyncio.sleep(MINUTE)
        assert number(world, "byokd_queues_in_trouble") == 1
        await world.reload(with_queues())
        asked = len(second.received)
        await asyncio.sleep(MINUTE)
        assert (len(second.received), number(world, "byokd_queues_in_trouble")) == (asked, 0)
        assert world.service.health.is_well(Component.EVENT_QUEUES)


async def test_what_is_at_hand_at_a_reload_is_followed_and_deleted_before_another_reads(world: World) -> None:
    vault, key = world.one_vault()
    queue = queue_of(world)
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        queue.seconds = 0.5
        queue.write(encoded(event(1, vault=key.host.partition(".")[0], key=key.name)))
        while not any(size for _, size in queue.received):  # noqa: ASYNC110 - to the moment
            await asyncio.sleep(0.005)
        assert queue.deleted == []
        await world.reload(with_queues("customers"))
        assert len(queue.deleted) == 1
        # Its look may have ended with the service that took it: then the next poll sees what it was about.
        await world.until_told(account, "byokd.accountkey.rewrapped", within=1.2 * SLOWLY.total_seconds())
