"""All the deaths of one scenario, in several worlds side by side."""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from kills.rounds import die_at
from kills.scenarios import Scenario
from kills.world import World

FEW = 3
"""A call that is made no more often than this is work, not a look for work: its last time is another moment."""

TRIES = 3
"""How often to aim at a point that is not always passed, such as a look that came too late this time."""

EVERY_CALL = os.environ.get("BYOKD_KILLS") == "all"


@dataclass(slots=True)
class Toll:
    """What a campaign came to."""

    aims: int = 0
    kills: int = 0
    missed: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def chosen(reached: Sequence[str], *, at_rest: Sequence[str]) -> list[str]:
    """Choose where to kill, of the points that were reached: the first call of each and, of a few, the last.

    What is passed at rest too is left to the scenario of that name, for which `at_rest` is empty; there, how often a
    call is made says nothing.
    """
    if EVERY_CALL:
        return list(reached)
    calls = Counter(point.rpartition(":")[0] for point in reached)
    if not at_rest:
        return [f"{point}:1" for point in calls]
    for point in at_rest:
        del calls[point.rpartition(":")[0]]
    return [f"{point}:{number}" for point, count in calls.items() for number in {1, count if count <= FEW else 1}]


async def campaign(worlds: Sequence[World], scenario: Scenario, points: Sequence[str]) -> Toll:
    """Kill once at each point; a world in which something was found missing is not used any further."""
    toll = Toll(aims=len(points))
    waiting = deque(points)

    async def aim(world: World, point: str) -> None:
        for _ in range(TRIES):
            if await die_at(world, scenario, point):
                toll.kills += 1
                return
        toll.missed.append(point)

    await _share_out(worlds, waiting, aim, toll)
    return toll


async def _share_out(
    worlds: Sequence[World], waiting: deque[str], aim: Callable[[World, str], Awaitable[None]], toll: Toll
) -> None:
    async def work(world: World) -> None:
        while waiting:
            point = waiting.popleft()
            try:
                await aim(world, point)
            except Exception as error:  # noqa: BLE001 - one finding must not hide the others
                world.broken = True
                toll.failures.append(f"{point} in {world.name}: {type(error).__name__}: {error}")
                return

    async with asyncio.TaskGroup() as group:
        for world in worlds:
            group.create_task(work(world), name=f"kills-{world.name}")
