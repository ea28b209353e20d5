"""A whole service on virtual time: the real runtime, store and sealer; simulated vaults and bus."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import looptime
from sqlalchemy import select
from structlog.testing import capture_logs

from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.adapters.sql.store import SqlStore
from byokd.adapters.sql.tables import events
from byokd.adapters.systemd.notifier import SystemdNotifier
from byokd.domain.accounts import Account, AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.payload import Payload
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import State
from byokd.ports import Auditor, BusMessage, BusUnavailableError, Ids, KeyTarget, StoreUnavailableError, VaultRegistry
from byokd.ports.queues import EventQueue
from byokd.runtime.account_keys import AccountKeys
from byokd.runtime.daemon import Daemon
from byokd.runtime.outside import Outside, Unregistered
from byokd.runtime.registrar import Action
from byokd.runtime.service import Service
from byokd.runtime.tasks import daemon_over
from byokd.settings import Settings
from store.builders import CountingIds, finish
from store.memory import empty_inline
from virtual.shapes import assert_shapes
from virtual.vaults import IDENTITY, TENANT, SimulatedVaults, Vault

T = TypeVar("T")

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
PREFIX = "byokd/v1"
MINUTE, HOUR = 60.0, 3600.0


def virtually(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, on virtual time: for tests that run many."""
    with asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(start=0, noop_cycles=2)) as runner:
        return runner.run(scenario)


class VirtualClock:
    """As the clock of the machine, but that the day begins with the loop; `stepped` is what NTP did to it.

    Looking at it takes a nanosecond: timers may fire that much early, and on a clock that stands still whoever looks
    again and waits for the rest would do so for ever.
    """

    def __init__(self) -> None:
        self._looked = 0
        self.stepped = timedelta(0)

    def now(self) -> datetime:
        return START + self.stepped + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic(self) -> float:
        self._looked += 1
        return asyncio.get_running_loop().time() + self._looked * 1e-9

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - repeatable

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class MemoryBus:
    """A broker that accepts everything, keeps what is retained, and notes when what came."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, BusMessage]] = []
        self.retained: dict[str, bytes] = {}
        self.down = False
        self._lost: set[asyncio.Event] = set()

    def drop(self) -> None:
        """Break every connection and take no new one until `back`."""
        self.down = True
        for lost in self._lost:
            lost.set()

    def back(self) -> None:
        self.down = False

    @asynccontextmanager
    async def connect(
        self,
        client_id: str,
        *,
        will: BusMessage | None = None,  # noqa: ARG002 - nobody here watches for absence
    ) -> AsyncIterator["MemorySession"]:
        if self.down:
            raise BusUnavailableError(f"no broker for {client_id}")
        lost = asyncio.Event()
        self._lost.add(lost)
        try:
            yield MemorySession(self, lost)
        finally:
            self._lost.discard(lost)

    def told(self, account: AccountId) -> list[dict[str, Any]]:
        """The events of an account as they came, with the virtual second at which they did."""
        topic = f"{PREFIX}/{account.topic}/events"
        return self._events(topic)

    def told_of_key(self, key: KeyIdentifier) -> list[dict[str, Any]]:
        return self._events(f"{PREFIX}/{key.topic}/events")

    def _events(self, topic: str) -> list[dict[str, Any]]:
        return [{**json.loads(message.payload), "at": at} for at, message in self.messages if message.topic == topic]


class MemorySession:
    def __init__(self, bus: MemoryBus, lost: asyncio.Event) -> None:
        self._bus = bus
        self._lost = lost

    async def publish(self, message: BusMessage) -> None:
        await asyncio.sleep(0)
        if self._lost.is_set():
            raise BusUnavailableError("the connection was lost")
        self._bus.messages.append((asyncio.get_running_loop().time(), message))
        if message.retain and message.payload:
            self._bus.retained[message.topic] = message.payload
        elif message.retain:
            self._bus.retained.pop(message.topic, None)

    async def retained(self, topic: str) -> bytes | None:
        await asyncio.sleep(0)
        if self._lost.is_set():
            raise BusUnavailableError("the connection was lost")
        return self._bus.retained.get(topic)

    async def lost(self) -> None:
        await self._lost.wait()


SAYS_NOTHING = frozenset({"ping", "record_due"})
"""Writes after which every answer is as before."""

POLLED = frozenset({"ping", "census", "unpublished", "follow", "rewrap_queues", "settle"})
"""What is asked every few seconds."""


class TroubledStore:
    """The store, with trouble on demand: before the transaction, or after it (its outcome is unknown, as promised).

    While nothing is written, hours of polling would be the same few transactions thousands of times; those that found
    nothing to do are not repeated.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._raw: sqlite3.Connection = store._runner.writer.raw_connection().driver_connection  # type: ignore[attr-defined]
        self.calls = 0
        self.fail_at: frozenset[int] = frozenset()
        self.fail_next = ""
        self.fail_all = False
        self.after = False
        self.failed: list[str] = []
        self._nothing: dict[str, object] = {}
        self._seen = self._raw.total_changes

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        transaction = getattr(self._store, name)

        async def troubled(*args: object, **kwargs: object) -> object:
            self.calls += 1
            strikes = self.fail_all or self.calls in self.fail_at or name == self.fail_next
            if strikes and not self.after:
                raise self._trouble(name)
            if self._raw.total_changes != self._seen:
                self._nothing.clear()
                self._seen = self._raw.total_changes
            if name in self._nothing and not (name == "settle" and self._settles(kwargs["before"])):
                return self._nothing[name]
            result = await transaction(*args, **kwargs)
            if name in SAYS_NOTHING:
                self._seen = self._raw.total_changes
            is_polled = name in POLLED and not kwargs.get("after")
            if is_polled and self._raw.total_changes == self._seen and await self._stays(name, result):
                self._nothing[name] = result
            if strikes:
                raise self._trouble(name)
            return result

        return troubled

    async def _stays(self, name: str, result: object) -> bool:
        """Whether the answer is the same later, as long as nothing is written: time alone makes no work."""
        if name in {"ping", "census", "settle"}:
            return True
        if name == "rewrap_queues":
            return not result and (await self._store.census()).rewraps_waiting == 0
        return not result

    def _settles(self, before: datetime) -> bool:
        """Whether time has made work."""
        query = "SELECT 1 FROM account_keys WHERE superseded_at < ? LIMIT 1"
        return self._raw.execute(query, [before.strftime("%Y-%m-%d %H:%M:%S.%f")]).fetchone() is not None

    def _trouble(self, name: str) -> StoreUnavailableError:
        self.failed.append(name)
        self.fail_next = ""
        return StoreUnavailableError("the disk is full", hint="make room")


