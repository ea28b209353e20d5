"""The verdict of one wrapping version after one more observation: suspect, confirm, recover, note what is unverified.

Pure, from stored facts and arguments alone.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from byokd.domain.judge import Observation
from byokd.domain.verdict import Policy, Suspicion, Unverified, Verdict
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason


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
    if suspicion is None or _starts_anew(suspicion, reason, of=verdict.outcome, now=now):
        return replace(verdict, suspicion=Suspicion(reason, observation.message, now))
    if now - suspicion.since >= confirm_after(reason, policy):
        return _changed(verdict, observation, now=now, detected_by=detected_by)
    if reason is Reason.NETWORK_BLOCKED:
        return verdict  # a suspicion that is confirmed sooner stands, or two kinds in turn would never be confirmed
    return replace(verdict, suspicion=replace(suspicion, reason=reason, message=observation.message))


def _starts_anew(suspicion: Suspicion, reason: Reason, *, of: Outcome, now: datetime) -> bool:
    """Tell whether a denial is the first of its kind, so that what was suspected before does not confirm it.

    Of a denied version, any other reason is. Of a usable one, only a denial after network rules alone refused: they say
    nothing of the key, and one odd answer must not count at once because they stood for a while. A suspicion from the
    future (the clock was set back) starts anew too, or it would wait for the clock.
    """
    if suspicion.since > now:
        return True
    if of is Outcome.DENIED:
        return suspicion.reason is not reason
    return suspicion.reason is Reason.NETWORK_BLOCKED and reason is not Reason.NETWORK_BLOCKED


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
