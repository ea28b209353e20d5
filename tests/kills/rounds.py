"""One death and what comes after: the record opens, the daemon starts again, comes to rest, and nothing is missing."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from byokd.adapters.sql.outbox import contiguous
from kills.daemons import Death
from kills.points import AT_RANDOM, NOTHING, RECORD
from kills.scenarios import Scenario
from kills.snapshot import Snapshot, snapshot, unfinished
from kills.verifying import END, check_chain, check_heard, check_history, check_retained, read_retained
from kills.world import PATIENCE_SECONDS, POLL_SECONDS, World

MARKER = "service/marker"

LINGER_SECONDS = 0.7
"""After all shows as wanted: for old wraps to settle, the rest to be published, the marker to move."""


async def record(world: World, scenario: Scenario) -> list[str]:
    """Play the scenario without a death; give the points that were reached, each `port.method:side:number of call`."""
    await come_to_rest(world)
    await _alive(world, _marked(world))
    await _begin(world, scenario, RECORD)
    await _alive(world, _played(world, scenario))
    points = list(dict.fromkeys(world.daemon.traced()))
    await come_to_rest(world)
    return points


async def die_at(world: World, scenario: Scenario, point: str) -> bool:
    """Let the daemon die at a point; false when it was not reached this time."""
    await _begin(world, scenario, point)
    died = await _played_over_a_death(world, scenario, point, disarm=world.daemon.order)
    await come_to_rest(world)
    return died


async def die_after(world: World, scenario: Scenario, seconds: float) -> bool:
    """Kill the daemon from outside, wherever it is then; false when the scenario was over before."""
    await _begin(world, scenario, AT_RANDOM)
    timer = asyncio.get_running_loop().call_later(seconds, world.daemon.kill_at_random)
    try:
        died = await _played_over_a_death(world, scenario, AT_RANDOM, disarm=timer.cancel)
    finally:
        timer.cancel()
    await come_to_rest(world)
    return died


async def come_to_rest(world: World) -> None:
    """Wait until the daemon has nothing left to do, and check that everything is there."""
    world.daemon.order(NOTHING)
    await _alive(world, _at_rest(world))
    with world.database.living() as connection:
        seen = snapshot(connection)
    await _check_record(world, seen)
    check_chain(world.settings, world.subscriber, prefix=world.prefix)
    await _alive(world, _asked(world))
    ends = len(world.subscriber.on(f"{world.prefix}/{END}"))
    retained = await read_retained(world.site.broker, prefix=world.prefix)
    await world.subscriber.hears(f"{world.prefix}/{END}", times=ends + 1)
    check_heard(seen, world.subscriber, prefix=world.prefix)
    check_retained(seen, retained, prefix=world.prefix)


async def _begin(world: World, scenario: Scenario, order: str) -> None:
    for doing in (scenario.before, scenario.meanwhile):
        if doing is not None:
            await world.kill()
            await doing(world)
            world.daemon.order(order if doing is scenario.meanwhile else NOTHING)
            await world.daemon.start()
    if scenario.before is not None:
        await _alive(world, _at_rest(world))
    if scenario.meanwhile is None:
        world.daemon.order(order)


async def _played(world: World, scenario: Scenario) -> None:
    await scenario.act(world)
    await asyncio.sleep(LINGER_SECONDS)


async def _played_over_a_death(world: World, scenario: Scenario, point: str, *, disarm: Callable[[], None]) -> bool:
    playing = asyncio.create_task(_played(world, scenario), name="scenario")
    dying = asyncio.create_task(world.daemon.death(), name="death")
    try:
        await asyncio.wait({playing, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not dying.done():
            playing.result()
            disarm()
            if point not in world.daemon.traced():
                return False
            await dying  # it was on its way already
        async with world.quiet:
            await _check_the_dead(world, dying.result(), point)
            world.daemon.order(NOTHING)
            await world.daemon.start()
        await _alive(world, _finished(playing))
    finally:
        for task in (playing, dying):
            task.cancel()
        await asyncio.wait({playing, dying})
    return True


async def _finished(task: asyncio.Task[None]) -> None:
    await task


async def _check_the_dead(world: World, death: Death, point: str) -> None:
    """It died of what it should have, and every wrap that it left opens, before anybody mends anything."""
    assert death.signal == signal.SIGKILL, f"the daemon ended by itself: {death}\n{world.daemon.log()}"
    assert death.point == point, f"it died elsewhere: {death}"
    with world.database.dead() as connection:
        seen = snapshot(connection)
    await _check_record(world, seen)


async def _check_record(world: World, seen: Snapshot) -> None:
    check_history(seen)
    values, closed = await world.keys.check(seen, disabled=world.disabled | world.closed)
    world.values.check(values, closed=closed)


async def _asked(world: World) -> None:
    """The daemon itself says that all opens, and shows what was protected."""
    await world.verified()
    await world.values.revealed()


async def _alive(world: World, doing: Coroutine[Any, Any, None]) -> None:
    """Do something while the daemon lives.

    Raises:
        AssertionError: it ended.
    """
    task = asyncio.create_task(doing)
    dying = asyncio.create_task(world.daemon.death())
    try:
        await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
        assert not dying.done(), f"the daemon ended by itself: {dying.result()}\n{world.daemon.log()}"
        task.result()
    finally:
        for one in (task, dying):
            one.cancel()
        await asyncio.wait({task, dying})


async def _marked(world: World) -> None:
    """Wait for the marker too: it comes after the last event, and would be taken for the next scenario's doing."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with world.database.living() as connection:
                number = None if unfinished(connection) else contiguous(connection)
            markers = [one.event for one in world.subscriber.on(f"{world.prefix}/{MARKER}")]
            if [marker["number"] for marker in markers if "number" in marker][-1:] == [number]:
                return
            await asyncio.sleep(POLL_SECONDS)


async def _at_rest(world: World) -> None:
    await world.as_wanted()
    left: dict[str, int] = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with world.database.living() as connection:
                    left = unfinished(connection)
                if not left:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"the daemon does not come to rest: {left}\n{world.daemon.log()}") from None
