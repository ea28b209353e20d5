"""The heart: from a watch and what a check saw of it to new verdicts, an adoption, events and the next time.

Pure: no I/O, no clock, no settings. Everything it weighs is a stored fact or an argument, so that a restart neither
resets nor shortens anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from byokd.domain.answers import FactsAnswer, KeyFacts, NoAnswer, ProbeOpened, Refused
from byokd.domain.identifiers import KeyVersion, WrappingVersionId
from byokd.domain.judge import Observation, Seen, judge
from byokd.domain.verdict import (
    Policy,
    Probe,
    Suspicion,
    Unverified,
    Verdict,
    Watch,
    WatchWarning,
    WrappingVersion,
)
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome, Reason, WarningKind

CandidateAnswer = Probe | Refused | NoAnswer
"""What proving a newer version gave: its new probe, wrapped and unwrapped by the vault, or why not."""

_WARNING_EVENTS = {
    WarningKind.NEWEST_VERSION_UNUSABLE: EventType.KEY_NEWEST_VERSION_UNUSABLE,
    WarningKind.KEY_EXPIRED: EventType.KEY_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Look:
    """What one check saw of a watch.

    Attributes:
        seen: one entry per wrapping version of the watch.
        newest: what GET told of the key identifier; None when it was not asked.
        candidate: what proving `newest` gave; None when it is no candidate.
    """

    seen: tuple[Seen, ...]
    newest: FactsAnswer | None
    candidate: CandidateAnswer | None
    detected_by: DetectedBy


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """Something to publish about the key."""

    type: EventType
    data: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Adoption:
    """A newer version that proved itself and becomes the watch's current one."""

    version: KeyVersion
    created: datetime | None
    probe: Probe
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """What a check changes. When `changes` is false there is nothing to commit but the due time.

    Attributes:
        verdicts: the verdicts that differ from the stored ones.
        observations: what was seen of each wrapping version, for logs and metrics.
        next_due: when to look again.
    """

    verdicts: Mapping[WrappingVersionId, Verdict]
    observations: Mapping[WrappingVersionId, Observation]
    adoption: Adoption | None
    warnings: tuple[WatchWarning, ...]
    events: tuple[KeyEvent, ...]
    next_due: datetime
    changes: bool


def candidate(watch: Watch, newest: FactsAnswer | None, *, now: datetime) -> KeyFacts | None:
    """Tell whether the newest version is one to prove and adopt: versionless watch, unseen, fit, not older.

    Key Vault counts creation in whole seconds, so a version of the same second counts as later if it was never adopted.
    """
    if watch.key.version is not None or not isinstance(newest, KeyFacts) or newest.version in watch.adopted:
        return None
    created = watch.current_version.created
    if created is not None and newest.created is not None and newest.created < created:
        return None
    return newest if newest.unfit_for_wrapping(now) is None else None


def decide(watch: Watch, look: Look, *, now: datetime, policy: Policy, jitter: float) -> Decision:
    """Weigh a look at a watch.

    Args:
        watch: the stored facts before the check.
        look: what the check saw.
        now: when the check ended (UTC).
        policy: the times.
        jitter: a random number from -1 to 1 that spreads the next check.
    """
    observations: dict[WrappingVersionId, Observation] = {}
    verdicts: dict[WrappingVersionId, Verdict] = {}
    for version in watch.versions:
        seen = next(entry for entry in look.seen if entry.version == version.version)
        observation = judge(seen)
        observations[version.id] = observation
        verdicts[version.id] = weigh(version.verdict, observation, now=now, policy=policy, detected_by=look.detected_by)
    adoption = _adoption(look, now=now) if observations[watch.current].outcome is Outcome.USABLE else None
    warnings = _warnings(watch, look, now=now)
    changed = {item.id: verdicts[item.id] for item in watch.versions if verdicts[item.id] != item.verdict}
    return Decision(
        verdicts=changed,
        observations=observations,
        adoption=adoption,
        warnings=warnings,
        events=_events(watch, adoption, warnings, look.detected_by),
        next_due=now
        + min(_delay(verdict, observations[key], now, policy, jitter) for key, verdict in verdicts.items()),
        changes=bool(changed) or adoption is not None or warnings != watch.warnings,
    )


