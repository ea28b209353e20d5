"""The verdict of one wrapping version after one more observation: suspect, confirm, hold, recover, note silence.

Pure, from stored facts and arguments alone. The rules are read from the top; the first that has something to say
decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from byokd.domain.answers import Evidence
from byokd.domain.brake import OUR_FAULT_CAN_CAUSE
from byokd.domain.judge import Observation
from byokd.domain.verdict import Policy, Suspicion, Unverified, Verdict
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason


@dataclass(frozen=True, slots=True)
class Weighing:
    """One verdict and one more observation of its version.

    Attributes:
        verdict: as stored.
        seen: what was seen now.
        braked: whether the brake holds back what our own fault can cause.
        stood: how long the suspicion had stood when the look began; None: as long as it has now.
    """

    verdict: Verdict
    seen: Observation
    now: datetime
    policy: Policy
    detected_by: DetectedBy
    braked: bool
    stood: timedelta | None = None

    @property
    def reason(self) -> Reason:
        """Why it is denied or unverified."""
        if self.seen.reason is None:
            raise AssertionError(f"{self.seen.outcome} has a reason")
        return self.seen.reason

    @property
    def answered(self) -> Verdict:
        """The verdict, no longer unverified: the vault said again what it rests on."""
        verdict = self.verdict
        if verdict.unverified is None or not verdict.unverified.told:
            return replace(verdict, unverified=None)
        number = verdict.number + 1
        return replace(verdict, unverified=None, number=number, detected_by=self.detected_by, observed_at=self.now)

    @property
    def doubted(self) -> Verdict:
        """The verdict after a denial that does not count yet: as unverified as it was, but now for that reason."""
        before = self.verdict.unverified
        return self.verdict if before is None else replace(self.verdict, unverified=replace(before, reason=self.reason))

    @property
    def dated(self) -> tuple[Evidence, ...]:
        """What was seen now, with the time."""
        return tuple(replace(entry, at=self.now) for entry in self.seen.evidence)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What a denial rests on: the look that it was first suspected by, and this one."""
        suspicion = self.verdict.suspicion
        before = () if suspicion is None else suspicion.evidence
        return (*(entry for entry in before if entry.at == before[0].at), *self.dated)

    @property
    def was_usable(self) -> bool:
        """Whether the version is usable so far."""
        return self.verdict.outcome is Outcome.USABLE


Rule = Callable[[Weighing], Verdict | None]


def silent_for_too_long(case: Weighing) -> Verdict | None:
    """No answer for `fail_closed_after`, where that is set: who wants it so is closed without a denial."""
    limit, before = case.policy.fail_closed_after, case.verdict.unverified
    if case.seen.outcome is not Outcome.UNVERIFIED or not case.was_usable or limit is None or before is None:
        return None
    if case.now - before.since < limit:
        return None
    message = f"the key could not be checked for {_words(limit)}: {case.reason}"
    closed = Observation(Outcome.DENIED, Reason.UNVERIFIED, message)
    return replace(_changed(case, closed), unverified=Unverified(case.reason, before.since, told=True))


def silent(case: Weighing) -> Verdict | None:
    """No answer: outcome and suspicion stay as they are; after a while it is told, once."""
    if case.seen.outcome is not Outcome.UNVERIFIED:
        return None
    before = case.verdict.unverified
    if before is None:
        return replace(case.verdict, unverified=Unverified(case.reason, case.now))
    if not before.told and case.now - before.since >= case.policy.unverified_after:
        told = Unverified(case.reason, before.since, told=True)
        return replace(case.verdict, unverified=told, number=case.verdict.number + 1)
    return replace(case.verdict, unverified=replace(before, reason=case.reason))


def usable_as_before(case: Weighing) -> Verdict | None:
    """The probe opened: whatever was suspected was wrong."""
    if case.seen.outcome is not Outcome.USABLE or not case.was_usable:
        return None
    return replace(case.answered, suspicion=None)


