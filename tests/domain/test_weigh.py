"""One wrapping version over time: suspicion, confirmation, recovery, silence."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.brake import OUR_FAULT_CAN_CAUSE
from byokd.domain.judge import Observation
from byokd.domain.verdict import Suspicion, Verdict
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.domain.weigh import SLOW, applied, discarded, weigh
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


@given(scenes.verdicts.filter(lambda played: played[0].flips < POLICY.flaps_free), scenes.gaps, scenes.ways)
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
            slow = verdict.reason in SLOW
            earlier = [at for reason, at in denials if slow or reason not in SLOW]
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


@pytest.mark.parametrize("early", [timedelta(0), SECOND, CONFIRM * 0.99])
def test_a_second_denial_that_comes_too_early_keeps_the_first_ones_time(early: timedelta) -> None:
    verdict = after(FRESH, (denied(), NOW), (denied(Reason.KEY_DISABLED), NOW + early))
    assert verdict.outcome is Outcome.USABLE
    assert verdict.suspicion == Suspicion(Reason.KEY_DISABLED, "denied: KeyDisabled", NOW)


@pytest.mark.parametrize("slow", [Reason.NETWORK_BLOCKED, Reason.VAULT_NOT_FOUND])
def test_what_says_nothing_of_the_key_is_believed_only_after_its_own_longer_time(slow: Reason) -> None:
    blocked = denied(slow)
    waiting = after(FRESH, *((blocked, NOW + timedelta(seconds=seconds)) for seconds in range(0, 300, 5)))
    assert waiting.outcome is Outcome.USABLE
    assert after(waiting, (blocked, NOW + NETWORK)).reason is slow


@pytest.mark.parametrize("slow", [Reason.NETWORK_BLOCKED, Reason.VAULT_NOT_FOUND])
def test_one_odd_denial_after_a_while_of_those_is_a_first_denial(slow: Reason) -> None:
    blocked = denied(slow)
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
    wait = NETWORK if other in SLOW else CONFIRM
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


def test_unverified_is_told_once_after_its_time_and_untold_by_an_answer_that_agrees() -> None:
    quiet = after(FRESH, (unverified(), NOW), (unverified(), NOW + UNVERIFIED - SECOND))
    assert (quiet.unverified.told, quiet.number) == (False, 1)
    told = after(quiet, (unverified(Reason.THROTTLED), NOW + UNVERIFIED))
    assert (told.unverified.told, told.unverified.since, told.number) == (True, NOW, 2)
    assert told.unverified.reason is Reason.THROTTLED
    still = after(told, (unverified(), NOW + HOUR))
    assert (still.unverified.told, still.unverified.since, still.number) == (True, NOW, 2)
    assert after(still, (usable(), NOW + HOUR)).number == 3
    seen_again = after(still, (usable(), NOW + HOUR), by=DetectedBy.HINT)
    assert (seen_again.observed_at, seen_again.detected_by) == (NOW + HOUR, DetectedBy.HINT)


def test_a_denial_that_does_not_count_yet_leaves_a_version_as_unverified_as_it_was() -> None:
    told = after(FRESH, (unverified(), NOW), (unverified(), NOW + UNVERIFIED))
    suspected = after(told, (denied(), NOW + HOUR))
    assert suspected.suspicion is not None
    assert suspected.number == told.number
    assert suspected.unverified == replace(told.unverified, reason=Reason.ACCESS_DENIED)
    assert (told.unverified.is_silent, suspected.unverified.is_silent) == (True, False)
    silent = after(suspected, (unverified(Reason.THROTTLED), NOW + HOUR + SECOND))
    assert silent.unverified == replace(told.unverified, reason=Reason.THROTTLED)
    too_soon = after(suspected, (denied(Reason.KEY_DISABLED), NOW + HOUR + SECOND))
    assert too_soon.number == told.number
    assert too_soon.unverified == replace(told.unverified, reason=Reason.KEY_DISABLED)
    again = NOW + HOUR + CONFIRM
    held = weigh(suspected, denied(), now=again, policy=POLICY, detected_by=DetectedBy.POLL, braked=True)
    assert held.suspicion.held_since == again
    assert (held.unverified, held.number) == (suspected.unverified, told.number)
    assert after(held, (usable(), again)).unverified is None
    counts = after(suspected, (denied(), again))
    assert (counts.outcome, counts.unverified, counts.number) == (Outcome.DENIED, None, told.number + 1)
    assert after(suspected, (usable(), again)).number == told.number + 1


def test_a_denied_version_is_verified_by_the_same_denial_and_not_by_another_or_while_it_proves_itself() -> None:
    gone = replace(inaccessible(), flips=POLICY.flaps_free, flipped_at=NOW)
    told = after(gone, (unverified(), NOW), (unverified(), NOW + UNVERIFIED))
    same = after(told, (denied(), NOW + UNVERIFIED))
    assert (same.unverified, same.number) == (None, told.number + 1)
    for seen in (denied(Reason.KEY_DISABLED), usable()):
        other = after(told, (seen, NOW + UNVERIFIED))
        assert (other.outcome, other.number) == (Outcome.DENIED, told.number)
        assert other.unverified == replace(told.unverified, reason=seen.reason or told.unverified.reason)


def flapped(times: int, *, every: timedelta = 2 * CONFIRM) -> tuple[Verdict, datetime]:
    """A version that was denied and recovered so many times."""
    verdict, now = FRESH, NOW
    for _ in range(times):
        verdict = after(verdict, (denied(), now), (denied(), now + CONFIRM), (usable(), now + CONFIRM + SECOND))
        now += every
    return verdict, now


def test_a_version_that_flips_too_often_must_be_usable_for_a_while_before_that_counts() -> None:
    free, now = flapped(POLICY.flaps_free)
    assert (free.outcome, free.flips) == (Outcome.USABLE, POLICY.flaps_free)
    gone = after(free, (denied(), now), (denied(), now + CONFIRM))
    back = now + CONFIRM + SECOND
    proving = after(gone, (usable(), back))
    assert (proving.outcome, proving.proving_since, proving.number) == (Outcome.DENIED, back, gone.number)
    assert after(proving, (usable(), back + POLICY.recheck_first - SECOND)).outcome is Outcome.DENIED
    recovered = after(proving, (usable(), back + POLICY.recheck_first))
    assert (recovered.outcome, recovered.flips, recovered.proving_since) == (Outcome.USABLE, 4, None)


def test_a_denial_begins_the_proving_anew_and_silence_does_not() -> None:
    free, now = flapped(POLICY.flaps_free)
    proving = after(free, (denied(), now), (denied(), now + CONFIRM), (usable(), now + CONFIRM))
    for reason in (Reason.ACCESS_DENIED, Reason.KEY_DISABLED):
        assert after(proving, (denied(reason), now + CONFIRM + SECOND)).proving_since is None
    assert after(proving, (unverified(), now + CONFIRM + SECOND)).proving_since == proving.proving_since


def test_flips_of_long_ago_delay_nothing() -> None:
    free, now = flapped(POLICY.flaps_free + 3, every=POLICY.flap_window / 4)
    later = now + POLICY.flap_window + HOUR
    back = after(free, (denied(), later), (denied(), later + CONFIRM), (usable(), later + CONFIRM))
    assert (back.outcome, back.flips) == (Outcome.USABLE, 1)


@given(st.lists(st.sampled_from((usable(), denied(), denied(Reason.KEY_DISABLED))), min_size=1, max_size=6))
def test_whatever_flips_every_few_seconds_changes_at_most_a_bounded_number_of_times_an_hour(pattern: list) -> None:
    verdict, changes = FRESH, 0
    for look in range(int(HOUR / CONFIRM)):
        before, verdict = verdict, weighed(verdict, pattern[look // 2 % len(pattern)], NOW + look * CONFIRM)
        changes += verdict.number - before.number
    # Some 15 changes that are delayed, and as many denials of a usable version, which never are.
    assert changes <= 2 * (POLICY.flaps_free + 16)


@given(scenes.verdicts.filter(lambda played: played[0].outcome is Outcome.USABLE and played[0].suspicion is None))
def test_a_denial_of_a_usable_version_is_never_delayed_however_often_it_flipped(played: tuple) -> None:
    verdict, now = played
    gone = after(verdict, (denied(), now + SECOND), (denied(), now + SECOND + CONFIRM))
    assert (gone.outcome, gone.since) == (Outcome.DENIED, now + SECOND + CONFIRM)


CLOSING = replace(POLICY, fail_closed_after=HOUR)


def closing(verdict: Verdict, observation: Observation, now: datetime) -> Verdict:
    return weigh(verdict, observation, now=now, policy=CLOSING, detected_by=DetectedBy.POLL)


def test_silence_closes_only_where_that_is_wanted_only_after_its_time_and_only_a_proof_opens_again() -> None:
    quiet = closing(closing(FRESH, unverified(), NOW), unverified(), NOW + HOUR - SECOND)
    assert quiet.outcome is Outcome.USABLE
    closed = closing(quiet, unverified(), NOW + HOUR)
    assert (closed.outcome, closed.reason) == (Outcome.DENIED, Reason.UNVERIFIED)
    assert closed.number > quiet.number
    assert (closed.unverified.since, closed.unverified.told) == (NOW, True)
    assert closing(closed, unverified(), NOW + 2 * HOUR).number == closed.number
    suspected = closing(closed, denied(), NOW + 2 * HOUR)
    assert (suspected.reason, suspected.suspicion.reason) == (Reason.UNVERIFIED, Reason.ACCESS_DENIED)
    assert closing(closed, usable(), NOW + 2 * HOUR).outcome is Outcome.USABLE


@given(scenes.histories)
def test_without_fail_closed_no_silence_ever_closes(history: list[tuple]) -> None:
    verdict, _ = scenes.played(history)
    assert verdict.reason is not Reason.UNVERIFIED


HELD_KINDS = [reason for reason in SOON if reason in OUR_FAULT_CAN_CAUSE]
KEYS_OWN = [reason for reason in SOON if reason not in OUR_FAULT_CAN_CAUSE]


def braking(verdict: Verdict, *steps: tuple[Observation, datetime]) -> Verdict:
    for observation, now in steps:
        verdict = weigh(verdict, observation, now=now, policy=POLICY, detected_by=DetectedBy.POLL, braked=True)
    return verdict


@pytest.mark.parametrize("reason", HELD_KINDS)
def test_the_brake_holds_a_confirmed_denial_that_our_own_fault_can_cause(reason: Reason) -> None:
    held = braking(FRESH, (denied(reason), NOW), (denied(reason), NOW + CONFIRM))
    assert (held.outcome, held.number) == (Outcome.USABLE, FRESH.number)
    assert held.suspicion == Suspicion(reason, f"denied: {reason}", NOW, held_since=NOW + CONFIRM)
    most = NOW + CONFIRM + POLICY.brake_max_hold
    assert braking(held, (denied(reason), most - SECOND)).outcome is Outcome.USABLE
    assert braking(held, (denied(reason), most)).reason is reason
    assert braking(held, (usable(), most)).suspicion is None
    assert braking(held, (unverified(), most)).suspicion == held.suspicion
    assert after(held, (denied(reason), NOW + 2 * CONFIRM)).reason is reason


@pytest.mark.parametrize("reason", KEYS_OWN)
def test_what_the_vault_says_of_its_key_is_never_held(reason: Reason) -> None:
    assert braking(FRESH, (denied(reason), NOW), (denied(reason), NOW + CONFIRM)).reason is reason
    held = braking(FRESH, (denied(), NOW), (denied(), NOW + CONFIRM))
    assert braking(held, (denied(reason), NOW + 2 * CONFIRM)).reason is reason


@given(scenes.histories)
def test_under_the_brake_no_denial_is_ever_nearer_than_without_it_and_no_longer_than_the_hold(history: list) -> None:
    free, braked, now = FRESH, FRESH, NOW
    for observation, gap, _ in history:
        now += gap
        free, braked = after(free, (observation, now)), braking(braked, (observation, now))
        if braked.outcome is Outcome.DENIED and braked.reason in OUR_FAULT_CAN_CAUSE:
            assert free.outcome is Outcome.DENIED or braked.proving_since is not None
        if braked.suspicion is not None and braked.suspicion.held_since is not None:
            held_for = now - braked.suspicion.held_since
            assert held_for < POLICY.brake_max_hold or observation.outcome is Outcome.UNVERIFIED


@given(scenes.verdicts, scenes.gaps)
def test_only_a_held_denial_can_be_applied_or_discarded_by_word(played: tuple, gap: timedelta) -> None:
    verdict, now = played
    assert applied(verdict, now=now + gap, detected_by=DetectedBy.OPERATOR) == verdict
    assert discarded(verdict, now=NOW) == verdict


def test_a_held_denial_becomes_the_verdict_on_an_operators_word_or_begins_anew() -> None:
    held = braking(FRESH, (denied(), NOW), (denied(), NOW + CONFIRM))
    word = applied(held, now=NOW + HOUR, detected_by=DetectedBy.HINT)
    assert word == Verdict(
        outcome=Outcome.DENIED,
        reason=Reason.ACCESS_DENIED,
        message="denied: AccessDenied",
        since=NOW + HOUR,
        number=held.number + 1,
        detected_by=DetectedBy.HINT,
        observed_at=NOW + HOUR,
        recheck_from=NOW + HOUR,
    )
    again = discarded(held, now=NOW + HOUR)
    assert again.suspicion == Suspicion(Reason.ACCESS_DENIED, "denied: AccessDenied", NOW + HOUR)
    assert replace(again, suspicion=None) == replace(held, suspicion=None)
    early = after(again, (denied(), NOW + HOUR + CONFIRM / 2))
    assert (early.outcome, early.suspicion) == (Outcome.USABLE, again.suspicion)
    assert after(early, (denied(), NOW + HOUR + CONFIRM)).outcome is Outcome.DENIED