class Database(Protocol):
    """Where worlds get their stores."""

    def emptied(self, ids: Ids, auditor: Auditor) -> SqlStore: ...


class World:
    """The outside, which outlives every service over it."""

    def __init__(
        self, service_keys: Path, *, seed: int = 0, settings: Settings | None = None, database: Database | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.clock = VirtualClock()
        self.randomness = SeededRandomness(seed)
        self.ids = CountingIds()
        self.vaults = SimulatedVaults(self.clock, seed=seed)
        self.bus = MemoryBus()
        self.registry: VaultRegistry = Unregistered()
        self.event_queues: dict[str, EventQueue] = {}
        self.sealer = AesGcmSealer(FileServiceKeys(service_keys), self.randomness)
        self.cipher = HkdfAccountCipher(self.randomness)
        self.auditor = HmacAuditor(FileServiceKeys(service_keys))
        emptied = empty_inline if database is None else database.emptied
        self.sql = emptied(self.ids, self.auditor)
        self.store = TroubledStore(self.sql)
        self.logs: list[Any] = []
        self._service: Service | None = None
        self._running: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None
        self._daemon: Daemon | None = None

    @property
    def service(self) -> Service:
        assert self._service is not None
        return self._service

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """Run a service; at the end it must stop in good order, if it still runs."""
        with capture_logs() as self.logs:
            await self.start()
            try:
                yield self
                if self._running is not None:
                    await self.stop()
                assert_shapes(message for _, message in self.bus.messages)
            finally:
                await self.crash()

    async def start(self, service: Service | None = None) -> None:
        self._service = service or self._new_service()
        self._stop = asyncio.Event()

        async def prepare() -> None:
            await self.store.ping()

        self._daemon = daemon_over(self._service, self._stop, prepare=prepare, always=[], closing=[])
        self._running = asyncio.create_task(self._daemon.run(), name="daemon")
        await asyncio.sleep(0.001)

    async def reload(self, settings: Settings | None = None) -> None:
        """As `byokd reload` does, once the daemon has started."""
        assert self._stop is not None
        assert self._daemon is not None
        if not self._daemon.has_started:
            return

        async def prepare() -> None:
            raise AssertionError("only a start prepares")

        self.settings = settings or self.settings
        before, successor = self.service, self._new_service(self.service)
        daemon = daemon_over(successor, self._stop, prepare=prepare, always=[], closing=[])
        await before.hand_over(self._daemon, successor, daemon)
        self._service = successor

    def _new_service(self, before: Service | None = None) -> Service:
        outside = Outside(
            store=self.store,
            probe_keys=self.vaults.probe,
            keys=self.vaults.kept,
            fresh_keys=self.vaults.fresh,
            sealer=self.sealer,
            cipher=self.cipher,
            bus=self.bus,
            clock=self.clock,
            randomness=self.randomness,
            ids=self.ids,
            manager=SystemdNotifier({}),
            registry=self.registry,
            event_queues=self.event_queues,
        )
        return Service(self.settings, outside, before=before)

    async def stop(self) -> None:
        """As SIGTERM does."""
        assert self._stop is not None
        assert self._running is not None
        self._stop.set()
        running, self._running = self._running, None
        await running

    async def crash(self) -> None:
        """End everything at once, without a word."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def restart(self) -> None:
        await self.crash()
        await self.start()

    def is_alive(self) -> bool:
        return self._running is not None and not self._running.done()

    async def register(self, key: KeyIdentifier, *, first: int = 1, count: int = 1) -> list[AccountId]:
        """Create accounts by the registrar."""
        made = []
        for number in range(first, first + count):
            spec = spec_of(number, key)
            result = await self.service.registrar.apply(spec)
            assert result.action is Action.CREATED, result
            made.append(spec.id)
        return made

    async def account(self, account: AccountId) -> Account:
        found = await self.sql.account(account)
        assert found is not None
        return found

    async def state(self, account: AccountId) -> State:
        return (await self.account(account)).state

    async def watch(self, key: KeyIdentifier) -> Watch:
        found = await self.sql.find_watch(KeyTarget(IDENTITY, TENANT, key))
        assert found is not None
        return found

    async def until(self, condition: Callable[[], Awaitable[bool]], *, within: float) -> float:
        """Wait until something holds, looking ten times a second; give how long that took."""
        begun = self.now
        while not await condition():
            assert self.now - begun <= within, f"not within {within} s"
            await asyncio.sleep(0.1)
        return self.now - begun

    async def until_told(self, account: AccountId, type_: str, *, within: float, times: int = 1) -> dict[str, Any]:
        """Wait for an event of that type on the bus."""

        async def is_told() -> bool:
            return len(self.told(account, type_)) >= times

        await self.until(is_told, within=within)
        return self.told(account, type_)[times - 1]

    async def until_told_state(self, account: AccountId, state: State, *, within: float) -> None:
        """Wait until the last event of an account tells that state."""

        async def is_told() -> bool:
            told = self.told(account)
            return bool(told) and told[-1]["data"]["state"] == state

        await self.until(is_told, within=within)

    def told(self, account: AccountId, type_: str | None = None) -> list[dict[str, Any]]:
        """Events on the bus, each once, in the order of their first arrival."""
        return _once([event for event in self.bus.told(account) if type_ in {None, event["type"]}])

    def told_of_key(self, key: KeyIdentifier, type_: str) -> list[dict[str, Any]]:
        return _once([event for event in self.bus.told_of_key(key) if event["type"] == type_])

    async def open(self, account: Account) -> Payload:
        """Open an account key as stored, past all bad luck; raises what `AccountKeys.open` raises."""
        wrapped = await self.sql.wrapped_key(account.id)
        assert wrapped is not None
        keys = AccountKeys(
            self.vaults.kept,
            self.sealer,
            self.cipher,
            clock=self.clock,
            randomness=self.randomness,
            deadline=timedelta(seconds=15),
        )
        target = None if wrapped.key_identifier is None else KeyTarget(IDENTITY, TENANT, wrapped.key_identifier)
        return await keys.open(wrapped, target)

    async def assert_converged(self, *, keys_open: bool = True) -> None:
        """Everything committed was told, in order and without gaps; the bus retains what the store says."""
        await self.until(self._all_published, within=60)
        rows = await self.sql._runner.read(lambda c: list(c.execute(select(events).order_by(events.c.number))))
        streams: dict[str, list[tuple[str, int]]] = {}
        for row in rows:
            if row.account is not None:
                streams.setdefault(row.stream, []).append((row.incarnation, row.sequence))
        for stream, written in streams.items():
            lives: dict[str, list[int]] = {}
            for incarnation, sequence in written:
                lives.setdefault(incarnation, []).append(sequence)
            for sequences in lives.values():
                assert sequences == list(range(1, len(sequences) + 1)), stream
            told = _once(self.bus._events(f"{PREFIX}/{stream}/events"))
            assert [(event["data"]["incarnation"], event["data"]["sequence"]) for event in told] == written, stream
        retained = {
            topic: json.loads(body)["data"] for topic, body in self.bus.retained.items() if "/accounts/" in topic
        }
        present = await self.sql.accounts()
        assert retained.keys() == {f"{PREFIX}/{account.id.topic}/state" for account in present}
        for account in present:
            shown = retained[f"{PREFIX}/{account.id.topic}/state"]
            assert shown["incarnation"] == account.incarnation
            assert shown["sequence"] == account.sequence
            assert (shown["state"], shown["reason"]) == (account.state, account.reason)
            assert shown["currentKeyIdentifier"] == (None if account.current is None else str(account.current))
            if keys_open:
                await self.open(account)

    async def _all_published(self) -> bool:
        return not await self.sql.unpublished(after=0, limit=1)

    def close(self) -> None:
        finish(self.sql.close())

    def one_vault(self, name: str = "contoso") -> tuple[Vault, KeyIdentifier]:
        vault = self.vaults.make(name)
        return vault, vault.create()


def account_id(number: int) -> AccountId:
    return AccountId("00000000-0000-0000-0000-000000000001", "media-group", f"account{number:05d}")


def spec_of(number: int, key: KeyIdentifier | None) -> AccountSpec:
    return AccountSpec(account_id(number), TENANT, "westeurope", None if key is None else CustomerKey(IDENTITY, key))


def with_checks(**changes: object) -> Settings:
    """The default settings but for these of the checks."""
    settings = Settings()
    return settings.model_copy(update={"checks": settings.checks.model_copy(update=changes)})


def _once(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, dict[str, Any]] = {}
    for event in told:
        seen.setdefault(event["id"], event)
    return list(seen.values())
