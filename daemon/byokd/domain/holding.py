"""What a decision holds back for the brake, and what it is while the brake cannot tell yet."""

from dataclasses import replace
from datetime import datetime, timedelta

from byokd.domain.brake import OUR_FAULT_CAN_CAUSE
from byokd.domain.decide import Decision
from byokd.domain.identifiers import WrappingVersionId
from byokd.domain.verdict import Verdict, Watch
from byokd.domain.vocabulary import Outcome


def held_now(watch: Watch, decision: Decision) -> frozenset[WrappingVersionId]:
    """Give the versions that were denied in this look and are held after it, newly or still."""
    return frozenset(
        version.id
        for version in watch.versions
        if decision.verdicts.get(version.id, version.verdict).is_held()
        and decision.observations[version.id].outcome is Outcome.DENIED
    )


def postponed(watch: Watch, decision: Decision, *, now: datetime, wait: timedelta) -> Decision:
    """Give a decision without what it would hold: that stays as it was, and is looked at again after `wait`.

    What was held before is written although nothing changed: an operator may have settled it, and a write tells.
    """
    held = held_now(watch, decision)
    were_held = any(version.verdict.is_held() for version in watch.versions)
    verdicts = {version: verdict for version, verdict in decision.verdicts.items() if version not in held}
    return replace(
        decision,
        verdicts=verdicts,
        next_due=min(decision.next_due, now + wait),
        changes=were_held or bool(verdicts) or decision.adoption is not None or decision.warnings != watch.warnings,
    )


def begins_suspicion(before: Verdict, after: Verdict) -> bool:
    """Whether a usable version was denied for the first time, for a reason that can be our own fault."""
    if after.suspicion is None or after.outcome is not Outcome.USABLE:
        return False
    known = before.suspicion is not None and before.suspicion.since == after.suspicion.since
    return not known and after.suspicion.reason in OUR_FAULT_CAN_CAUSE


def ends_hold(before: Verdict, after: Verdict) -> bool:
    """Whether a held denial turned out to be wrong."""
    return before.is_held() and after.outcome is Outcome.USABLE and after.suspicion is None
