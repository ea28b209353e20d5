"""One seed: a world is made, lives through troubled hours, is given peace, and must then be as it should."""

import asyncio
import traceback
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import structlog

from byokd.domain.identifiers import TenantId
from byokd.ports import ServiceKey
from byokd.settings import IdentitySettings, Settings
from simulation import loop, polling
from simulation.operators import Everything
from simulation.oracle import Oracle
from simulation.store import Database
from simulation.trace import Trace, ViolatedError
from simulation.world import IDENTITIES, Customer, SimWorld, spec_of
from virtual.world import account_id

ACTIONS: dict[str, int] = {
    "rotate": 8, "disable": 5, "disable_during_a_check": 3, "delete": 3, "make_anew": 1, "expire": 3,
    "take_operations": 3, "revoke": 4, "flap": 2, "block": 2, "delete_vault": 1, "strike": 8, "odd_answer": 5,
    "wrong_value": 1, "odd_then_quick_hint": 3, "silence_between_denials": 3, "stale": 3,
    "stale_after_two_rotations": 2, "slow": 2, "fail_over": 2, "lose_identity": 2, "lose_network": 2, "step_clock": 2,
    "odd_and_clock": 1, "store_fails": 5, "lose_a_suspicion": 2, "store_is_down": 2, "broker_is_down": 2,
    "broker_drops": 4, "broker_refuses": 2, "broker_comes_back_older": 2, "broker_comes_back_empty": 1, "crash": 3,
    "crash_at_a_call": 6, "stop": 1, "reveal": 3, "reveal_for_a_while": 4, "protect": 3, "check": 2, "move_account": 3,
    "move_during_a_rewrap": 3, "recreate_account": 2, "reload": 1, "hint_falsely": 2, "flood_with_hints": 1,
    "settle_brake": 1, "quiet": 6,
}  # fmt: skip
"""What can happen, and how likely it is beside the rest. Each seed is fonder of some than of others."""

ERROR = "an error of the simulation"
"""It failed, but showed nothing."""

SHORT, LONG = (300, 1200), (1200, 4000)
"""Seconds of trouble. Most bugs show soon, so that many short worlds find more than a few long ones; not all do."""

CROWD, CROWDED = 4, 0.15
"""Share of worlds with customers enough for the brake."""

CONVERGES_WITHIN = 3600.0
"""Seconds of peace after which everything must be as it should: the longest waits of verdicts, then of rewraps."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What came of one seed."""

    seed: int
    digest: str
    hours: float
    reached: Counter[str]
    invariant: str | None = None
    what: str = ""
    lines: tuple[str, ...] = ()


@cache
def database() -> Database:
    return Database()


@cache
def service_keys() -> Path:
    directory = Path(mkdtemp(prefix="byokd-simulation-"))
    for number, kind in enumerate(ServiceKey, start=1):
        path = directory / f"{kind}.1.key"
        path.touch(mode=0o600)
        path.write_bytes(bytes([number]) * 32)
    return directory


@cache
def settings(kind: int) -> Settings:
    """The defaults, or hastier ones. Identities serve all customers: then our own fault meets all of them."""
    given = Settings(identities={name: IdentitySettings(shared=True) for name in IDENTITIES})
    if kind == 0:
        return given
    checks = given.checks.model_copy(update={"interval": timedelta(seconds=30 if kind == 1 else 120)})
    rewrap = given.rewrap.model_copy(update={"settle": timedelta(minutes=3)})
    return given.model_copy(update={"checks": checks, "rewrap": rewrap})


def live(seed: int, *, whole: bool = False) -> Lived:
    """Run one seed, from an empty store to its end."""
    trace, chance = Trace(whole=whole), Random(f"byokd {seed}")  # noqa: S311 - repeatable
    invariant, what, hours = None, "", [0.0]
    logging = structlog.get_config()
    try:
        with polling.seldom(chance.random() > 0.1):
            loop.run(_live(seed, chance, trace, hours))
    except ViolatedError as violation:
        invariant, what = violation.invariant, violation.what
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its seed
        invariant, what = ERROR, "".join(traceback.format_exception(error))
    finally:
        structlog.configure(**logging)
    return Lived(seed, trace.digest, hours[0], trace.reached, invariant, what, tuple(trace.lines))


