"""Joins the runtime to the adapters. The only module of the runtime that imports them."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.service import lean_service, sdk_service
from byokd.adapters.keyvault.transport import Outbound, shrink_tls_buffers
from byokd.adapters.mqtt.bus import MqttBus
from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.place import key_directory
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.adapters.sql.audit import Audit, export, reading
from byokd.adapters.sql.read_only import read_only_store
from byokd.adapters.sql.store import SqlStore, database_status, store_for, upgrade_database
from byokd.adapters.systemd.notifier import SystemdNotifier
from byokd.domain.chain import Heads, KnownHead
from byokd.domain.identifiers import WatchId
from byokd.domain.verdict import Policy
from byokd.ports import AccountCipher, Bus, Clock, Ids, KeyService, Randomness, Sealer, ServiceManager, Store
from byokd.records import SignedEvent
from byokd.runtime.account_keys import AccountKeys
from byokd.runtime.auditing import Auditing
from byokd.runtime.checker import Checker
from byokd.runtime.clock import SystemClock, SystemRandomness, UuidIds
from byokd.runtime.daemon import GOODBYE, Body, Daemon, Farewell, NamedTask
from byokd.runtime.doubts import DoubtingKeys, Doubts
from byokd.runtime.follower import Follower
from byokd.runtime.health import Component, Health
from byokd.runtime.housekeeper import Housekeeper
from byokd.runtime.layers import Layers
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.plaintext import PlaintextKeys
from byokd.runtime.presence import Presence
from byokd.runtime.publisher import Publisher
from byokd.runtime.registrar import Registrar
from byokd.runtime.resealer import Resealer
from byokd.runtime.rewrapper import Rewrapper
from byokd.runtime.scheduler import Scheduler
from byokd.runtime.service_keys import prove_service_keys
from byokd.runtime.service_manager import Reporter
from byokd.runtime.since import parse_since
from byokd.runtime.tailing import Tailing
from byokd.runtime.unwrapping import LiveUnwraps
from byokd.runtime.values import ProtectedValues
from byokd.runtime.verifying import Verifier
from byokd.settings import CheckSettings, Settings


@dataclass(frozen=True, slots=True)
class Outside:
    """The ports, filled. Tests fill them otherwise; nothing else differs.

    Attributes:
        probe_keys: for routine looks at healthy keys.
        keys: for everything that changes something: registering, rewrapping.
        fresh_keys: like `keys`, but every call opens a connection of its own: for confirming denials.
        manager: who started the daemon; nobody, unless said otherwise.
    """

    store: Store
    probe_keys: KeyService
    keys: KeyService
    fresh_keys: KeyService
    sealer: Sealer
    cipher: AccountCipher
    bus: Bus
    clock: Clock
    randomness: Randomness
    ids: Ids
    manager: ServiceManager = field(default_factory=lambda: SystemdNotifier({}))


class Service:
    """The runtime over one filled set of ports."""

    health: Health
    metrics: Metrics
    publisher: Publisher
    presence: Presence
    tailing: Tailing

    def __init__(self, settings: Settings, outside: Outside, *, before: "Service | None" = None) -> None:
        """Join the parts; nothing runs yet.

        Args:
            settings: what to go by.
            outside: what to work on.
            before: the service that this one succeeds in the same process. Health and numbers go over to it, and so do
                the connections to the bus while the settings for it are the same.
        """
        self.settings = settings
        self.outside = outside
        self.clock = outside.clock
        self.store = outside.store
        self.health = Health(outside.clock) if before is None else before.health
        self.metrics = Metrics() if before is None else before.metrics
        self.doubts = Doubts(outside.clock, memory=settings.values.max_plaintext_age)
        self.keys = DoubtingKeys(outside.keys, self.doubts)
        if before is None or before.settings.mqtt != settings.mqtt:
            self._join_bus()
        else:
            self.publisher, self.presence = before.publisher, before.presence
        self._join_watching()
        self._join_account_keys()
        self._join_service_keys()
        self.housekeeper = Housekeeper(self.store, clock=self.clock, retention=settings.store.history_retention)
        self.auditing = Auditing(
            self.store, clock=self.clock, interval=settings.store.audit_interval, on_change=self.publisher.notify
        )
        self.tailing = Tailing(self.store) if before is None else before.tailing
        self.observer = Observer(
            self.store, clock=self.clock, health=self.health, metrics=self.metrics, publisher=self.publisher
        )
        self.observer.census = None if before is None else before.observer.census
        self.reporter = Reporter(outside.manager, self.clock, health=self.health, observer=self.observer)

    def _join_bus(self) -> None:
        outside, mqtt = self.outside, self.settings.mqtt
        self.publisher = Publisher(
            self.store, outside.bus, self.clock, outside.randomness, mqtt, on_published=self.metrics.published.inc
        )
        self.presence = Presence(
            outside.bus,
            self.clock,
            outside.randomness,
            outside.ids,
            mqtt,
            instance=self.settings.service.instance,
            version=version("byokd"),
        )

    def _join_watching(self) -> None:
        checks = self.settings.checks
        self.follower = Follower(self.store, clock=self.clock, on_change=self.publisher.notify)
        self.checker = Checker(
            self.store,
            self.outside.probe_keys,
            fresh_keys=self.outside.fresh_keys,
            clock=self.clock,
            randomness=self.outside.randomness,
            policy=policy(checks),
            deadline=checks.deadline,
            metrics=self.metrics,
            doubts=self.doubts,
        )
        self.scheduler = Scheduler(
            self.store,
            self.checker,
            clock=self.clock,
            settings=checks,
            health=self.health,
            metrics=self.metrics,
            on_change=self._verdicts_changed,
        )
        self.doubts.on_report(self.scheduler.hint_version)

    def _join_account_keys(self) -> None:
        outside, rewrap = self.outside, self.settings.rewrap
        account_keys = AccountKeys(
            self.keys,
            outside.sealer,
            outside.cipher,
            clock=self.clock,
            randomness=outside.randomness,
            deadline=rewrap.deadline,
        )
        self.rewrapper = Rewrapper(
            self.store,
            account_keys,
            clock=self.clock,
            settings=rewrap,
            metrics=self.metrics,
            on_change=self.publisher.notify,
            on_retired=self._watch_changed,
        )
        self.registrar = Registrar(
            self.store,
            self.keys,
            account_keys,
            clock=self.clock,
            randomness=outside.randomness,
            ids=outside.ids,
            deadline=rewrap.deadline,
            on_change=self._accounts_changed,
        )
        self._join_values(account_keys)

    def _join_values(self, account_keys: AccountKeys) -> None:
        settings = self.settings.values
        unwraps = LiveUnwraps(account_keys, self.doubts, clock=self.clock, metrics=self.metrics)
        self.plaintext = PlaintextKeys(
            self.store, unwraps, self.doubts, clock=self.clock, settings=settings, metrics=self.metrics
        )
        self.values = ProtectedValues(
            self.store,
            self.plaintext,
            sealer=self.outside.sealer,
            cipher=self.outside.cipher,
            clock=self.clock,
            settings=settings,
        )

    def _join_service_keys(self) -> None:
        outside = self.outside
        layers = Layers(outside.sealer, outside.cipher)
        self.resealer = Resealer(self.store, layers, outside.sealer, clock=self.clock, metrics=self.metrics)
        self.verifier = Verifier(
            self.store,
            layers,
            self.keys,
            clock=self.clock,
            deadline=self.settings.rewrap.deadline,
            concurrency=self.settings.service_keys.verify_concurrency,
        )

    def daemon(
        self, stop: asyncio.Event, *, prepare: Body, always: Sequence[NamedTask], closing: Sequence[Farewell]
    ) -> Daemon:
        """Give the daemon over these parts.

        Args:
            stop: set when it is time to stop.
            prepare: makes the store usable.
            always: what runs from the first moment on.
            closing: what is closed first when stopping.
        """
        settings = self.settings.service

        async def prepared() -> None:
            await prepare()
            await prove_service_keys(self.store, self.outside.sealer)
            self.health.show_well(Component.SERVICE_KEYS)
            await self.store.claim_vaults(settings.instance)
            await self.observer.observe()

        async def end_checks() -> None:
            self.scheduler.stop()
            await self.scheduler.stopped()

        async def drain() -> None:
            await self.publisher.drain(within=settings.publish_grace)

        return Daemon(
            prepare=prepared,
            always=[*always, NamedTask("presence", self.presence.run)],
            after_start=[
                NamedTask("publisher", self.publisher.run),
                NamedTask("follower", self.follower.run),
                NamedTask("rewrapper", self.rewrapper.run),
                NamedTask("resealer", self.resealer.run),
                NamedTask("scheduler", self.scheduler.run),
                NamedTask("plaintext", self.plaintext.run),
                NamedTask("observer", self.observer.run),
                NamedTask("housekeeper", self.housekeeper.run),
                NamedTask("auditing", self.auditing.run),
                NamedTask("reporter", self.reporter.run),
            ],
            farewells=[
                *closing,
                Farewell("checks", end_checks, settings.check_grace),
                Farewell("publish", drain, settings.publish_grace + GOODBYE),
            ],
            stop=stop,
            health=self.health,
            clock=self.clock,
            randomness=self.outside.randomness,
        )

    async def hand_over(self, running: Daemon, successor: "Service", daemon: Daemon) -> None:
        """Let another service over the same store succeed this one: `daemon` over it, in the place of `running`."""
        self._make_way_for(successor)
        await running.hand_over(daemon)
        # Only now, when nobody of ours meets a denial any more.
        successor.doubts.inherit(self.doubts)

    def _make_way_for(self, successor: "Service") -> None:
        """Tell the parts that end because of another service that they are followed."""
        ours, theirs = self.settings.mqtt, successor.settings.mqtt
        moves = (ours.url, ours.topic_prefix) != (theirs.url, theirs.topic_prefix)
        if self.presence is not successor.presence and not moves:
            self.presence.leave_silently()

    def _verdicts_changed(self) -> None:
        self.follower.notify()
        self.rewrapper.notify()
        self.publisher.notify()

    async def _watch_changed(self, watch: WatchId) -> None:
        await self.scheduler.refresh(watch)

    async def _accounts_changed(self, watch: WatchId | None) -> None:
        if watch is not None:
            await self.scheduler.refresh(watch)
        self.rewrapper.notify()
        self.publisher.notify()


@dataclass(frozen=True, slots=True)
class Wired:
    """A service over the real outside, the store that is still to be prepared, and the ways to the vaults.

    `ways` is closed by whoever replaces them, or with everything else.
    """

    service: Service
    store: SqlStore
    ways: AsyncExitStack


async def wire(settings: Settings, stack: AsyncExitStack) -> Wired:
    """Fill the ports with the real adapters; what must be closed is left to `stack`. Nothing is contacted yet.

    Raises:
        ServiceKeysUnusableError: the service's own keys are missing, unsafe or malformed.
    """
    shrink_tls_buffers()
    clock, randomness, ids = SystemClock(), SystemRandomness(), UuidIds()
    service_keys = FileServiceKeys(key_directory(settings.service_keys, os.environ))
    sealer = AesGcmSealer(service_keys, randomness)
    store = store_for(settings.store, ids=ids, auditor=HmacAuditor(service_keys))
    stack.push_async_callback(store.close)
    ways = await stack.enter_async_context(AsyncExitStack())
    probe_keys, keys, fresh_keys = await _key_services(settings, ways, clock)
    outside = Outside(
        store=store,
        probe_keys=probe_keys,
        keys=keys,
        fresh_keys=fresh_keys,
        sealer=sealer,
        cipher=HkdfAccountCipher(randomness),
        bus=MqttBus(settings.mqtt),
        clock=clock,
        randomness=randomness,
        ids=ids,
        manager=SystemdNotifier(os.environ),
    )
    return Wired(Service(settings, outside), store, ways)


async def rewire(settings: Settings, ways: AsyncExitStack, before: Service) -> Service:
    """Give a service with other settings over the store and the service keys of the one that runs.

    The ways to vaults, identities and bus are new ones, and the files that the settings name are read again; what of
    that must be closed is left to `ways`.

    Raises:
        OSError: a file that the settings name cannot be used.
    """
    probe_keys, keys, fresh_keys = await _key_services(settings, ways, before.clock)
    bus = MqttBus(settings.mqtt)
    outside = replace(before.outside, probe_keys=probe_keys, keys=keys, fresh_keys=fresh_keys, bus=bus)
    return Service(settings, outside, before=before)


async def _key_services(
    settings: Settings, ways: AsyncExitStack, clock: Clock
) -> tuple[KeyService, KeyService, KeyService]:
    """Open the ways to vaults and identities, for looks, for changes and for confirmations (see `Outside`)."""
    outbound = await ways.enter_async_context(Outbound(settings.vaults, settings.network))
    credentials = Credentials(settings.identities, outbound.tokens, clock=clock)
    ways.push_async_callback(credentials.close)
    return (
        lean_service(outbound.kept, credentials, vaults=settings.vaults),
        sdk_service(outbound.kept, credentials, vaults=settings.vaults),
        sdk_service(outbound.fresh, credentials, vaults=settings.vaults),
    )


async def wire_verifier(settings: Settings, stack: AsyncExitStack, *, vaults: bool) -> Verifier:
    """Fill the ports that verification needs, of which the store is only read; with or without the vaults.

    Raises:
        ServiceKeysUnusableError: the service's own keys are missing, unsafe or malformed.
        StoreUnavailableError: the database cannot be read, or its schema is not this version's.
    """
    clock, randomness = SystemClock(), SystemRandomness()
    sealer = AesGcmSealer(FileServiceKeys(key_directory(settings.service_keys, os.environ)), randomness)
    keys: KeyService | None = None
    if vaults:
        _, keys, _ = await _key_services(settings, stack, clock)
    return Verifier(
        read_only_store(settings.store),
        Layers(sealer, HkdfAccountCipher(randomness)),
        keys,
        clock=clock,
        deadline=settings.rewrap.deadline,
        concurrency=settings.service_keys.verify_concurrency,
    )


@dataclass(frozen=True, slots=True)
class SchemaVersions:
    """The schema that the database has (None: empty) and the one that this version needs."""

    current: str | None
    needed: str


def upgrade_store(settings: Settings) -> SchemaVersions:
    """Bring the database's schema up to date, offline; give what it was.

    Raises:
        StoreUnavailableError: the database cannot be used, or is of a newer version.
    """
    found = upgrade_database(settings.store)
    return SchemaVersions(found.current, found.head)


def store_schema(settings: Settings) -> SchemaVersions:
    """Tell the database's schema, offline.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """
    found = database_status(settings.store)
    return SchemaVersions(found.current, found.head)