def weigh(
    verdict: Verdict, observation: Observation, *, now: datetime, policy: Policy, detected_by: DetectedBy
) -> Verdict:
    """Give the verdict after one more observation of its version."""
    if observation.outcome is Outcome.UNVERIFIED:
        return _unverified(verdict, observation, now=now, policy=policy)
    verified = replace(verdict, unverified=None)
    if verdict.unverified is not None and verdict.unverified.told:
        verified = replace(verified, number=verdict.number + 1)
    if observation.outcome is Outcome.USABLE:
        if verdict.outcome is Outcome.USABLE:
            return replace(verified, suspicion=None)
        return _changed(verified, observation, now=now, detected_by=detected_by)
    return _denied(verified, observation, now=now, policy=policy, detected_by=detected_by)


def _unverified(verdict: Verdict, observation: Observation, *, now: datetime, policy: Policy) -> Verdict:
    """Leave the outcome and any suspicion as they are; say once, after a while, that it is unverified."""
    reason = observation.reason
    if reason is None:
        raise AssertionError("an unverified observation has a reason")
    before = verdict.unverified
    if before is None:
        return replace(verdict, unverified=Unverified(reason, now))
    if not before.told and now - before.since >= policy.unverified_after:
        return replace(verdict, unverified=Unverified(reason, before.since, told=True), number=verdict.number + 1)
    return replace(verdict, unverified=replace(before, reason=reason))


def _denied(
    verdict: Verdict, observation: Observation, *, now: datetime, policy: Policy, detected_by: DetectedBy
) -> Verdict:
    """Suspect first; confirm by a second denial that comes late enough, with nothing usable between."""
    reason = observation.reason
    if reason is None:
        raise AssertionError("a denial has a reason")
    if verdict.outcome is Outcome.DENIED and verdict.reason is reason:
        hinted = detected_by is not DetectedBy.POLL
        return replace(verdict, suspicion=None, recheck_from=now if hinted else verdict.recheck_from)
    suspicion = verdict.suspicion
    if suspicion is None or (verdict.outcome is Outcome.DENIED and suspicion.reason is not reason):
        return replace(verdict, suspicion=Suspicion(reason, observation.message, now))
    if now - suspicion.since < confirm_after(reason, policy):
        return replace(verdict, suspicion=replace(suspicion, reason=reason, message=observation.message))
    return _changed(verdict, observation, now=now, detected_by=detected_by)


def _changed(verdict: Verdict, observation: Observation, *, now: datetime, detected_by: DetectedBy) -> Verdict:
    return Verdict(
        outcome=observation.outcome,
        reason=observation.reason,
        message=observation.message,
        since=now,
        number=verdict.number + 1,
        detected_by=detected_by,
        observed_at=now,
        recheck_from=now,
        evidence=observation.evidence,
    )


def confirm_after(reason: Reason, policy: Policy) -> timedelta:
    """How long a denial must stand before it counts: network rules often refuse our own new address for a while."""
    return policy.confirm_network_after if reason is Reason.NETWORK_BLOCKED else policy.confirm_after


def _adoption(look: Look, *, now: datetime) -> Adoption | None:
    if not (isinstance(look.newest, KeyFacts) and isinstance(look.candidate, Probe)):
        return None
    verdict = Verdict.adopted(now, detected_by=look.detected_by)
    return Adoption(look.newest.version, look.newest.created, look.candidate, verdict)


def _warnings(watch: Watch, look: Look, *, now: datetime) -> tuple[WatchWarning, ...]:
    """Give what is amiss now. What this look could not tell stays as it was."""
    warnings: list[WatchWarning] = []
    if watch.key.version is None:
        warnings += _newest_warnings(watch, look, now=now)
    for seen in look.seen:
        if isinstance(seen.probe, ProbeOpened) and isinstance(seen.facts, KeyFacts):
            warnings += _validity_warnings(seen.facts, now=now)
        else:
            warnings += [
                warning
                for warning in watch.warnings
                if warning.version == seen.version
                and warning.kind in {WarningKind.KEY_EXPIRED, WarningKind.KEY_NOT_YET_VALID}
            ]
    return tuple(warnings)


