"""The brake at work: consulted by checks, watched while it is engaged, ordered by operators."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from byokd.domain.brake import Brake, BrakeMode, Customer, EngagedBy, ReleaseCause, Ruling, Threshold
from byokd.domain.decide import Decision, Look, decide
from byokd.domain.holding import begins_suspicion, ends_hold, held_now, postponed
from byokd.domain.identifiers import WatchId
from byokd.domain.verdict import Policy, Watch
from byokd.domain.vocabulary import Outcome
from byokd.ports import Clock, Store
from byokd.ports.brake import BrakeReport, BrakeTerms
from byokd.runtime.brake_words import condition, ways_out
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.sampling import LatelyLooked
from byokd.runtime.second_opinions import SecondOpinions
from byokd.runtime.waking import Bell
from byokd.settings import BrakeSettings

LOOK = timedelta(seconds=5)
"""How often an engaged brake is looked at: whether it may go, and how much it holds."""

BATCH = 500
"""Held denials settled per transaction: checks wait no longer for it than for a follower's."""

PATIENCE = 4
"""Times `confirm_after` that denials of several customers wait for second opinions, if those do not come."""

HINT = (
    "look at our identity, network and DNS first; byokd brake status shows what is held, docs/operations.md what to do"
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision, and the revision of the brake under which it may be committed; None: under any."""

    decision: Decision
    brake_revision: int | None


class Brakeman:
    """Judges confirmed denials by the brake in the store, and lets it go when it is proved that it may."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        settings: BrakeSettings,
        policy: Policy,
        health: Health,
        metrics: Metrics,
        on_change: Callable[[], None],
    ) -> None:
        """Take the collaborators; `on_change` is called after events or verdicts were committed."""
        self._store = store
        self._clock = clock
        self._settings = settings
        self._policy = policy
        self._health = health
        self._metrics = metrics
        self._on_change = on_change
        self._lately = LatelyLooked(clock, window=2 * policy.confirm_after)
        self._opinions: SecondOpinions | None = None
        self._engaged = False
        self._bell = Bell()
        self._waits_since = self._waited_last = float("-inf")
        self._settled: set[WatchId] = set()

    def ask_by(self, opinions: SecondOpinions) -> None:
        """Take whom to ask for second opinions; until then none are asked for."""
        self._opinions = opinions

    async def decide(self, watch: Watch, look: Look, *, now: datetime, jitter: float) -> Judged:
        """Weigh a look at a watch; what our own fault can cause, as the brake will have it.

        Raises:
            StoreUnavailableError: the brake could not be consulted.
        """
        held = decide(watch, look, now=now, policy=self._policy, jitter=jitter, braked=True)
        if any(observation.outcome is not Outcome.UNVERIFIED for observation in held.observations.values()):
            self._lately.note(Customer(watch.identity, watch.tenant, watch.key.host))
        if not held_now(watch, held):
            return Judged(held, None)
        consulted = await self._store.consult_brake(self._terms(), now=now)
        if consulted.engaged_now:
            self._note_engaged(consulted.brake)
        if consulted.ruling is Ruling.HOLD:
            # What was settled is still held in this copy of the watch: a write finds that out.
            changes = held.changes or watch.id in self._settled
            return Judged(replace(held, changes=changes), consulted.brake.revision)
        opinions = self._opinions
        if (consulted.ruling is Ruling.WAIT or (opinions and opinions.are_owed(watch))) and self._may_wait():
            if opinions is not None:
                opinions.ask(watch)
            return Judged(postponed(watch, held, now=now, wait=self._policy.confirm_after), None)
        applied = decide(watch, look, now=now, policy=self._policy, jitter=jitter, braked=False)
        return Judged(applied, consulted.brake.revision)

    def _may_wait(self) -> bool:
        """Whether there is patience left for others' answers: denials must not wait for vaults that say nothing."""
        now, patience = self._clock.monotonic(), PATIENCE * self._policy.confirm_after.total_seconds()
        if now - self._waited_last > patience:
            self._waits_since = now
        self._waited_last = now
        return now - self._waits_since < patience

    def lost(self, watch: Watch) -> None:
        """Tell that what a check found could not be stored."""
        if self._opinions is not None:
            self._opinions.lost(watch)

    def noticed(self, before: Watch, after: Watch) -> None:
        """Ask for second opinions on what a check has just committed, or found already stored (then both are one)."""
        if after is not before:
            self._settled.discard(after.id)
        if self._opinions is not None:
            self._opinions.heard(after)
        known = {version.id: version.verdict for version in before.versions}
        for version in after.versions:
            verdict = known.get(version.id)
            if verdict is None or self._opinions is None:
                continue
            if begins_suspicion(verdict, version.verdict):
                self._opinions.ask(after)
            elif ends_hold(verdict, version.verdict):
                self._opinions.proved(after)
                self._bell.ring()

    async def run(self) -> None:
        """Watch the brake for ever; while it is not engaged there is nothing to do."""
        while True:
            await self.look()
            await self._bell.wait(LOOK.total_seconds() if self._engaged else None)

    async def look(self) -> None:
        """Let the brake go if that is proved; show how it is."""
        brake = await self._store.release_proved_brake(self._terms(), now=self._clock.now())
        if brake.engagement is not None:
            self._show(await self.report(limit=0))
        elif self._engaged:
            self._note_released(ReleaseCause.PROOF, settled=0)
        else:
            self._show_well()

    async def report(self, *, limit: int) -> BrakeReport:
        """Tell how the brake is, with at most `limit` of the denials that it holds."""
        return await self._store.brake_report(limit=limit)

    async def engage(self, message: str) -> Brake:
        """Engage by an operator's order: it holds, in any mode, until it is released or confirmed."""
        brake = await self._store.engage_brake(message, self._terms(), now=self._clock.now())
        self._note_engaged(brake)
        return brake

    async def settle(self, cause: ReleaseCause) -> int | None:
        """Discard or apply all that is held, and let go; give how many denials these were, None when not engaged.

        Broken off, it goes on when it is ordered again: the brake stays engaged until nothing is left.
        """
        if (await self.report(limit=0)).brake.engagement is None:
            return None
        settled, is_engaged = 0, True
        while is_engaged:
            part = await self._store.settle_held(cause, limit=BATCH, now=self._clock.now())
            settled, is_engaged = settled + part.settled, part.brake.engagement is not None
            self._on_change()
        self._note_released(cause, settled=settled)
        if self._opinions is not None:
            self._settled |= self._opinions.again()
        return settled

    def _terms(self) -> BrakeTerms:
        settings = self._settings
        threshold = Threshold(settings.customers, settings.share)
        # In one round of checks, and the time to confirm what it found, a fault of ours strikes everybody it can.
        policy = self._policy
        round_ = policy.check_interval * (1 + policy.check_jitter) + policy.confirm_after
        mode, sample = BrakeMode(settings.mode), self._lately.sample()
        return BrakeTerms(threshold, mode, settings.max_hold, sample, denied_since=self._clock.now() - round_)

    def _note_engaged(self, brake: Brake) -> None:
        engagement = brake.engagement
        if engagement is None:
            raise AssertionError("it was engaged just now")
        finding = None if engagement.finding is None else engagement.finding.data()
        _log.warning("brake-engaged", by=engagement.by, mode=engagement.mode, message=engagement.message, found=finding)
        self._metrics.brake_engagements.labels(engagement.by).inc()
        self._show(BrakeReport(brake, 0, None, ()))
        self._bell.ring()
        self._on_change()

    def _note_released(self, cause: ReleaseCause, *, settled: int) -> None:
        _log.warning("brake-released", cause=cause, held=settled)
        self._show_well()
        self._on_change()

    def _show(self, report: BrakeReport) -> None:
        self._engaged = True
        self._metrics.brake_engaged.set(1)
        engagement = report.brake.engagement
        if engagement is None:
            return
        hint = ways_out(engagement, holds=True) if engagement.by is EngagedBy.OPERATOR else HINT
        self._health.show_trouble(Component.BRAKE, condition(report, engagement, self._settings), hint=hint)

    def _show_well(self) -> None:
        self._engaged = False
        self._metrics.brake_engaged.set(0)
        self._health.show_well(Component.BRAKE)
