"""The worlds of a module's tests."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from kills.campaign import EVERY_CALL, spread
from kills.databases import SQLITE, Databases
from kills.rounds import come_to_rest, record
from kills.scenarios import SCENARIOS
from kills.site import Site
from kills.world import World, world


class Worlds:
    """They are used again and again: the older a world is, the more it has survived.

    Only those that are in use have a daemon that runs: what looks for work three times a second takes the processor
    from those that find some.
    """

    def __init__(self, place: Site, stack: AsyncExitStack) -> None:
        self._place = place
        self._stack = stack
        self._databases = Databases(stack)
        self._made: defaultdict[str, list[World]] = defaultdict(list)
        self._planted: list[World] = []
        self._reached: dict[str, Mapping[str, Sequence[str]]] = {}
        self._aims: dict[str, Mapping[str, Sequence[str]]] = {}

    async def some(self, database: str, count: int) -> list[World]:
        """Give worlds at rest, all others without a daemon."""
        whole = [one for one in self._made[database] if not one.broken]
        while len(whole) < count:
            whole.append(await self._new(database, None))
            self._made[database].append(whole[-1])
        await self._only(whole[:count])
        return whole[:count]

    async def planted(self, database: str, plant: str) -> World:
        """Make a world of its own, with a mistake in front of its ports."""
        self._planted.append(await self._new(database, plant))
        await self._only(self._planted[-1:])
        return self._planted[-1]

    async def reached(self, database: str) -> Mapping[str, Sequence[str]]:
        """Give the points that each scenario reaches."""
        if database not in self._reached:
            self._reached[database] = await self._recorded(database)
        return self._reached[database]

    async def aims(self, database: str) -> Mapping[str, Sequence[str]]:
        """Give the points where to kill in each scenario: those that are reached whenever it is played.

        What tasks race for is passed in one recording and not in another: to aim at that is to wait for chance.
        """
        if database not in self._aims:
            reached = await self.reached(database)
            if not EVERY_CALL:
                again = await (self._recorded(database) if database == SQLITE else self.reached(SQLITE))
                reached = {name: [point for point in reached[name] if point in again[name]] for name in SCENARIOS}
            self._aims[database] = spread(reached)
        return self._aims[database]

    async def _recorded(self, database: str) -> Mapping[str, Sequence[str]]:
        (one,) = await self.some(database, 1)
        return {name: await record(one, scenario) for name, scenario in SCENARIOS.items()}

    async def _new(self, database: str, plant: str | None) -> World:
        name = f"kills-{len(self._planted) + sum(map(len, self._made.values())) + 1}"
        return await self._stack.enter_async_context(
            world(self._place, self._databases, name, kind=database, plant=plant)
        )

    async def _only(self, used: Sequence[World]) -> None:
        for one in (*self._planted, *(one for made in self._made.values() for one in made)):
            if one.daemon.runs and one not in used:
                await one.kill()
        async with asyncio.TaskGroup() as group:
            for one in used:
                if not one.daemon.runs:
                    await one.daemon.start()
                    group.create_task(come_to_rest(one), name=f"wake-{one.name}")