async def _live(seed: int, chance: Random, trace: Trace, hours: list[float]) -> None:
    world = SimWorld(service_keys(), database(), seed=seed, settings=settings(chance.choice((0, 0, 1, 2))), trace=trace)
    oracle = Oracle(world)
    adversary = Everything(world, oracle, chance)
    life = asyncio.ensure_future(_lives(world, adversary, chance))
    await asyncio.wait([life, world.failed], return_when=asyncio.FIRST_COMPLETED)
    hours[0] = world.now / 3600
    if world.failed.done():
        life.cancel()
        raise world.failed.result()
    life.result()


async def _lives(world: SimWorld, adversary: Everything, chance: Random) -> None:
    await world.begin()
    await _populate(world, chance)
    await _trouble(world, adversary, chance)
    adversary.calm()
    await _converge(world, adversary)
    await world.end()
    adversary.oracle.bus.check_at_end()
    adversary.oracle.prompt.check_bounds()


async def _populate(world: SimWorld, chance: Random) -> None:
    """A few customers, each with its own tenant, vaults, keys and accounts."""
    number = 0
    many = chance.random() < CROWDED
    for customer in range(chance.randint(5, 8) if many else chance.choice((1, 1, 2, 2, 3))):
        tenant = TenantId(f"11111111-2222-3333-4444-{customer:012d}")
        identity = chance.choice((IDENTITIES[0], *IDENTITIES))
        vaults = [
            world.vaults.open(f"vault{customer}{one}", tenant, IDENTITIES)
            for one in range(1 if many else chance.choice((1, 1, 2)))
        ]
        keys = [vault.create(f"key{one}") for vault in vaults for one in range(chance.choice((1, 1, 2)))]
        if chance.random() < 0.3:
            key = chance.choice(keys)
            keys.append(key.at(world.vaults.vaults[key.host].keys[key.name].newest.id))
        made = Customer(tenant, identity, vaults, keys, [])
        world.customers.append(made)
        for _ in range(1 if many else chance.choice((1, 2, 3))):
            number += 1
            made.accounts.append(account_id(number))
            key = None if chance.random() < 0.1 else chance.choice(keys)
            world.vaults.tag(key, account_id(number))
            result = await world.service.registrar.apply(spec_of(number, made, key))
            world.trace.note(f"applied {number} {result.action} {result.message}")


async def _trouble(world: SimWorld, adversary: Everything, chance: Random) -> None:
    fond = {name: weight * chance.choice((0, 0.3, 1, 1, 4)) for name, weight in ACTIONS.items()}
    if len(world.customers) > CROWD:
        fond["lose_identity"] += 6
    names, weights = list(fond), list(fond.values())
    lasts = chance.uniform(*(LONG if chance.random() < 0.15 else SHORT))
    pace, until = chance.choice((5.0, 20.0, 60.0)), world.now + lasts
    while world.now < until:
        (name,) = chance.choices(names, weights)
        if name == "quiet":
            wait = chance.choice((200.0, 500.0, 1000.0))
        else:
            getattr(adversary, name)()
            world.trace.count(f"did: {name}")
            wait = chance.expovariate(1 / pace)
        await _wait(world, adversary, wait)


async def _wait(world: SimWorld, adversary: Everything, seconds: float) -> None:
    """Let time go by, and compare now and then."""
    until = world.now + seconds
    while world.now < until:
        await asyncio.sleep(min(10.0, until - world.now))
        adversary.oracle.prompt.look()
        adversary.oracle.prompt.look_at_hints()


async def _converge(world: SimWorld, adversary: Everything) -> None:
    oracle, begun = adversary.oracle, world.now
    limit = (
        CONVERGES_WITHIN
        + world.settings.brake.max_hold.total_seconds()
        + sum(-seconds for _, seconds in world.steps if seconds < 0)
    )
    while True:
        await _wait(world, adversary, 30.0)
        unfinished = oracle.prompt.unfinished()
        if unfinished is None and not oracle.bus.has_all():
            unfinished = "not all events have come"
        if unfinished is None:
            unfinished = oracle.bus.retained_wrong()
        if unfinished is None and not world.is_up:
            unfinished = "the daemon does not run"
        if unfinished is None:
            return
        if world.now - begun > limit:
            raise ViolatedError("3 all is well in the end", unfinished)