def usable_but_flapping(case: Weighing) -> Verdict | None:
    """The probe opened, but the version came and went too often lately: it has to stay for a while first."""
    if case.seen.outcome is not Outcome.USABLE:
        return None
    since = _begun(case.verdict.proving_since, case.now)
    if case.now - since >= steadiness(case.verdict, case.policy, now=case.now):
        return None
    return replace(case.verdict, suspicion=None, proving_since=since)


def usable_again(case: Weighing) -> Verdict | None:
    """The probe opened: the full proof, and the only one."""
    if case.seen.outcome is not Outcome.USABLE:
        return None
    return _flipped(case)


def denied_as_before(case: Weighing) -> Verdict | None:
    """The same denial once more: a hint shortens the wait for the next look."""
    if case.was_usable or case.verdict.reason is not case.reason:
        return None
    hinted = case.detected_by is not DetectedBy.POLL
    recheck_from = case.now if hinted else case.verdict.recheck_from
    return replace(case.answered, suspicion=None, proving_since=None, recheck_from=recheck_from)


def first_denial(case: Weighing) -> Verdict | None:
    """The first of its kind is only suspected.

    Of a denied version, any other reason is the first. Of a usable one, also a denial after a while of those alone that
    say nothing of the key: one odd answer must not count at once because they stood for long. A suspicion from the
    future (the clock was set back) starts anew too, or it would wait for the clock.
    """
    suspicion = case.verdict.suspicion
    if suspicion is not None and suspicion.since <= case.now:
        if not case.was_usable and suspicion.reason is case.reason:
            return None
        if case.was_usable and (suspicion.reason not in SLOW or case.reason in SLOW):
            return None
    suspicion = Suspicion(case.reason, case.seen.message, case.now, evidence=case.dated)
    return replace(case.doubted, suspicion=suspicion, proving_since=None)


def denied_too_soon(case: Weighing) -> Verdict | None:
    """A second denial counts only when the first has stood long enough."""
    suspicion = case.verdict.suspicion
    if suspicion is None:
        raise AssertionError("the first denial was passed over")
    wait = confirm_after(case.reason, case.policy)
    if not case.was_usable:
        wait = max(wait, steadiness(case.verdict, case.policy, now=case.now))
    stood = case.now - suspicion.since if case.stood is None else case.stood
    if stood >= wait * PUNCTUAL:
        return None
    if case.reason in SLOW and suspicion.reason not in SLOW:
        # A suspicion that is confirmed sooner stands, or two kinds in turn would never be confirmed.
        return case.doubted
    return replace(case.doubted, suspicion=_of_now(case, suspicion))


def held_by_the_brake(case: Weighing) -> Verdict | None:
    """Confirmed, but it looks like our own fault: held for `brake_max_hold`, while nothing is used unproved."""
    suspicion = case.verdict.suspicion
    if not (case.braked and case.was_usable and suspicion is not None and case.reason in OUR_FAULT_CAN_CAUSE):
        return None
    since = _begun(suspicion.held_since, case.now)
    if case.now - since >= case.policy.brake_max_hold:
        return None
    held = _of_now(case, suspicion)
    if suspicion.held_since is None:
        held = replace(held, evidence=case.evidence)
    return replace(case.doubted, suspicion=replace(held, held_since=since))


def confirmed(case: Weighing) -> Verdict | None:
    """Denied again, late enough, with nothing usable between."""
    return _changed(case, case.seen) if case.was_usable else _flipped(case)


RULES: tuple[Rule, ...] = (
    silent_for_too_long,
    silent,
    usable_as_before,
    usable_but_flapping,
    usable_again,
    denied_as_before,
    first_denial,
    denied_too_soon,
    held_by_the_brake,
    confirmed,
)
"""How verdicts come and go, in the order in which it is read."""

PUNCTUAL = 0.999
"""Share of a wait after which it is over: clocks are slewed by half of that, and who is early would wait once more."""

SLOW = frozenset({Reason.NETWORK_BLOCKED, Reason.VAULT_NOT_FOUND})
"""Denials that say nothing of the key and are often about ourselves: they have to stand for longer."""


