"""One check of one watch: ask the vault, decide, commit."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import structlog

from byokd.domain.answers import (
    Evidence,
    FactsAnswer,
    KeyFacts,
    NoAnswer,
    ProbeAnswer,
    ProbeMismatched,
    ProbeOpened,
    Refused,
)
from byokd.domain.decide import CandidateAnswer, Decision, Look, candidate
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.judge import Seen, judge
from byokd.domain.verdict import Probe, Watch, WrappingVersion
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.ports import Clock, KeyService, KeyTarget, Randomness, StaleError, Store, StoreUnavailableError
from byokd.runtime.brake import Brakeman
from byokd.runtime.doubts import Doubts
from byokd.runtime.metrics import Metrics
from byokd.runtime.pace import Heard
from byokd.runtime.rationing import PATIENCE, Patience, own_limit
from byokd.runtime.seldom import Seldom
from byokd.runtime.sightings import Sightings
from byokd.runtime.standing import Standing

PROBE_BYTES = 32

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Checked:
    """A finished check: the watch as it is now, what was decided, and what was heard of the vault itself."""

    watch: Watch
    decision: Decision
    heard: Heard


class Round:
    """The calls of one piece of work against one vault, under one deadline that started before the first."""

    def __init__(self, keys: KeyService, clock: Clock, *, deadline: timedelta) -> None:
        self._keys = keys
        self._clock = clock
        self._patience = Patience(clock.monotonic() + deadline.total_seconds())

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """GET, or `TimedOut` when the deadline has passed."""
        return await self._within("get", self._keys.get(target))

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """Wrap, or `TimedOut` when the deadline has passed."""
        return await self._within("wrap", self._keys.wrap(target, plaintext))

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """Unwrap, or `TimedOut` when the deadline has passed."""
        return await self._within("unwrap", self._keys.unwrap(target, wrapped))

    async def _within(self, operation: str, call: Awaitable[_Answer]) -> _Answer | NoAnswer:
        token = PATIENCE.set(self._patience)
        try:
            async with asyncio.timeout(max(0.0, self._patience.until - self._clock.monotonic())):
                return await call
        except TimeoutError:
            # A vault that got less than the whole time because of our own limit was not slow for all we know.
            return own_limit(operation) if self._patience.waited else NoAnswer(Reason.TIMED_OUT, Evidence(operation))
        finally:
            PATIENCE.reset(token)


async def prove(calls: Round, target: KeyTarget, randomness: Randomness) -> CandidateAnswer:
    """Let a version wrap and unwrap a new probe; only the vault's own unwrap proves anything."""
    probe = randomness.bytes(PROBE_BYTES)
    wrapped = await calls.wrap(target, probe)
    if not isinstance(wrapped, bytes):
        return wrapped
    opened = await calls.unwrap(target, wrapped)
    if not isinstance(opened, bytes):
        return opened
    if not hmac.compare_digest(opened, probe):
        return NoAnswer(Reason.UNREADABLE_ANSWER, Evidence("unwrap"))
    return Probe(wrapped, hashlib.sha256(probe).digest())