def _newest_warnings(watch: Watch, look: Look, *, now: datetime) -> list[WatchWarning]:
    newest = look.newest
    if newest is None or isinstance(newest, NoAnswer) or isinstance(look.candidate, NoAnswer):
        kinds = {WarningKind.NEWEST_VERSION_UNUSABLE, WarningKind.NEW_VERSIONS_UNSEEN}
        return [warning for warning in watch.warnings if warning.kind in kinds]
    if isinstance(newest, Refused):
        unseen = WatchWarning(WarningKind.NEW_VERSIONS_UNSEEN, None, "GET is refused: new versions go unseen")
        return [unseen] if all(isinstance(seen.probe, ProbeOpened) for seen in look.seen) else []
    if newest.version in watch.adopted:
        return []
    unfit = newest.unfit_for_wrapping(now)
    if isinstance(look.candidate, Refused):
        unfit = f"the vault refuses to wrap with the newest version: {look.candidate.kind}"
    return [] if unfit is None else [WatchWarning(WarningKind.NEWEST_VERSION_UNUSABLE, newest.version, unfit)]


def _validity_warnings(facts: KeyFacts, *, now: datetime) -> list[WatchWarning]:
    if facts.expires is not None and facts.expires <= now:
        message = f"expired at {facts.expires:%Y-%m-%dT%H:%M:%SZ}; it still unwraps, but cannot wrap"
        return [WatchWarning(WarningKind.KEY_EXPIRED, facts.version, message)]
    if facts.not_before is not None and now < facts.not_before:
        message = f"not valid before {facts.not_before:%Y-%m-%dT%H:%M:%SZ}; it still unwraps, but cannot wrap"
        return [WatchWarning(WarningKind.KEY_NOT_YET_VALID, facts.version, message)]
    return []


def _events(
    watch: Watch, adoption: Adoption | None, warnings: tuple[WatchWarning, ...], detected_by: DetectedBy
) -> tuple[KeyEvent, ...]:
    events: list[KeyEvent] = []
    if adoption is not None:
        data = {
            "keyIdentifier": str(watch.key.at(adoption.version)),
            "previousKeyIdentifier": str(watch.key.at(watch.current_version.version)),
            "detectedBy": str(detected_by),
        }
        events.append(KeyEvent(EventType.KEY_VERSION_DETECTED, data))
    known = {(warning.kind, warning.version) for warning in watch.warnings}
    for warning in warnings:
        if warning.kind in _WARNING_EVENTS and (warning.kind, warning.version) not in known:
            identifier = watch.key if warning.version is None else watch.key.at(warning.version)
            data = {"keyIdentifier": str(identifier), "message": warning.message, "detectedBy": str(detected_by)}
            events.append(KeyEvent(_WARNING_EVENTS[warning.kind], data))
    return tuple(events)


def _delay(verdict: Verdict, observation: Observation, now: datetime, policy: Policy, jitter: float) -> timedelta:
    """Say how soon to look again at a version, from stored facts alone."""
    if verdict.suspicion is not None:
        # From the first denial on, looking every `confirm_after` bounds when the change is published; the slower
        # kinds of denial use it to notice soon that they were wrong.
        left = verdict.suspicion.since + confirm_after(verdict.suspicion.reason, policy) - now
        return min(max(left, timedelta(0)), policy.confirm_after) or policy.confirm_after
    if verdict.outcome is Outcome.DENIED and observation.outcome is not Outcome.UNVERIFIED:
        # Waiting as long as it has lasted doubles the distance between looks.
        return min(max(now - verdict.recheck_from, policy.recheck_first), policy.recheck_most)
    return policy.check_interval * (1 + policy.check_jitter * jitter)


def fits(version: WrappingVersion) -> bool:
    """Tell whether account keys may be moved off this version: it must still unwrap."""
    return version.verdict.outcome is Outcome.USABLE and version.verdict.suspicion is None
