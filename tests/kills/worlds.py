"""The worlds of a module's tests."""

from collections import defaultdict
from contextlib import AsyncExitStack

from kills.databases import Databases
from kills.site import Site
from kills.world import World, world


class Worlds:
    """They are used again and again: the older a world is, the more it has survived."""

    def __init__(self, place: Site, stack: AsyncExitStack) -> None:
        self._place = place
        self._stack = stack
        self._databases = Databases(stack)
        self._made: defaultdict[str, list[World]] = defaultdict(list)
        self._names = 0

    async def some(self, database: str, count: int) -> list[World]:
        whole = [one for one in self._made[database] if not one.broken]
        while len(whole) < count:
            whole.append(await self.planted(database, None))
            self._made[database].append(whole[-1])
        return whole[:count]

    async def planted(self, database: str, plant: str | None) -> World:
        """Make a world of its own, with a mistake in front of its ports, or none."""
        self._names += 1
        made = world(self._place, self._databases, f"kills-{self._names}", kind=database, plant=plant)
        return await self._stack.enter_async_context(made)
