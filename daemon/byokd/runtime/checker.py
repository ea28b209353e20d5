"""One check of one watch: ask the vault, decide, commit."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from byokd.domain.answers import Evidence, NoAnswer
from byokd.domain.decide import Decision, Look
from byokd.domain.judge import Seen, judge
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.ports import Clock, KeyService, Randomness, StaleError, Store, StoreUnavailableError
from byokd.runtime.brake import Brakeman
from byokd.runtime.doubts import Doubts
from byokd.runtime.looking import Looker, target_of
from byokd.runtime.metrics import Metrics
from byokd.runtime.pace import Heard
from byokd.runtime.rounds import Round
from byokd.runtime.seldom import Seldom
from byokd.runtime.sightings import Sightings
from byokd.runtime.standing import Standing

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Checked:
    """A finished check: the watch as it is now, what was decided, and what was heard of the vault itself."""

    watch: Watch
    decision: Decision
    heard: Heard


class Checker:
    """Checks watches. What it weighs is in the watch that it is given; for what it remembers see `Looker`."""

    def __init__(  # noqa: PLR0913 - one argument per collaborator
        self,
        store: Store,
        keys: KeyService,
        *,
        fresh_keys: KeyService,
        clock: Clock,
        randomness: Randomness,
        deadline: timedelta,
        metrics: Metrics,
        doubts: Doubts,
        sightings: Sightings,
        brakeman: Brakeman,
        standing: Standing,
    ) -> None:
        """Take the collaborators; `fresh_keys` opens a new connection for every call, for confirmations."""
        self._sightings = sightings
        self._standing = standing
        self._doubts = doubts
        self._brakeman = brakeman
        self._store = store
        self._keys = keys
        self._fresh_keys = fresh_keys
        self._clock = clock
        self._randomness = randomness
        self._deadline = deadline
        self._metrics = metrics
        self._looker = Looker(clock, randomness, doubts=doubts, standing=standing)
        self._cut_told = Seldom(clock)

    async def check(self, watch: Watch, *, detected_by: DetectedBy) -> Checked:
        """Check a watch and commit what follows.

        Raises:
            StaleError: the watch changed meanwhile; nothing was written.
            StoreUnavailableError: the outcome of the commit is unknown.
        """
        started = self._clock.monotonic()
        suspected = any(version.verdict.suspicion is not None for version in watch.versions)
        calls = Round(self._fresh_keys if suspected else self._keys, self._clock, deadline=self._deadline)
        looked = await self._looker.look(calls, watch, detected_by)
        # Whatever tells of this look tells this time.
        look, now, instant = looked.look, self._clock.now(), self._clock.monotonic()
        self._sightings.note(watch.id, look, now=now, on_new_connection=suspected, shortfall=looked.shortfall)
        self._report_shortfall(watch)
        self._metrics.check_seconds.observe(self._clock.monotonic() - started)
        for answer in look.seen:
            self._metrics.checks.labels(judge(answer).outcome).inc()
        try:
            checked = await self._conclude(watch, look, now=now, instant=instant)
        except (StaleError, StoreUnavailableError):
            self._brakeman.lost(watch)
            raise
        self._tell_doubts(checked, asked=started)
        return checked

    def _tell_doubts(self, checked: Checked, *, asked: float) -> None:
        """Once what was found is stored: end the doubts about usable versions, and drop again what came meanwhile."""
        for version in checked.watch.versions:
            observation = checked.decision.observations.get(version.id)
            target = target_of(checked.watch, checked.watch.key.at(version.version))
            if observation is not None and observation.outcome is Outcome.USABLE:
                self._doubts.clear(target, asked=asked)
            elif observation is not None and observation.outcome is Outcome.DENIED:
                self._doubts.deny(target)

    async def _conclude(self, watch: Watch, look: Look, *, now: datetime, instant: float) -> Checked:
        """Decide and commit what follows, if anything does, of a look that ended at this time, by both clocks."""
        jitter = self._randomness.uniform(-1, 1)
        heard = Heard.of(seen.probe for seen in look.seen)
        judged = await self._brakeman.decide(watch, look, now=now, jitter=jitter)
        decision = judged.decision
        if not decision.changes:
            self._brakeman.noticed(watch, watch)
            return Checked(watch, decision, heard)
        try:
            committed = await self._store.commit_decision(
                watch, decision, now=now, brake_revision=judged.brake_revision
            )
        except StoreUnavailableError:
            self._standing.intend(decision.verdicts, now=now, instant=instant)
            raise
        self._standing.note(committed, now=now, instant=instant)
        self._report(watch, decision)
        self._brakeman.noticed(watch, committed)
        return Checked(committed, decision, heard)

    async def presume(self, watch: Watch, reason: Reason) -> Checked:
        """Note, without asking, that a watch could not be verified because its vault answers nobody.

        Raises:
            StaleError, StoreUnavailableError: as `check`.
        """
        now, instant = self._clock.now(), self._clock.monotonic()
        silence = NoAnswer(reason, Evidence("not asked"))
        seen = tuple(Seen(version.version, silence, None, None, now) for version in watch.versions)
        return await self._conclude(watch, Look(seen, None, None, DetectedBy.POLL), now=now, instant=instant)

    def _report_shortfall(self, watch: Watch) -> None:
        """Say when looks become too short for all there is to see, seldom: some vaults are as slow as it takes."""
        before, last = [None, *(look.shortfall for look in self._sightings.of(watch.id))][-2:]
        if before is None or last is None or not before.unread or not last.unread:
            return
        # Our own limit has a metric, and meets all keys of a vault.
        if not last.limited and self._cut_told.takes_turn(watch.id, detected_by=DetectedBy.POLL):
            _log.warning("check-cut-short", key=str(watch.key), unread=last.unread, of=last.of, watch=watch.id)

    def _report(self, watch: Watch, decision: Decision) -> None:
        for version in watch.versions:
            verdict = decision.verdicts.get(version.id)
            if verdict is None:
                continue
            key = str(watch.key.at(version.version))
            if verdict.number != version.verdict.number and verdict.outcome is not version.verdict.outcome:
                self._metrics.verdicts.labels(verdict.outcome).inc()
                level = _log.info if verdict.outcome is Outcome.USABLE else _log.warning
                level("verdict-changed", key=key, outcome=verdict.outcome, reason=verdict.reason, watch=watch.id)
            elif verdict.suspicion is not None and version.verdict.suspicion is None:
                _log.warning("denial-suspected", key=key, reason=verdict.suspicion.reason, watch=watch.id)
            elif verdict.suspicion is not None and verdict.is_held() and not version.verdict.is_held():
                _log.warning("denial-held", key=key, reason=verdict.suspicion.reason, watch=watch.id)
            elif verdict.unverified is not None and version.verdict.unverified is None:
                _log.warning("key-unverified", key=key, reason=verdict.unverified.reason, watch=watch.id)
            elif verdict.unverified is None and version.verdict.unverified is not None:
                _log.info("key-verified", key=key, watch=watch.id)
        if decision.adoption is not None:
            _log.info("version-adopted", key=str(watch.key.at(decision.adoption.version)), watch=watch.id)
