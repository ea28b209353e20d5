"""The service: the parts of the runtime, joined over one filled set of ports, and how one service succeeds another."""

import os
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from typing import Final

from byokd.domain.identifiers import WatchId
from byokd.ports import KeyService
from byokd.runtime.account_keys import AccountKeys
from byokd.runtime.admission import Admission
from byokd.runtime.auditing import Auditing
from byokd.runtime.brake import Brakeman
from byokd.runtime.checker import Checker
from byokd.runtime.daemon import Daemon
from byokd.runtime.damages import Damages
from byokd.runtime.doubts import Doubts
from byokd.runtime.explaining import Explainer
from byokd.runtime.follower import Follower
from byokd.runtime.hinting import Hints
from byokd.runtime.housekeeper import Housekeeper
from byokd.runtime.inheritance import Inheritance
from byokd.runtime.layers import Layers
from byokd.runtime.observer import Observer
from byokd.runtime.outside import Outside
from byokd.runtime.plaintext import PlaintextKeys
from byokd.runtime.policy import policy
from byokd.runtime.presence import Presence
from byokd.runtime.publisher import Publisher
from byokd.runtime.queue_reader import QueueReader
from byokd.runtime.queue_standings import QueueStandings
from byokd.runtime.rationing import Priority
from byokd.runtime.registrar import Registrar
from byokd.runtime.repairing import Repairer
from byokd.runtime.requirements import Requirements
from byokd.runtime.resealer import Resealer
from byokd.runtime.rewrapper import Rewrapper
from byokd.runtime.scheduler import Scheduler
from byokd.runtime.second_opinions import SecondOpinions
from byokd.runtime.service_keys import HeardSealer
from byokd.runtime.service_manager import Reporter
from byokd.runtime.unwrapping import LiveUnwraps
from byokd.runtime.values import ProtectedValues
from byokd.runtime.vault_ways import VaultWays
from byokd.runtime.verifying import Verifier
from byokd.settings import Settings

VERSION: Final = version("byokd")
"""Of the code that runs: what is installed may be exchanged underneath it."""


class Service:
    """The runtime over one filled set of ports."""

    inheritance: Inheritance
    publisher: Publisher
    presence: Presence

    def __init__(self, settings: Settings, outside: Outside, *, before: "Service | None" = None) -> None:
        """Join the parts; nothing runs yet.

        Args:
            settings: what to go by.
            outside: what to work on.
            before: the service that this one succeeds in the same process. Its inheritance goes over to it, and so do
                the connections to the bus while the settings for it are the same.
        """
        self.settings = settings
        self.outside = outside
        self.clock = outside.clock
        self.store = outside.store
        self._inherit(before)
        self.sealer = HeardSealer(outside.sealer, self.health)
        self.doubts = Doubts(outside.clock, memory=settings.values.max_plaintext_age)
        self.ways = VaultWays(outside, self.own_faults, self.inheritance.rations, self.doubts)
        self.keys = self.ways.for_work(Priority.USE)
        self._join_bus(before)
        self._join_brake()
        self._join_watching()
        self._join_hearing()
        self._join_account_keys()
        self._join_service_keys()
        self._join_upkeep()
        self._join_telling(before)

    def _inherit(self, before: "Service | None") -> None:
        settings, outside = self.settings, self.outside
        mine = Inheritance.of_nobody(settings, outside) if before is None else before.inheritance.under(settings)
        self.inheritance = mine
        self.health, self.metrics = mine.health, mine.metrics
        self.sightings, self.standing, self.tailing = mine.sightings, mine.standing, mine.tailing
        self.own_faults = mine.own_faults
        outside.vault_times.on_word(self.own_faults.hear_time)

    def _join_bus(self, before: "Service | None") -> None:
        outside, mqtt = self.outside, self.settings.mqtt
        if before is not None and before.settings.mqtt == mqtt:
            self.publisher, self.presence = before.publisher, before.presence
            return
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
            self.ways.for_checks(),
            fresh_keys=self.ways.for_confirmations(),
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
        self.brakeman.ask_by(SecondOpinions(self.scheduler, self.clock, apart=checks.confirm_after))
        self.doubts.on_report(self.scheduler.hint_version)

    def _join_hearing(self) -> None:
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

    def _join_account_keys(self) -> None:
        outside, rewrap = self.outside, self.settings.rewrap
        registering = self._account_keys(self.keys, self.settings.registration.deadline)
        self._join_damages()
        self.rewrapper = Rewrapper(
            self.store,
            self._account_keys(self.ways.for_work(Priority.REWRAP), rewrap.deadline),
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
            trial_keys=self.ways.for_trials(),
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
        fresh = self.ways.for_second_attempts()
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
            self.ways.for_work(Priority.VERIFICATION),
            clock=self.clock,
            deadline=self.settings.rewrap.deadline,
            concurrency=self.settings.service_keys.verify_concurrency,
            damages=self.damages,
        )

    def _join_upkeep(self) -> None:
        self.requirements = Requirements(
            self.store,
            self.outside.registry,
            clock=self.clock,
            randomness=self.outside.randomness,
            settings=self.settings.arm,
            on_change=self._requirements_changed,
        )
        self.housekeeper = Housekeeper(self.store, clock=self.clock, retention=self.settings.store.history_retention)
        self.auditing = Auditing(
            self.store,
            clock=self.clock,
            interval=self.settings.store.audit_interval,
            on_change=self.publisher.notify,
        )

    def _join_telling(self, before: "Service | None") -> None:
        self.explainer = Explainer(
            self.store,
            self.sightings,
            self.scheduler.next_look,
            clock=self.clock,
            policy=policy(self.settings.checks, self.settings.brake),
            settings=self.settings,
        )
        self.observer = Observer(
            self.store,
            clock=self.clock,
            health=self.health,
            metrics=self.metrics,
            publisher=self.publisher,
            absent=lambda: self.presence.problem,
        )
        self.observer.census = None if before is None else before.observer.census
        self.reporter = Reporter(self.outside.manager, self.clock, health=self.health, observer=self.observer)

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
        # Only now, when nobody of ours meets a denial any more, or follows a hint.
        self.doubts.bequeath(successor.doubts)
        self.scheduler.bequeath(successor.scheduler)
        self.hints.bequeath(successor.scheduler)

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
