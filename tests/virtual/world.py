"""A whole service on virtual time: the real runtime, store and sealer; simulated vaults and bus."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

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
from byokd.ports import Auditor, Ids, KeyTarget, VaultRegistry
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
from virtual.bus import PREFIX, MemoryBus
from virtual.clock import HOUR, MINUTE, START, SeededRandomness, VirtualClock, virtually
from virtual.shapes import assert_shapes
from virtual.troubled_store import TroubledStore
from virtual.vaults import IDENTITY, TENANT, SimulatedVaults, Vault

__all__ = [
    "HOUR",
    "MINUTE",
    "PREFIX",
    "START",
    "SeededRandomness",
    "VirtualClock",
    "World",
    "account_id",
    "spec_of",
    "virtually",
    "with_checks",
]
"""What tests of a world need of it, and of what it is made of."""


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

    async def until_suspected(self, key: KeyIdentifier) -> None:
        """Wait until a denial of a key's current version was seen once: at its next poll, at the latest."""

        async def is_suspected() -> bool:
            return (await self.watch(key)).current_version.verdict.suspicion is not None

        await self.until(is_suspected, within=67)

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