@contextmanager
def opened_audit(settings: Settings) -> Iterator[Audit]:
    """Open the record of events to verify it, beside a running daemon.

    Raises:
        StoreUnavailableError: there is no database.
        ServiceKeysUnusableError: the service's own keys are missing, unsafe or malformed.
    """
    auditor = HmacAuditor(FileServiceKeys(key_directory(settings.service_keys, os.environ)))
    with reading(settings.store) as engine:
        yield Audit(engine, auditor)


def export_history(
    settings: Settings,
    *,
    since: str | None,
    events: bool,
    on_event: Callable[[SignedEvent], None],
    on_head: Callable[[KnownHead], None],
) -> Heads:
    """Hand over the record of events, or its heads alone, beside a running daemon; give the digest of the heads.

    Raises:
        SinceInvalidError: it is not to be understood since when.
        StoreUnavailableError: the database cannot be used.
    """
    begin = 0 if since is None else parse_since(since, now=SystemClock().now())
    with reading(settings.store) as engine:
        return export(engine, since=begin if events else None, on_event=on_event, on_head=on_head)


def policy(checks: CheckSettings) -> Policy:
    """Give the times that `decide` weighs with."""
    return Policy(
        check_interval=checks.interval,
        check_jitter=checks.jitter,
        confirm_after=checks.confirm_after,
        confirm_network_after=checks.confirm_network_after,
        recheck_first=checks.recheck_first,
        recheck_most=checks.recheck_most,
        unverified_after=checks.unverified_after,
    )