class Checker:
    """Checks watches. What it weighs is in the watch that it is given; it remembers only when it asked aside."""

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
        self._seldom = Seldom(clock)

    async def check(self, watch: Watch, *, detected_by: DetectedBy) -> Checked:
        """Check a watch and commit what follows.

        Raises:
            StaleError: the watch changed meanwhile; nothing was written.
            StoreUnavailableError: the outcome of the commit is unknown.
        """
        started = self._clock.monotonic()
        suspected = any(version.verdict.suspicion is not None for version in watch.versions)
        calls = Round(self._fresh_keys if suspected else self._keys, self._clock, deadline=self._deadline)
        look = await self._look(calls, watch, detected_by)
        self._sightings.note(watch.id, look, now=self._clock.now(), on_new_connection=suspected)
        self._metrics.check_seconds.observe(self._clock.monotonic() - started)
        for answer in look.seen:
            self._metrics.checks.labels(judge(answer).outcome).inc()
        try:
            checked = await self._conclude(watch, look)
        except (StaleError, StoreUnavailableError):
            self._brakeman.lost(watch)
            raise
        self._tell_doubts(checked, asked=started)
        return checked

    def _tell_doubts(self, checked: Checked, *, asked: float) -> None:
        """Once what was found is stored: end the doubts about usable versions, and drop again what came meanwhile."""
        for version in checked.watch.versions:
            observation = checked.decision.observations.get(version.id)
            target = _target(checked.watch, checked.watch.key.at(version.version))
            if observation is not None and observation.outcome is Outcome.USABLE:
                self._doubts.clear(target, asked=asked)
            elif observation is not None and observation.outcome is Outcome.DENIED:
                self._doubts.deny(target)

    async def _conclude(self, watch: Watch, look: Look) -> Checked:
        """Decide and commit what follows, if anything does."""
        now, instant = self._clock.now(), self._clock.monotonic()
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
        now = self._clock.now()
        silence = NoAnswer(reason, Evidence("not asked"))
        seen = tuple(Seen(version.version, silence, None, None, now) for version in watch.versions)
        return await self._conclude(watch, Look(seen, None, None, DetectedBy.POLL))

    async def _look(self, calls: Round, watch: Watch, detected_by: DetectedBy) -> Look:
        stood = self._standing.of(watch)
        # The current version first: on a slow vault the deadline must not always cut off the one that matters most.
        ordered = sorted(watch.versions, key=lambda version: version.id != watch.current)
        probes = [(version, await self._probe(calls, watch, version)) for version in ordered]
        newest: FactsAnswer | None = None
        if not all(isinstance(answer, NoAnswer) for _, answer in probes):
            newest = await calls.get(_target(watch, watch.key))
        now = self._clock.now()
        seen = [
            Seen(version.version, answer, await self._facts(calls, watch, version, answer, newest), newest, now)
            for version, answer in probes
        ]
        proof: CandidateAnswer | None = None
        current_opens = any(
            version.id == watch.current and isinstance(answer, ProbeOpened) for version, answer in probes
        )
        if current_opens and (found := candidate(watch, newest, now=now)) is not None:
            proof = await prove(calls, _target(watch, watch.key.at(found.version)), self._randomness)
        look = Look(tuple(seen), newest, proof, detected_by, stood=stood)
        return await self._look_aside(calls, watch, look) if current_opens and proof is None else look

    async def _look_aside(self, calls: Round, watch: Watch, look: Look) -> Look:
        """Ask, seldom, what only warnings need: of a pinned key the newest version, else the dates of the current one.

        The dates are told already while the current version is the newest.
        """
        current, pinned = watch.current_version.version, watch.key.version is not None
        superseded = isinstance(look.newest, KeyFacts) and look.newest.version != current
        if not (pinned or superseded) or not self._seldom.takes_turn(watch.id, detected_by=look.detected_by):
            return look
        if pinned:
            return replace(look, unpinned=await calls.get(_target(watch, watch.key.unpinned)))
        facts = await calls.get(_target(watch, watch.key.at(current)))
        seen = (replace(entry, facts=facts) if entry.version == current else entry for entry in look.seen)
        return replace(look, seen=tuple(seen))

    async def _probe(self, calls: Round, watch: Watch, version: WrappingVersion) -> ProbeAnswer:
        target = _target(watch, watch.key.at(version.version))
        answer = await calls.unwrap(target, version.probe.wrapped)
        if isinstance(answer, NoAnswer):
            return answer
        if isinstance(answer, bytes) and hmac.compare_digest(hashlib.sha256(answer).digest(), version.probe.digest):
            return ProbeOpened()
        # Before anything else is asked, decided or stored: none of that must be waited for, and all of it may fail.
        self._doubts.deny(target)
        if isinstance(answer, Refused):
            return answer
        return ProbeMismatched(Evidence("unwrap", status=200))

    async def _facts(
        self, calls: Round, watch: Watch, version: WrappingVersion, probe: ProbeAnswer, newest: FactsAnswer | None
    ) -> FactsAnswer | None:
        """Give what GET tells of this version; another call only where the newest is another and unwrap was refused."""
        if watch.key.version is not None or (isinstance(newest, KeyFacts) and newest.version == version.version):
            return newest
        if isinstance(newest, KeyFacts) and isinstance(probe, Refused):
            return await calls.get(_target(watch, watch.key.at(version.version)))
        return None

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


def _target(watch: Watch, key: KeyIdentifier) -> KeyTarget:
    return KeyTarget(watch.identity, watch.tenant, key)
