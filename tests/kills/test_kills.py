"""Killed at any point, byokd loses no account key, no event and no state.

The daemon is the real one, over a real broker, real TLS and a real database; it dies by SIGKILL before and after calls
of its ports, as the tests' own wiring orders, and is started again without orders.

By default it dies on SQLite at the first call of every kind (which port, which method, before or after, with which kind
of answer) that two recordings reached, and at the last one of those that are made only a few times, in up to two of the
scenarios that reach it, and of calls that only compute at one in four; on PostgreSQL at every fourth of all
that. Each run tries others.
`make kills` lets it die at every single call that was recorded, on both.
"""

import random
from collections.abc import Callable

import pytest

from kills.campaign import EVERY_CALL, at_moments, at_points, campaign, share
from kills.databases import KINDS
from kills.points import port_methods
from kills.rounds import come_to_rest, die_at
from kills.scenarios import SCENARIOS, Scenario
from kills.world import World
from kills.worlds import Worlds

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.asyncio(loop_scope="module")]

WORLDS = 4
"""Side by side in one process: most of a round is waiting."""

RANDOM_KILLS = 40 if EVERY_CALL else 4
RANDOM_SECONDS = 1.5
"""As long as a scenario takes, about."""

_QUEUED = "nothing is stored: a message that was not deleted comes again, and a hint that is lost costs a poll"
UNREACHED = {
    "delivery_tokens.are_from": "a delivery's token is judged: nothing is stored, and a hint that is lost costs a poll",
    **dict.fromkeys((f"event_queues.{name}" for name in ("receive", "delete", "set_aside", "peek")), _QUEUED),
    "fresh_keys.wrap": "a version that appears while a denial is being confirmed: proved as by probe_keys.wrap",
    "manager.alive": "a sign of life for a service manager that watches; there is none here",
    "manager.reloading": "the beginning of a reload, which ends as a start does",
    "manager.stopping": "the beginning of a stop in good order, after which nothing is begun",
    "store.account_damaged": "a record that does not open; here all do. One transaction, as that of any state",
    "store.account_repaired": "the same, when such a record opens again",
    "store.next_to_ask": "which vault ARM is asked about next: it is not asked here",
    "store.occupants": "the same: whose accounts use a vault",
    "store.record_asked": "the same: when it was asked; before it, ARM is asked again, and a warning is told once",
    "store.record_failing": "the backoff of a vault that does not answer, which looks at the dead would meet too",
    "store.repair_account": "an operator's other identity for an account: one transaction, as that of any update",
    "store.values_of": "a second look at a protected value that did not open; here all do",
}
"""Port methods that no scenario calls, each with the reason why no kill is needed there."""


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("database", KINDS)
async def test_nothing_is_lost_by_a_kill_before_or_after_a_port_call(
    worlds: Worlds, database: str, scenario: str, record_property: Record
) -> None:
    points = (await worlds.aims(database))[scenario]
    some = await worlds.some(database, WORLDS)
    toll = await campaign(some, at_points(SCENARIOS[scenario], share(points, database)))
    record_property(f"{database} kill points", toll.aims)
    record_property(f"{database} kills", toll.kills)
    assert not toll.failures, "\n".join(toll.failures)
    assert toll.kills >= 0.9 * toll.aims, f"not reached again: {toll.missed}"


@pytest.mark.parametrize("database", KINDS)
async def test_the_scenarios_reach_every_port_call(worlds: Worlds, database: str) -> None:
    points = {point for found in (await worlds.reached(database)).values() for point in found}
    assert port_methods() - {point.partition(":")[0] for point in points} == UNREACHED.keys()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("database", KINDS)
async def test_nothing_is_lost_by_a_kill_at_any_moment(
    worlds: Worlds, database: str, scenario: str, record_property: Record
) -> None:
    some = await worlds.some(database, WORLDS)
    count = RANDOM_KILLS if database == "sqlite" or EVERY_CALL else RANDOM_KILLS // 2
    # One in each part of the time, because some scenarios are over before all of it has passed.
    parts = [RANDOM_SECONDS * number / count for number in range(count)]
    moments = [part + random.uniform(0, RANDOM_SECONDS / count) for part in parts]  # noqa: S311 - any will do
    toll = await campaign(some, at_moments(SCENARIOS[scenario], moments))
    record_property(f"{database} kills", toll.kills)
    assert not toll.failures, "\n".join(toll.failures)
    assert toll.kills


@pytest.mark.parametrize(
    ("plant", "where", "finding"),
    [
        ("marks-first", ("rotate", "bus-session.publish:before"), "never published"),
        ("overwrites-wraps", ("rotate", "store.commit_rewraps:before"), "does not open"),
        ("names-keys-first", ("reseal", "store.commit_reseal:before"), "does not open"),
    ],
)
async def test_a_planted_mistake_is_found(worlds: Worlds, plant: str, where: tuple[str, str], finding: str) -> None:
    world = await worlds.planted("sqlite", plant)
    await come_to_rest(world)
    scenario, point = where
    with pytest.raises(AssertionError, match=finding):
        await _die_thrice(world, SCENARIOS[scenario], point)


async def _die_thrice(world: World, scenario: Scenario, call: str) -> None:
    for number in (1, 2, 3):  # the first message of all may be a marker, which nobody misses
        await die_at(world, scenario, f"{call}:{number}")
