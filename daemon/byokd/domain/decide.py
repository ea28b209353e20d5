"""The heart: from a watch and what a check saw of it to new verdicts, an adoption, events and the next time.

Pure: no I/O, no clock, no settings. Everything it weighs is a stored fact or an argument, so that a restart neither
resets nor shortens anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from byokd.domain import warn
from byokd.domain.accounts import instant
from byokd.domain.answers import FactsAnswer, KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import KeyVersion, WrappingVersionId
from byokd.domain.judge import Observation, Seen, judge
from byokd.domain.verdict import (
    Policy,
    Probe,
    Verdict,
    Watch,
    WatchWarning,
)
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome
from byokd.domain.weigh import confirm_after, steadiness, weigh

CandidateAnswer = Probe | Refused | NoAnswer
"""What proving a newer version gave: its new probe, wrapped and unwrapped by the vault, or why not."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one check saw of a watch.

    Attributes:
        seen: one entry per wrapping version of the watch.
        newest: what GET told of the key identifier; None when it was not asked.
        candidate: what proving `newest` gave; None when it is no candidate.
        unpinned: what GET told of a pinned key without its version; None when it was not asked, as mostly.
        stood: how long each suspicion had stood when the look began; None: as long as it has at its end.
    """

    seen: tuple[Seen, ...]
    newest: FactsAnswer | None
    candidate: CandidateAnswer | None
    detected_by: DetectedBy
    unpinned: FactsAnswer | None = None
    stood: Mapping[WrappingVersionId, timedelta] | None = None


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
    if watch.key.version is not None or not isinstance(newest, KeyFacts) or not watch.is_newer(newest):
        return None
    return newest if newest.unfit_for_wrapping(now) is None else None


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
            version.verdict,
            observation,
            now=now,
            policy=policy,
            detected_by=look.detected_by,
            braked=braked,
            stood=None if look.stood is None else look.stood.get(version.id),
        )
    adoption = _adoption(watch, look, now=now) if observations[watch.current].outcome is Outcome.USABLE else None
    warnings = warn.warnings(_sight(watch, look, now=now, policy=policy))
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


def _sight(watch: Watch, look: Look, *, now: datetime, policy: Policy) -> warn.Sight:
    return warn.Sight(
        watch=watch,
        seen=look.seen,
        newest=look.newest,
        candidate=look.candidate,
        unpinned=look.unpinned,
        now=now,
        near_expiry=policy.near_expiry,
    )


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
    for event_type, warning in warn.news(watch.warnings, warnings):
        data = {
            "keyIdentifier": str(watch.concerned(warning)),
            "message": warning.message,
            "detectedBy": str(detected_by),
        }
        if warning.date is not None:
            data["expiresAt"] = instant(warning.date)
        events.append(KeyEvent(event_type, data))
    return tuple(events)


def _delay(verdict: Verdict, observation: Observation, now: datetime, policy: Policy, jitter: float) -> timedelta:
    """Say how soon to look again at a version, from stored facts alone."""
    if verdict.suspicion is not None and verdict.suspicion.held_since is not None:
        return _delay_of_held(verdict.suspicion.held_since, now, policy)
    if verdict.suspicion is not None:
        # From the first denial on, looking every `confirm_after` bounds when the change is published; the slower
        # kinds of denial use it to notice soon that they were wrong.
        seen = observation.reason if observation.outcome is Outcome.DENIED else None
        left = verdict.suspicion.since + confirm_after(seen or verdict.suspicion.reason, policy) - now
        if left <= timedelta(0) and seen is not None:
            return policy.confirm_after / 10  # the look began a little too early to count, however long it took
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
