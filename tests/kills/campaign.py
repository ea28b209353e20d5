"""All the deaths of one scenario, in several worlds side by side."""

import asyncio
import os
import random
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from kills.rounds import die_after, die_at
from kills.scenarios import REST, Scenario
from kills.world import World

FEW = 3
"""A call that is made no more often than this is work, not a look for work: its last time is another moment."""

TRIES = 8
"""How often to aim at a point that is not always passed, such as a look that came too late this time."""

SHARES = {"sqlite": 1, "postgresql": 4}
"""One in how many of the chosen points is tried by default: what a call leaves behind is decided above the database."""

SCENARIOS_EACH = 2
"""In how many of the scenarios that reach a kind of point it is tried by default: any two, others in another run."""

IN_MEMORY = frozenset({"sealer", "cipher"})
"""Ports that only compute: before and after such a call the world is as the call before has left it."""

IN_MEMORY_SHARE = 4
"""One in how many of the points of those is tried, of the ones that a database's share leaves."""

BY_THE_CLOCK = {"manager.status": "start"}
"""Calls that a look every few seconds makes, whatever is being played then; and where else they are certain."""

EVERY_CALL = os.environ.get("BYOKD_KILLS") == "all"


Aim = Callable[[World], Awaitable[bool]]
"""Lets a world's daemon die somewhere; false when it did not come to that."""


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


def spread(reached: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Choose where to kill in each scenario, by the points that were reached in each."""
    if not EVERY_CALL:
        reached = {name: [point for point in found if _certain(point, name)] for name, found in reached.items()}
    points = {name: chosen(found, at_rest=[] if name == REST else reached[REST]) for name, found in reached.items()}
    if EVERY_CALL:
        return points
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, found in points.items():
        for kind in {point.rpartition(":")[0] for point in found}:
            places[kind].append(name)
    tried = {kind: random.sample(names, min(SCENARIOS_EACH, len(names))) for kind, names in places.items()}
    return {
        name: [point for point in found if name in tried[point.rpartition(":")[0]]] for name, found in points.items()
    }


def _certain(point: str, scenario: str) -> bool:
    return BY_THE_CLOCK.get(point.partition(":")[0], scenario) == scenario


def share(points: Sequence[str], database: str) -> Sequence[str]:
    """Give the points that are tried on a database: all of them or every so manieth, beginning anywhere."""
    if EVERY_CALL:
        return points
    computing = [point for point in points if point.partition(".")[0] in IN_MEMORY]
    others = [point for point in points if point not in computing]
    step = SHARES[database]
    return [*_every(others, step), *_every(computing, step * IN_MEMORY_SHARE)]


def _every(points: Sequence[str], step: int) -> Sequence[str]:
    return points[random.randrange(step) :: step]  # noqa: S311 - any beginning will do


def at_points(scenario: Scenario, points: Iterable[str]) -> dict[str, Aim]:
    """Aim at points, by their names."""
    return {point: partial(die_at, scenario=scenario, point=point) for point in points}


def at_moments(scenario: Scenario, moments: Iterable[float]) -> dict[str, Aim]:
    """Aim at moments, in seconds from the beginning of the scenario."""
    return {f"after {moment:.3f} s": partial(die_after, scenario=scenario, seconds=moment) for moment in moments}


async def campaign(worlds: Sequence[World], aims: Mapping[str, Aim]) -> Toll:
    """Kill once for each aim; a world in which something was found missing is not used any further."""
    toll, waiting = Toll(aims=len(aims)), deque(aims)

    async def work(world: World) -> None:
        while waiting:
            name = waiting.popleft()
            try:
                died = await _insist(aims[name], world)
            except Exception as error:  # noqa: BLE001 - one finding must not hide the others
                world.broken = True
                toll.failures.append(f"{name} in {world.name}: {type(error).__name__}: {error}")
                return
            if died:
                toll.kills += 1
            else:
                toll.missed.append(name)

    async with asyncio.TaskGroup() as group:
        for world in worlds:
            group.create_task(work(world), name=f"kills-{world.name}")
    toll.missed += waiting
    return toll


async def _insist(aim: Aim, world: World) -> bool:
    for _ in range(TRIES):
        if await aim(world):
            return True
    return False
