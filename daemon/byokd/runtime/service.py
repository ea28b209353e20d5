"""The service: the parts of the runtime, joined over one filled set of ports, and how one service succeeds another."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import Final

from byokd.domain.identifiers import WatchId
from byokd.domain.properties import VaultProperties
from byokd.domain.verdict import Policy
from byokd.ports import (
    AccountCipher,
    Bus,
    Clock,
    Ids,
    KeyService,
    KeyTarget,
    Randomness,
    Sealer,
    ServiceManager,
    Store,
    VaultRegistry,
)
from byokd.ports.deliveries import DeliveryTokens
from byokd.ports.queues import EventQueue
from byokd.runtime.account_keys import AccountKeys
from byokd.runtime.admission import Admission
from byokd.runtime.auditing import Auditing
from byokd.runtime.brake import Brakeman
from byokd.runtime.checker import Checker
from byokd.runtime.daemon import GOODBYE, Body, Daemon, Farewell, NamedTask
from byokd.runtime.damages import Damages
from byokd.runtime.doubts import DoubtingKeys, Doubts
from byokd.runtime.explaining import Explainer
from byokd.runtime.follower import Follower
from byokd.runtime.health import Component, Health
from byokd.runtime.hinting import Hints
from byokd.runtime.housekeeper import Housekeeper
from byokd.runtime.layers import Layers
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.own_faults import HeardKeys, OwnFaults, VaultTimes
from byokd.runtime.plaintext import PlaintextKeys
from byokd.runtime.presence import Presence
from byokd.runtime.publisher import Publisher
from byokd.runtime.queue_reader import QueueReader
from byokd.runtime.queue_standings import QueueStandings
from byokd.runtime.rationing import Priority, Rations
from byokd.runtime.registrar import Registrar
from byokd.runtime.repairing import Repairer
from byokd.runtime.requirements import Requirements
from byokd.runtime.resealer import Resealer
from byokd.runtime.rewrapper import Rewrapper
from byokd.runtime.scheduler import Scheduler
from byokd.runtime.second_opinions import SecondOpinions
from byokd.runtime.service_keys import HeardSealer, prove_service_keys
from byokd.runtime.service_manager import Reporter
from byokd.runtime.sightings import Sightings
from byokd.runtime.standing import Standing
from byokd.runtime.tailing import Tailing
from byokd.runtime.unwrapping import LiveUnwraps
from byokd.runtime.values import ProtectedValues
from byokd.runtime.verifying import Verifier
from byokd.settings import BrakeSettings, CheckSettings, Settings

VERSION: Final = version("byokd")
"""Of the code that runs: what is installed may be exchanged underneath it."""


class Unregistered:
    """No registry: of no vault anything is told. See `VaultRegistry`."""

    async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:  # noqa: ARG002 - the port's
        """Tell nothing."""
        return None


class Unbelieving:
    """Believes no token. See `DeliveryTokens`."""

    async def are_from(self, token: str, **wanted: str) -> bool:  # noqa: ARG002 - the port's
        """Deny it."""
        return False


@dataclass(frozen=True, slots=True)
class Outside:
    """The ports, filled. Tests fill them otherwise; nothing else differs.

    Attributes:
        probe_keys: for routine looks at healthy keys.
        keys: for everything that changes something: registering, rewrapping.
        fresh_keys: like `keys`, but every call opens a connection of its own: for confirming denials.
        manager: who started the daemon.
        vault_times: who tells what time the vaults say it is.
        registry: what Azure itself tells of vaults.
        delivery_tokens: who judges the tokens of deliveries.
        event_queues: those that Event Grid delivers to, by the name of their source.
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
    manager: ServiceManager
    vault_times: VaultTimes = field(default_factory=VaultTimes)
    registry: VaultRegistry = field(default_factory=Unregistered)
    delivery_tokens: DeliveryTokens = field(default_factory=Unbelieving)
    event_queues: Mapping[str, EventQueue] = field(default_factory=dict)


