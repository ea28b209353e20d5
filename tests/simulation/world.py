"""A world: one byokd, its customers, its broker and its bad luck; and an init system that starts it again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import structlog

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId
from byokd.settings import Settings
from simulation.broker import SimBroker
from simulation.life import Life
from simulation.store import Database, SimStore
from simulation.trace import Trace, ViolatedError
from simulation.vaults import SimVault, SimVaults, stream_of
from virtual.world import VirtualClock, World, account_id

IDENTITIES = (IdentityName("platform"), IdentityName("second"))
ENDS_WITHIN = 60.0
"""Seconds that a process gets to end, once it is told to or killed."""


@dataclass(slots=True)
class Customer:
    """A tenant with vaults of its own."""

    tenant: TenantId
    identity: IdentityName
    vaults: list[SimVault]
    keys: list[KeyIdentifier]
    accounts: list[AccountId]


class SimWorld(World):
    """The world of `tests/virtual`, with ports that a process may die in."""

    def __init__(self, service_keys: Path, database: Database, *, seed: int, settings: Settings, trace: Trace) -> None:
        chance = Random(seed)  # noqa: S311 - repeatable
        super().__init__(service_keys, seed=chance.getrandbits(32), settings=settings, database=database)
        self.trace = trace
        self.raw = database.raw
        self.chance = stream_of(chance)
        self.vaults: SimVaults = SimVaults(VirtualClock(), trace, seed=chance.getrandbits(32))
        self.bus: SimBroker = SimBroker(trace)  # type: ignore[assignment]
        self.store: SimStore = SimStore(self.sql, database.raw, trace)  # type: ignore[assignment]
        self.customers: list[Customer] = []
        self.life = Life(0, 0.0)
        self.touched = 0.0
        self.downtime = 0.0
        self.lives = 0
        self.boots: list[float] = []
        self.deaths: dict[int, float] = {}
        self.steps: list[tuple[float, float]] = []
        self._died = self._is_down = asyncio.Event()
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.lies = False
        self.confirmed_by_operator = False
        self.lost_at = 0.0
        self.since_loss: dict[int, str] = {}
        self._watching: asyncio.Task[None] | None = None
        structlog.configure(processors=[self._note_log], cache_logger_on_first_use=False)

    def _note_log(self, _: object, level: str, event: dict[str, Any]) -> dict[str, Any]:
        shown = " ".join(f"{key}={event[key]}" for key in sorted(event) if key not in {"event", "exc_info", "hint"})
        self.trace.note(f"log {level} {event['event']} {shown}")
        self.trace.count(f"log: {event['event']}")
        raise structlog.DropEvent

    def touch(self) -> None:
        """Note that something concerned everybody just now: what is promised after it is counted from here."""
        self.touched = self.now

    def step_clock(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.stepped += timedelta(seconds=seconds)
        self.steps.append((self.now, seconds))
        self.touch()
        self.trace.note(f"! clock {seconds}")

    @property
    def is_up(self) -> bool:
        return (
            self._running is not None and not self.life.is_dead and self._stop is not None and not self._stop.is_set()
        )

    async def begin(self) -> None:
        """Start for the first time, and from then on again whenever it ended."""
        await self._boot()
        self._watching = asyncio.create_task(self._restart_for_ever(), name="init")

    async def end(self) -> None:
        """Stop in good order, for good."""
        self.stop_in_order(downtime=3600.0)
        await self._is_down.wait()
        assert self._watching is not None
        self._watching.cancel()

    def crash(self, *, downtime: float) -> None:
        """End the process now, wherever it is."""
        if self.is_up:
            self.downtime = downtime
            self.life.is_dead = True
            self._died.set()

    def stop_in_order(self, *, downtime: float) -> None:
        """As SIGTERM does."""
        if self.is_up and self._stop is not None:
            self.trace.note("stop")
            self.downtime = downtime
            for operator in self.life.operators:
                operator.cancel()
            self._stop.set()

    async def _restart_for_ever(self) -> None:
        try:
            while True:
                await self._lived()
                self._is_down.set()
                await asyncio.sleep(self.downtime)
                self.touch()
                await self._boot()
                self.trace.count("restarts")
        except Exception as error:  # noqa: BLE001 - whatever it is, a world that starts no daemon any more has failed
            self.fail(error)

    async def _lived(self) -> None:
        """Wait until the process has ended, and judge how."""
        running, died = self._running, asyncio.ensure_future(self._died.wait())
        assert running is not None
        assert self._stop is not None
        await asyncio.wait([running, died], return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        self.touch()
        self.deaths[self.life.number] = self.now
        if self.life.is_dead:
            self.trace.note(f"crash at {self.life.died_at}")
            self.trace.count(f"crash {_kind(self.life.died_at)}")
            for task in [*self.life.operators, running]:
                task.cancel()
        elif not self._stop.is_set():
            raise ViolatedError("lives", f"the daemon ended by itself: {running!r}")
        else:
            self.trace.count("stop in good order")
        self.life.is_dead = True
        for task in [*self.life.operators, running]:
            await self._ended(task)
        self._running = None

    def fail(self, violation: BaseException) -> None:
        """End the world: an invariant does not hold."""
        if not self.failed.done():
            self.failed.set_result(violation)

    async def _ended(self, running: asyncio.Task[None]) -> None:
        await asyncio.wait([running], timeout=ENDS_WITHIN)
        if not running.done():
            raise ViolatedError("lives", f"{running.get_name()} does not end")
        if not running.cancelled():
            running.exception()

    async def _boot(self) -> None:
        self.lives += 1
        self.boots.append(self.now)
        self._died, self._is_down = asyncio.Event(), asyncio.Event()
        self.life = Life(self.lives, self.now, on_death=self._died.set)
        self.store.life = self.bus.life = self.vaults.life = self.life
        self.trace.note(f"start {self.lives}")
        await self.start()

    def operate(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None] | None:
        """Let an operator do something by the running daemon; it dies with it."""
        if not self.is_up:
            return None

        async def working() -> None:
            await work()

        task: asyncio.Task[None] = asyncio.create_task(working(), name=name)
        self.life.operators = [one for one in self.life.operators if not one.done()]
        self.life.operators.append(task)
        task.add_done_callback(self._operated)
        return task

    def _operated(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


def spec_of(number: int, customer: Customer, key: KeyIdentifier | None) -> AccountSpec:
    by_customer = None if key is None else CustomerKey(customer.identity, key)
    return AccountSpec(account_id(number), customer.tenant, "westeurope", by_customer)


def _kind(place: str | None) -> str:
    return "at any moment" if place is None else f"at {place}"
