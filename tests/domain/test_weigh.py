"""One wrapping version over time: suspicion, confirmation, recovery, silence."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.judge import Observation
from byokd.domain.verdict import Suspicion, Verdict
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.domain.weigh import weigh
from domain import scenes
from domain.scenes import (
    DENIALS,
    FRESH,
    HOUR,
    NOW,
    POLICY,
    SECOND,
    SOON,
    TROUBLE,
    after,
    denied,
    inaccessible,
    unverified,
    usable,
)

CONFIRM = POLICY.confirm_after
NETWORK = POLICY.confirm_network_after
UNVERIFIED = POLICY.unverified_after


def weighed(before: Verdict, observation: Observation, now: datetime, by: DetectedBy = DetectedBy.POLL) -> Verdict:
    return weigh(before, observation, now=now, policy=POLICY, detected_by=by)


@given(scenes.verdicts.filter(lambda played: played[0].suspicion is None), st.sampled_from(DENIALS), scenes.ways)
def test_one_denial_never_changes_the_outcome_or_the_reason(
    played: tuple[Verdict, datetime], reason: Reason, by: DetectedBy
) -> None:
    verdict, now = played
    later = weighed(verdict, denied(reason), now + HOUR, by)
    assert (later.outcome, later.reason) == (verdict.outcome, verdict.reason)


@given(scenes.verdicts, st.sampled_from(TROUBLE), scenes.gaps, scenes.ways)
def test_silence_changes_no_outcome_and_neither_clears_nor_confirms_nor_renews_a_suspicion(
    played: tuple[Verdict, datetime], reason: Reason, gap: timedelta, by: DetectedBy
) -> None:
    verdict, now = played
    later = weighed(verdict, unverified(reason), now + gap, by)
    assert replace(later, unverified=None, number=0) == replace(verdict, unverified=None, number=0)
    assert later.unverified is not None


@given(scenes.verdicts, scenes.gaps, scenes.ways)
def test_usable_clears_everything_at_once(played: tuple[Verdict, datetime], gap: timedelta, by: DetectedBy) -> None:
    verdict, now = played
    later = weighed(verdict, usable(), now + gap, by)
    assert (later.outcome, later.reason, later.suspicion, later.unverified) == (Outcome.USABLE, None, None, None)
    if verdict.outcome is Outcome.DENIED:
        assert (later.since, later.detected_by, later.number > verdict.number) == (now + gap, by, True)


@given(scenes.histories)
def test_only_a_second_denial_late_enough_with_nothing_usable_between_denies(history: list[tuple]) -> None:
    verdict, now, denials = FRESH, NOW, []
    for observation, gap, by in history:
        now += gap
        before, verdict = verdict, weighed(verdict, observation, now, by)
        if observation.outcome is Outcome.USABLE:
            denials = []
        if (before.outcome, verdict.outcome) == (Outcome.USABLE, Outcome.DENIED):
            assert verdict.reason is observation.reason
            slow = verdict.reason is Reason.NETWORK_BLOCKED
            earlier = [at for reason, at in denials if slow or reason is not Reason.NETWORK_BLOCKED]
            assert any(now - at >= (NETWORK if slow else CONFIRM) for at in earlier)
        if observation.outcome is Outcome.DENIED:
            denials.append((observation.reason, now))


@given(scenes.histories)
def test_numbers_only_grow_and_grow_with_all_that_accounts_must_hear_of(history: list[tuple]) -> None:
    verdict, now = FRESH, NOW
    for observation, gap, by in history:
        now += gap
        before, verdict = verdict, weighed(verdict, observation, now, by)
        assert verdict.number >= before.number
        told_before = before.unverified is not None and before.unverified.told
        told_now = verdict.unverified is not None and verdict.unverified.told
        news = (before.outcome, before.reason, told_before) != (verdict.outcome, verdict.reason, told_now)
        assert (verdict.number > before.number) == news


@given(scenes.histories)
def test_a_verdict_never_tells_unverified_as_an_outcome_and_reason_goes_with_denied(history: list[tuple]) -> None:
    verdict, _ = scenes.played(history)
    assert verdict.outcome in {Outcome.USABLE, Outcome.DENIED}
    assert (verdict.reason is None) == (verdict.outcome is Outcome.USABLE)
    assert verdict.message


@given(st.sampled_from(SOON), st.sampled_from(SOON))
def test_two_denials_of_any_two_kinds_confirm_with_the_later_reason(first: Reason, second: Reason) -> None:
    verdict = after(FRESH, (denied(first), NOW), (denied(second), NOW + CONFIRM))
    assert (verdict.outcome, verdict.reason, verdict.since) == (Outcome.DENIED, second, NOW + CONFIRM)


@pytest.mark.parametrize("early", [timedelta(0), SECOND, CONFIRM - timedelta(microseconds=1)])
def test_a_second_denial_that_comes_too_early_keeps_the_first_ones_time(early: timedelta) -> None:
    verdict = after(FRESH, (denied(), NOW), (denied(Reason.KEY_DISABLED), NOW + early))
    assert verdict.outcome is Outcome.USABLE
    assert verdict.suspicion == Suspicion(Reason.KEY_DISABLED, "denied: KeyDisabled", NOW)


def test_network_rules_are_believed_only_after_their_own_longer_time() -> None:
    blocked = denied(Reason.NETWORK_BLOCKED)
    waiting = after(FRESH, *((blocked, NOW + timedelta(seconds=seconds)) for seconds in range(0, 300, 5)))
    assert waiting.outcome is Outcome.USABLE
    assert after(waiting, (blocked, NOW + NETWORK)).reason is Reason.NETWORK_BLOCKED


def test_one_odd_denial_after_a_while_of_network_rules_is_a_first_denial() -> None:
    blocked = denied(Reason.NETWORK_BLOCKED)
    odd = after(FRESH, (blocked, NOW), (blocked, NOW + HOUR / 20), (denied(), NOW + HOUR / 15))
    assert odd.outcome is Outcome.USABLE
    assert after(odd, (denied(), NOW + HOUR / 15 + CONFIRM)).reason is Reason.ACCESS_DENIED


def test_network_rules_and_another_denial_in_turn_are_confirmed_nevertheless() -> None:
    turns = [
        (denied(reason), NOW + place * CONFIRM) for place, reason in enumerate((Reason.NETWORK_BLOCKED, SOON[0]) * 2)
    ]
    assert after(FRESH, *turns[:3]).outcome is Outcome.USABLE
    assert after(FRESH, *turns).reason is SOON[0]


def test_a_clock_that_was_set_back_starts_the_wait_anew_instead_of_stretching_it() -> None:
    set_back = after(FRESH, (denied(), NOW), (denied(), NOW - HOUR))
    assert set_back.outcome is Outcome.USABLE
    assert after(set_back, (denied(), NOW - HOUR + CONFIRM)).outcome is Outcome.DENIED


def test_silence_between_two_denials_neither_hinders_nor_helps() -> None:
    steps = [(denied(), NOW), (unverified(), NOW + CONFIRM), (unverified(), NOW + HOUR)]
    assert after(FRESH, *steps).outcome is Outcome.USABLE
    assert after(FRESH, *steps, (denied(), NOW + HOUR + SECOND)).outcome is Outcome.DENIED


@pytest.mark.parametrize("other", [reason for reason in DENIALS if reason is not Reason.ACCESS_DENIED])
def test_another_reason_of_a_denied_version_is_confirmed_like_the_first(other: Reason) -> None:
    wait = NETWORK if other is Reason.NETWORK_BLOCKED else CONFIRM
    verdict = inaccessible()
    once = after(verdict, (denied(other), NOW + HOUR))
    assert (once.reason, once.number, once.suspicion.reason) == (Reason.ACCESS_DENIED, verdict.number, other)
    assert after(once, (denied(), NOW + HOUR + SECOND)).suspicion is None
    twice = after(once, (denied(other), NOW + HOUR + wait))
    assert (twice.outcome, twice.reason, twice.number) == (Outcome.DENIED, other, verdict.number + 1)


def test_the_same_denial_again_changes_nothing() -> None:
    assert after(inaccessible(), (denied(), NOW + HOUR)) == inaccessible()


def test_a_hint_resets_what_the_backoff_counts_from_and_a_poll_does_not() -> None:
    assert after(inaccessible(), (denied(), NOW + HOUR), by=DetectedBy.HINT).recheck_from == NOW + HOUR
    assert after(inaccessible(), (denied(), NOW + HOUR), by=DetectedBy.POLL).recheck_from == NOW


def test_unverified_is_told_once_after_its_time_and_untold_by_any_answer() -> None:
    quiet = after(FRESH, (unverified(), NOW), (unverified(), NOW + UNVERIFIED - SECOND))
    assert (quiet.unverified.told, quiet.number) == (False, 1)
    told = after(quiet, (unverified(Reason.THROTTLED), NOW + UNVERIFIED))
    assert (told.unverified.told, told.unverified.since, told.number) == (True, NOW, 2)
    assert told.unverified.reason is Reason.THROTTLED
    still = after(told, (unverified(), NOW + HOUR))
    assert (still.unverified.told, still.unverified.since, still.number) == (True, NOW, 2)
    assert after(still, (usable(), NOW + HOUR)).number == 3
    answered = after(still, (denied(), NOW + HOUR))
    assert (answered.unverified, answered.number, answered.outcome) == (None, 3, Outcome.USABLE)