class Service:
    """The runtime over one filled set of ports."""

    health: Health
    metrics: Metrics
    sightings: Sightings
    standing: Standing
    publisher: Publisher
    presence: Presence
    tailing: Tailing
    rations: Rations

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
        self.sealer = HeardSealer(outside.sealer, self.health)
        self.doubts = Doubts(outside.clock, memory=settings.values.max_plaintext_age)
        self.sightings = Sightings() if before is None else before.sightings
        share = settings.vaults.quota_share
        rations = Rations(share, clock=outside.clock, metrics=self.metrics) if before is None else before.rations
        self.rations = rations.with_share(share)
        self._join_own_faults(before)
        self.keys = self._keys_for(Priority.USE)
        self.standing = Standing(outside.clock) if before is None else before.standing
        if before is None or before.settings.mqtt != settings.mqtt:
            self._join_bus()
        else:
            self.publisher, self.presence = before.publisher, before.presence
        self._join_brake()
        self._join_watching()
        self._join_account_keys()
        self._join_service_keys()
        self.housekeeper = Housekeeper(self.store, clock=self.clock, retention=settings.store.history_retention)
        self.auditing = Auditing(
            self.store, clock=self.clock, interval=settings.store.audit_interval, on_change=self.publisher.notify
        )
        self.tailing = Tailing(self.store) if before is None else before.tailing
        self.observer = Observer(
            self.store,
            clock=self.clock,
            health=self.health,
            metrics=self.metrics,
            publisher=self.publisher,
            absent=lambda: self.presence.problem,
        )
        self.observer.census = None if before is None else before.observer.census
        self.reporter = Reporter(outside.manager, self.clock, health=self.health, observer=self.observer)

    def _keys_for(self, priority: Priority) -> KeyService:
        return DoubtingKeys(self.rations.of(HeardKeys(self.outside.keys, self.own_faults), priority), self.doubts)

    def _join_own_faults(self, before: "Service | None") -> None:
        checks = self.settings.checks
        if before is None:
            self.own_faults = OwnFaults(self.clock, health=self.health, metrics=self.metrics, checks=checks)
        else:
            self.own_faults = before.own_faults
            self.own_faults.follow(checks)
        self.outside.vault_times.on_word(self.own_faults.hear_time)

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
            version=VERSION,
        )

    def _join_brake(self) -> None:
        self.brakeman = Brakeman(
            self.store,
            clock=self.clock,
            settings=self.settings.brake,
            policy=policy(self.settings.checks, self.settings.brake),
            health=self.health,
            metrics=self.metrics,
            on_change=self._verdicts_changed,
        )

    def _join_watching(self) -> None:
        checks = self.settings.checks
        self.follower = Follower(self.store, clock=self.clock, on_change=self.publisher.notify)
        self.checker = Checker(
            self.store,
            self.rations.of(HeardKeys(self.outside.probe_keys, self.own_faults), Priority.CHECK),
            fresh_keys=self.rations.of(HeardKeys(self.outside.fresh_keys, self.own_faults), Priority.CONFIRMATION),
            clock=self.clock,
            randomness=self.outside.randomness,
            deadline=checks.deadline,
            metrics=self.metrics,
            doubts=self.doubts,
            sightings=self.sightings,
            brakeman=self.brakeman,
            standing=self.standing,
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
        self.hints = Hints(
            self.scheduler,
            clock=self.clock,
            metrics=self.metrics,
            settings=self.settings.event_grid,
            suffixes=self.settings.vaults.allowed_suffixes,
        )
        standings = QueueStandings(self.health, self.metrics)
        self.queue_readers = [
            QueueReader(
                source,
                self.outside.event_queues[name],
                self.hints,
                standings=standings,
                clock=self.clock,
                randomness=self.outside.randomness,
                metrics=self.metrics,
            )
            for name, source in self.hints.queues.items()
        ]
        self.explainer = Explainer(
            self.store,
            self.sightings,
            self.scheduler.next_look,
            clock=self.clock,
            policy=policy(checks, self.settings.brake),
            settings=self.settings,
        )
        self.requirements = Requirements(
            self.store,
            self.outside.registry,
            clock=self.clock,
            randomness=self.outside.randomness,
            settings=self.settings.arm,
            on_change=self._requirements_changed,
        )
        self.brakeman.ask_by(SecondOpinions(self.scheduler, self.clock, apart=checks.confirm_after))

    def _join_account_keys(self) -> None:
        outside, rewrap = self.outside, self.settings.rewrap
        registering = self._account_keys(self.keys, self.settings.registration.deadline)
        self._join_damages()
        self.rewrapper = Rewrapper(
            self.store,
            self._account_keys(self._keys_for(Priority.REWRAP), rewrap.deadline),
            self.damages,
            clock=self.clock,
            settings=rewrap,
            metrics=self.metrics,
            on_change=self.publisher.notify,
            on_retired=self._watch_changed,
        )
        admission = self._admission(registering)
        self.registrar = Registrar(
            self.store,
            registering,
            admission,
            clock=self.clock,
            ids=outside.ids,
            on_change=self._accounts_changed,
            on_doubt=self.scheduler.doubt,
        )
        self.repairer = Repairer(
            self.store,
            registering,
            admission,
            clock=self.clock,
            on_change=self._accounts_changed,
            on_doubt=self.scheduler.doubt,
        )
        self._join_values(self._account_keys(self.keys, rewrap.deadline))

    def _admission(self, account_keys: AccountKeys) -> Admission:
        outside = self.outside
        return Admission(
            self.store,
            self.keys,
            account_keys,
            trial_keys=self.rations.of(HeardKeys(outside.keys, self.own_faults), Priority.USE),
            registry=outside.registry,
            clock=self.clock,
            randomness=outside.randomness,
            settings=self.settings,
        )

    def _account_keys(self, keys: KeyService, deadline: timedelta) -> AccountKeys:
        return AccountKeys(
            keys,
            self.sealer,
            self.outside.cipher,
            clock=self.clock,
            randomness=self.outside.randomness,
            deadline=deadline,
        )

    def _join_damages(self) -> None:
        heard = HeardKeys(self.outside.fresh_keys, self.own_faults)
        fresh = DoubtingKeys(self.rations.of(heard, Priority.USE), self.doubts)
        self.damages = Damages(
            self.store,
            fresh,
            self._account_keys(fresh, self.settings.rewrap.deadline),
            clock=self.clock,
            deadline=self.settings.rewrap.deadline,
            on_denial=self.doubts.report,
            on_opened=self.standing.opened,
            on_change=self.publisher.notify,
        )

    def _join_values(self, account_keys: AccountKeys) -> None:
        settings = self.settings.values
        unwraps = LiveUnwraps(account_keys, self.doubts, self.damages, clock=self.clock, metrics=self.metrics)
        self.plaintext = PlaintextKeys(
            self.store, unwraps, self.doubts, clock=self.clock, settings=settings, metrics=self.metrics
        )
        self.values = ProtectedValues(
            self.store,
            self.plaintext,
            sealer=self.sealer,
            cipher=self.outside.cipher,
            clock=self.clock,
            settings=settings,
        )

    def _join_service_keys(self) -> None:
        outside = self.outside
        layers = Layers(self.sealer, outside.cipher)
        self.resealer = Resealer(self.store, layers, self.sealer, clock=self.clock, metrics=self.metrics)
        self.verifier = Verifier(
            self.store,
            layers,
            self._keys_for(Priority.VERIFICATION),
            clock=self.clock,
            deadline=self.settings.rewrap.deadline,
            concurrency=self.settings.service_keys.verify_concurrency,
            damages=self.damages,
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
            await prove_service_keys(self.store, self.sealer)
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
                NamedTask("brake", self.brakeman.run),
                NamedTask("plaintext", self.plaintext.run),
                NamedTask("observer", self.observer.run),
                NamedTask("own-faults", self.own_faults.run),
                NamedTask("housekeeper", self.housekeeper.run),
                NamedTask("requirements", self.requirements.run),
                NamedTask("auditing", self.auditing.run),
                NamedTask("reporter", self.reporter.run),
                *(NamedTask(f"queue-{reader.name}", reader.run) for reader in self.queue_readers),
            ],
            farewells=[
                *closing,
                *(Farewell(f"queue-{reader.name}", reader.stop, GOODBYE) for reader in self.queue_readers),
                Farewell("checks", end_checks, settings.check_grace),
                Farewell("publish", drain, settings.publish_grace + GOODBYE),
            ],
            stop=stop,
            health=self.health,
            clock=self.clock,
            randomness=self.outside.randomness,
        )

    def inside(self) -> Mapping[str, object]:
        """Tell what only this process knows of its set-up."""
        presence, watchdog = self.presence.status, self.outside.manager.watchdog_interval
        return {
            "pid": os.getpid(),
            "watchdogSeconds": None if watchdog is None else watchdog.total_seconds(),
            "presence": {"connected": presence.connected, "problem": presence.problem},
        }

    async def hand_over(self, running: Daemon, successor: "Service", daemon: Daemon) -> None:
        """Let another service over the same store succeed this one: `daemon` over it, in the place of `running`."""
        self._make_way_for(successor)
        await running.hand_over(daemon)
        # Only now, when nobody of ours meets a denial any more.
        self.doubts.bequeath(successor.doubts)

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

    async def _requirements_changed(self, watch: WatchId) -> None:
        await self.scheduler.refresh(watch)
        self.publisher.notify()

    async def _accounts_changed(self, watch: WatchId | None) -> None:
        if watch is not None:
            await self.scheduler.refresh(watch)
            self.requirements.soon(watch)
        self.rewrapper.notify()
        self.publisher.notify()


def policy(checks: CheckSettings, brake: BrakeSettings) -> Policy:
    """Give the times that `decide` weighs with."""
    return Policy(
        check_interval=checks.interval,
        check_jitter=checks.jitter,
        confirm_after=checks.confirm_after,
        confirm_network_after=checks.confirm_network_after,
        recheck_first=checks.recheck_first,
        recheck_most=checks.recheck_most,
        unverified_after=checks.unverified_after,
        fail_closed_after=checks.fail_closed_after,
        flap_window=checks.flap_window,
        flaps_free=checks.flaps_free,
        brake_max_hold=brake.max_hold,
        near_expiry=checks.near_expiry,
    )