def weigh(
    verdict: Verdict,
    observation: Observation,
    *,
    now: datetime,
    policy: Policy,
    detected_by: DetectedBy,
    braked: bool = False,
    stood: timedelta | None = None,
) -> Verdict:
    """Give the verdict after one more observation of its version."""
    case = Weighing(verdict, observation, now, policy, detected_by, braked, stood)
    # The last rule has something to say of whatever the others pass over.
    return next(weighed for rule in RULES if (weighed := rule(case)) is not None)


def confirm_after(reason: Reason, policy: Policy) -> timedelta:
    """How long a denial must stand before it counts: network rules often refuse our own new address for a while."""
    return policy.confirm_network_after if reason in SLOW else policy.confirm_after


def steadiness(verdict: Verdict, policy: Policy, *, now: datetime) -> timedelta:
    """How long a denied version must be seen otherwise before that counts: nothing, unless it changes all the time."""
    beyond = verdict.flips - policy.flaps_free
    if beyond < 0 or not _flipped_lately(verdict, policy, now=now):
        return timedelta(0)
    # After so many doublings the longest wait is reached: more would be too long for a number.
    most = (policy.recheck_most // policy.recheck_first).bit_length()
    return min(policy.recheck_first * (1 << min(beyond, most)), policy.recheck_most)


def applied(verdict: Verdict, *, now: datetime, detected_by: DetectedBy) -> Verdict:
    """Give the verdict that a held denial becomes when it is confirmed by an operator; any other stays as it is."""
    held = verdict.suspicion
    if held is None or held.held_since is None:
        return verdict
    return replace(
        verdict,
        outcome=Outcome.DENIED,
        reason=held.reason,
        message=held.message,
        since=now,
        number=verdict.number + 1,
        detected_by=detected_by,
        observed_at=now,
        recheck_from=now,
        suspicion=None,
        unverified=None,
        evidence=held.evidence,
    )


def discarded(verdict: Verdict, *, now: datetime) -> Verdict:
    """Give the verdict of which a held denial is a first one again, of now: only a look ends a suspicion."""
    held = verdict.suspicion
    if held is None or held.held_since is None:
        return verdict
    return replace(verdict, suspicion=replace(held, since=now, held_since=None))


def _changed(case: Weighing, to: Observation) -> Verdict:
    """Give the verdict that an observation becomes; with a denial, also by what it was suspected."""
    return Verdict(
        outcome=to.outcome,
        reason=to.reason,
        message=to.message,
        since=case.now,
        number=case.verdict.number + 1,
        detected_by=case.detected_by,
        observed_at=case.now,
        recheck_from=case.now,
        evidence=() if to.outcome is Outcome.USABLE else case.evidence,
        flips=case.verdict.flips,
        flipped_at=case.verdict.flipped_at,
    )


def _of_now(case: Weighing, suspicion: Suspicion) -> Suspicion:
    """Give a suspicion with the reason that was seen now, and where that is another, what it rests on."""
    if case.reason is suspicion.reason and case.seen.message == suspicion.message:
        return suspicion
    return replace(suspicion, reason=case.reason, message=case.seen.message, evidence=case.evidence)


def _flipped(case: Weighing) -> Verdict:
    """Give the verdict that a denied version's other observation becomes, and count how often that happened lately."""
    lately = _flipped_lately(case.verdict, case.policy, now=case.now)
    return replace(_changed(case, case.seen), flips=case.verdict.flips + 1 if lately else 1, flipped_at=case.now)


def _flipped_lately(verdict: Verdict, policy: Policy, *, now: datetime) -> bool:
    before = verdict.flipped_at
    return before is not None and timedelta(0) <= now - before <= policy.flap_window


def _begun(since: datetime | None, now: datetime) -> datetime:
    """Say when something began: now, unless it stands already; what is from the future begins anew."""
    return now if since is None else min(since, now)


def _words(time: timedelta) -> str:
    seconds = round(time.total_seconds())
    return f"{seconds} s" if seconds % 60 else f"{seconds // 60} min"
