"""What the brake holds of a look, and what is left of a decision while it cannot tell."""

from dataclasses import replace

from byokd.domain.decide import Decision, decide
from byokd.domain.holding import held_now, postponed
from byokd.domain.verdict import Suspicion, Watch
from byokd.domain.vocabulary import Reason, RefusalKind
from domain.scenes import FRESH, NOW, OPENED, POLICY, PROBE, SECOND, V3, facts, look, refused, watch

NO = refused(RefusalKind.ACCESS_DENIED)
SUSPECTED = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "refused", NOW - POLICY.confirm_after))


def braked(on: Watch, *probes: object, **more: object) -> Decision:
    return decide(on, look(on, *probes, **more), now=NOW, policy=POLICY, jitter=0, braked=True)


def test_what_is_denied_and_stays_held_just_as_it_was_is_held_now() -> None:
    first = watch(SUSPECTED, FRESH)
    held = braked(first, NO, OPENED)
    again = watch(held.verdicts[first.versions[0].id], FRESH)
    decision = braked(again, NO, OPENED)
    assert (decision.verdicts, held_now(again, decision)) == ({}, {again.versions[0].id})


def test_what_is_postponed_is_looked_at_again_after_the_wait_though_it_would_have_been_later() -> None:
    on = watch(SUSPECTED)
    decision = braked(on, NO)
    assert decision.next_due == NOW + POLICY.recheck_first
    assert postponed(on, decision, now=NOW, wait=3 * SECOND).next_due == NOW + 3 * SECOND
    assert postponed(on, decision, now=NOW, wait=60 * SECOND).next_due == decision.next_due


def test_a_warning_or_an_adoption_is_kept_while_a_denial_is_postponed() -> None:
    on = watch(SUSPECTED, FRESH)
    for newest, candidate in ((facts(V3, enabled=False), None), (facts(V3), PROBE)):
        decision = braked(on, NO, OPENED, newest=newest, candidate=candidate)
        assert bool(decision.warnings) != bool(decision.adoption), "one of them alone"
        left = postponed(on, decision, now=NOW, wait=SECOND)
        assert (left.verdicts, left.changes) == ({}, True)
        assert (left.warnings, left.adoption, left.events) == (decision.warnings, decision.adoption, decision.events)
