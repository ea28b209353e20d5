"""The heart: from a watch and what a check saw of it to new verdicts, an adoption, events and the next time.

Pure: no I/O, no clock, no settings. Everything it weighs is a stored fact or an argument, so that a restart neither
resets nor shortens anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from byokd.domain.answers import FactsAnswer, KeyFacts, NoAnswer, ProbeOpened, Refused
from byokd.domain.identifiers import KeyVersion, WrappingVersionId
from byokd.domain.judge import Observation, Seen, judge
from byokd.domain.verdict import (
    Policy,
    Probe,
    Verdict,
    Watch,
    WatchWarning,
)
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome, WarningKind
from byokd.domain.weigh import confirm_after, steadiness, weigh

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
    if watch.key.version is not None or not isinstance(newest, KeyFacts) or not _newer(watch, newest):
        return None
    return newest if newest.unfit_for_wrapping(now) is None else None


def _newer(watch: Watch, newest: KeyFacts) -> bool:
    """Tell whether a version was never adopted and is not older than the current one (a stale vault may show those)."""
    created = watch.current_version.created
    older = created is not None and newest.created is not None and newest.created < created
    return not older and newest.version not in watch.adopted


def decide(watch: Watch, look: Look, *, now: datetime, policy: Policy, jitter: float, braked: bool = False) -> Decision:
    """Weigh a look at a watch.

    Args:
        watch: the stored facts before the check.
        look: what the check saw.
        now: when the check ended (UTC).
        policy: the times.
        jitter: a random number from -1 to 1 that spreads the next check.
        braked: whether the brake holds what our own fault can cause.
    """
    observations: dict[WrappingVersionId, Observation] = {}
    verdicts: dict[WrappingVersionId, Verdict] = {}
    for version in watch.versions:
        seen = next(entry for entry in look.seen if entry.version == version.version)
        observation = judge(seen)
        observations[version.id] = observation
        verdicts[version.id] = weigh(
            version.verdict, observation, now=now, policy=policy, detected_by=look.detected_by, braked=braked
        )
    adoption = _adoption(watch, look, now=now) if observations[watch.current].outcome is Outcome.USABLE else None
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


def _adoption(watch: Watch, look: Look, *, now: datetime) -> Adoption | None:
    newest = candidate(watch, look.newest, now=now)
    if newest is None or not isinstance(look.candidate, Probe):
        return None
    verdict = Verdict.adopted(now, detected_by=look.detected_by)
    return Adoption(newest.version, newest.created, look.candidate, verdict)


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
    unusable = [warning for warning in watch.warnings if warning.kind is WarningKind.NEWEST_VERSION_UNUSABLE]
    unseen = [warning for warning in watch.warnings if warning.kind is WarningKind.NEW_VERSIONS_UNSEEN]
    if newest is None or isinstance(newest, NoAnswer):
        return unusable + unseen
    if isinstance(newest, Refused):
        lives = any(isinstance(seen.probe, ProbeOpened) for seen in look.seen)
        message = "GET is refused: new versions go unseen"
        return [*unusable, WatchWarning(WarningKind.NEW_VERSIONS_UNSEEN, None, message)] if lives else unusable
    if not _newer(watch, newest):
        return [] if newest.version == watch.current_version.version else unusable
    unfit = newest.unfit_for_wrapping(now)
    if isinstance(look.candidate, Refused):
        unfit = f"the vault refuses to wrap with the newest version: {look.candidate.kind}"
    if unfit is not None:
        return [WatchWarning(WarningKind.NEWEST_VERSION_UNUSABLE, newest.version, unfit)]
    if isinstance(look.candidate, Probe):
        return []
    return [warning for warning in unusable if warning.version == newest.version]


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
    if verdict.suspicion is not None and verdict.suspicion.held_since is not None:
        return _delay_of_held(verdict.suspicion.held_since, now, policy)
    if verdict.suspicion is not None:
        # From the first denial on, looking every `confirm_after` bounds when the change is published; the slower
        # kinds of denial use it to notice soon that they were wrong.
        left = verdict.suspicion.since + confirm_after(verdict.suspicion.reason, policy) - now
        return min(max(left, timedelta(0)), policy.confirm_after) or policy.confirm_after
    if verdict.proving_since is not None and observation.outcome is not Outcome.UNVERIFIED:
        left = verdict.proving_since + steadiness(verdict, policy, now=now) - now
        return min(max(left, timedelta(0)), policy.recheck_first) or policy.recheck_first
    if verdict.outcome is Outcome.DENIED and observation.outcome is not Outcome.UNVERIFIED:
        # Waiting as long as it has lasted doubles the distance between looks.
        return min(max(now - verdict.recheck_from, policy.recheck_first), policy.recheck_most)
    return policy.check_interval * (1 + policy.check_jitter * jitter)


def _delay_of_held(since: datetime, now: datetime, policy: Policy) -> timedelta:
    """Say how soon to look again at what the brake holds: as at a denied version, and when the hold ends."""
    left = since + policy.brake_max_hold - now
    wait = min(max(now - since, policy.recheck_first), policy.recheck_most)
    return min(wait, max(left, policy.confirm_after))
