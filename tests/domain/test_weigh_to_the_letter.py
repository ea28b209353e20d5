"""What only a close look at verdicts tells apart: all that one says, and to which side its bound itself belongs."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.answers import Evidence
from byokd.domain.judge import Observation
from byokd.domain.verdict import Suspicion, Unverified, Verdict
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.domain.weigh import SLOW, applied, discarded, steadiness, weigh
from domain.scenes import (
    FRESH,
    HOUR,
    NOW,
    POLICY,
    SECOND,
    SOON,
    after,
    denied,
    inaccessible,
    unverified,
    usable,
)

CONFIRM, WINDOW = POLICY.confirm_after, POLICY.flap_window
TICK = timedelta(microseconds=1)
NO = (Evidence("unwrapKey", status=403, code="Forbidden"),)
FIRST = (Evidence("unwrapKey", status=403, code="Forbidden"), Evidence("get", status=200, told="disabled"))
FLAPPING = replace(inaccessible(), flips=POLICY.flaps_free, flipped_at=NOW)


def dated(evidence: tuple[Evidence, ...], at: datetime) -> tuple[Evidence, ...]:
    return tuple(replace(entry, at=at) for entry in evidence)


def test_a_confirmed_denial_says_what_was_seen_by_whom_and_what_it_rests_on() -> None:
    first = replace(denied(), evidence=FIRST)
    suspected = replace(after(FRESH, (first, NOW)), flips=2, flipped_at=NOW - HOUR)
    seen = replace(denied(Reason.KEY_DISABLED), evidence=NO)
    now = NOW + CONFIRM
    assert weigh(suspected, seen, now=now, policy=POLICY, detected_by=DetectedBy.HINT) == Verdict(
        outcome=Outcome.DENIED,
        reason=Reason.KEY_DISABLED,
        message="denied: KeyDisabled",
        since=now,
        number=FRESH.number + 1,
        detected_by=DetectedBy.HINT,
        observed_at=now,
        recheck_from=now,
        evidence=(*dated(FIRST, NOW), *dated(NO, now)),
        flips=2,
        flipped_at=NOW - HOUR,
    )


def test_a_suspicion_keeps_the_look_that_began_it_and_of_the_later_ones_the_one_that_changed_it() -> None:
    first, other = replace(denied(), evidence=FIRST), replace(denied(Reason.KEY_DISABLED), evidence=NO)
    suspected = after(FRESH, (first, NOW))
    assert suspected.suspicion.evidence == dated(FIRST, NOW)
    assert after(suspected, (first, NOW + TICK)).suspicion.evidence == dated(FIRST, NOW)
    changed = after(suspected, (other, NOW + TICK))
    assert changed.suspicion.evidence == (*dated(FIRST, NOW), *dated(NO, NOW + TICK))
    again = after(changed, (first, NOW + 2 * TICK))
    assert again.suspicion.evidence == (*dated(FIRST, NOW), *dated(FIRST, NOW + 2 * TICK))


def test_another_message_of_the_same_reason_is_another_suspicion_and_so_is_another_reason_in_the_same_words() -> None:
    suspected = after(FRESH, (replace(denied(), evidence=FIRST), NOW))
    for change in ({"message": "expired on another day"}, {"reason": Reason.KEY_DISABLED}):
        seen = replace(denied(), evidence=NO, **change)
        changed = after(suspected, (seen, NOW + TICK)).suspicion
        assert (changed.reason, changed.message) == (seen.reason, seen.message)
        assert changed.evidence == (*dated(FIRST, NOW), *dated(NO, NOW + TICK))


def test_a_version_that_recovers_rests_on_nothing_that_denied_it() -> None:
    gone = after(FRESH, (replace(denied(), evidence=FIRST), NOW), (replace(denied(), evidence=NO), NOW + CONFIRM))
    doubted = after(gone, (replace(denied(Reason.KEY_DISABLED), evidence=NO), NOW + 2 * CONFIRM))
    assert (gone.evidence != (), doubted.suspicion.evidence != ()) == (True, True)
    assert after(doubted, (usable(), NOW + 3 * CONFIRM)).evidence == ()


def test_what_is_held_keeps_the_look_that_confirmed_it_for_when_it_is_applied() -> None:
    first, later = replace(denied(), evidence=FIRST), replace(denied(), evidence=NO)
    now = NOW + CONFIRM
    held = _braked(after(FRESH, (first, NOW)), later, CONFIRM)
    both = (*dated(FIRST, NOW), *dated(NO, now))
    assert (held.suspicion.held_since, held.suspicion.evidence) == (now, both)
    assert _braked(held, later, HOUR / 2) == held
    silent = replace(held, unverified=Unverified(Reason.TIMED_OUT, now, told=True))
    by_hand = applied(silent, now=now + TICK, detected_by=DetectedBy.OPERATOR)
    assert (by_hand.outcome, by_hand.evidence, by_hand.unverified) == (Outcome.DENIED, both, None)
    assert discarded(held, now=now + TICK).suspicion.evidence == both


@pytest.mark.parametrize(("ago", "flips"), [(-TICK, 1), (0 * TICK, 6), (WINDOW, 6), (WINDOW + TICK, 1)])
def test_a_flip_counts_on_when_the_one_before_lies_within_the_window_and_not_to_come(
    ago: timedelta, flips: int
) -> None:
    free = replace(POLICY, flaps_free=10)
    before = replace(FLAPPING, flips=5, flipped_at=NOW - ago)
    assert weigh(before, usable(), now=NOW, policy=free, detected_by=DetectedBy.POLL).flips == flips


@pytest.mark.parametrize(("ago", "seconds"), [(-TICK, 0), (0 * TICK, 10), (WINDOW, 10), (WINDOW + TICK, 0)])
def test_a_version_has_to_stay_while_its_last_flip_lies_within_the_window(ago: timedelta, seconds: int) -> None:
    assert steadiness(replace(FLAPPING, flipped_at=NOW - ago), POLICY, now=NOW) == seconds * SECOND


@pytest.mark.parametrize(("beyond", "seconds"), [(-1, 0), (0, 10), (1, 20), (4, 160), (5, 300), (10_000, 300)])
def test_how_long_it_has_to_stay_doubles_up_to_the_longest_wait(beyond: int, seconds: int) -> None:
    often = replace(FLAPPING, flips=POLICY.flaps_free + beyond)
    assert steadiness(often, POLICY, now=NOW) == seconds * SECOND


def test_the_longest_wait_is_reached_however_far_it_is_from_the_first() -> None:
    far, often = replace(POLICY, recheck_first=SECOND / 1000, recheck_most=HOUR), replace(FLAPPING, flips=1000)
    assert steadiness(often, far, now=NOW) == HOUR


def test_a_denial_counts_from_the_very_instant_at_which_its_wait_is_over_but_for_what_a_clock_is_slewed() -> None:
    over = NOW + CONFIRM * 0.999
    assert after(FRESH, (denied(), NOW), (denied(), over - TICK)).outcome is Outcome.USABLE
    assert after(FRESH, (denied(), NOW), (denied(), over)).outcome is Outcome.DENIED


@pytest.mark.parametrize("slow", sorted(SLOW))
def test_a_slow_denial_at_the_very_instant_of_a_quick_one_leaves_it_standing(slow: Reason) -> None:
    assert after(FRESH, (denied(), NOW), (denied(slow), NOW)).suspicion == Suspicion(
        Reason.ACCESS_DENIED, "denied: AccessDenied", NOW
    )


@given(st.permutations(SOON))
def test_of_a_denied_version_every_further_reason_is_a_first_one(reasons: list[Reason]) -> None:
    known, other, third = reasons[:3]
    turns = after(inaccessible(known), (denied(other), NOW + HOUR), (denied(third), NOW + 2 * HOUR))
    assert (turns.reason, turns.suspicion.reason, turns.suspicion.since) == (known, third, NOW + 2 * HOUR)
    assert after(turns, (denied(third), NOW + 2 * HOUR + CONFIRM)).reason is third


def test_a_usable_version_has_nothing_to_prove_however_often_it_flipped() -> None:
    recovered = replace(FRESH, flips=POLICY.flaps_free + 1, flipped_at=NOW)
    assert after(recovered, (usable(), NOW), (usable(), NOW + SECOND)) == recovered


def test_what_the_brake_holds_is_confirmed_and_a_suspicion_is_not_held() -> None:
    suspected = after(FRESH, (denied(), NOW))
    assert _braked(suspected, denied(), SECOND) == suspected
    assert _braked(suspected, denied(), CONFIRM).suspicion.held_since == NOW + CONFIRM


def test_what_is_held_is_told_with_the_reason_that_was_seen_last() -> None:
    verdict = after(FRESH, (denied(), NOW))
    for wait in (CONFIRM, 2 * CONFIRM):
        verdict = _braked(verdict, denied(Reason.WRONG_TENANT), wait)
    assert verdict.suspicion == Suspicion(Reason.WRONG_TENANT, "denied: WrongTenant", NOW, held_since=NOW + CONFIRM)


def test_what_is_held_since_a_time_to_come_is_held_anew() -> None:
    ahead = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "no", NOW, held_since=NOW + HOUR))
    assert _braked(ahead, denied(), CONFIRM).suspicion.held_since == NOW + CONFIRM


def test_what_proves_itself_since_a_time_to_come_does_so_anew() -> None:
    ahead = replace(FLAPPING, proving_since=NOW + HOUR)
    assert after(ahead, (usable(), NOW)).proving_since == NOW


def _braked(verdict: Verdict, seen: Observation, later: timedelta) -> Verdict:
    return weigh(verdict, seen, now=NOW + later, policy=POLICY, detected_by=DetectedBy.POLL, braked=True)


@pytest.mark.parametrize(("limit", "words"), [(HOUR, "60 min"), (90 * SECOND, "90 s"), (SECOND, "1 s")])
def test_who_is_closed_by_silence_is_told_how_long_it_lasted(limit: timedelta, words: str) -> None:
    closing = replace(POLICY, fail_closed_after=limit)
    quiet = after(FRESH, (unverified(Reason.THROTTLED), NOW))
    silence = replace(unverified(), evidence=NO)
    assert weigh(quiet, silence, now=NOW + limit, policy=closing, detected_by=DetectedBy.POLL) == Verdict(
        outcome=Outcome.DENIED,
        reason=Reason.UNVERIFIED,
        message=f"the key could not be checked for {words}: TimedOut",
        since=NOW + limit,
        number=FRESH.number + 1,
        detected_by=DetectedBy.POLL,
        observed_at=NOW + limit,
        recheck_from=NOW + limit,
        evidence=dated(NO, NOW + limit),
        unverified=Unverified(Reason.TIMED_OUT, NOW, told=True),
    )


def test_silence_is_known_by_its_first_instant_and_its_last_reason() -> None:
    quiet = after(FRESH, (unverified(), NOW))
    assert quiet.unverified == Unverified(Reason.TIMED_OUT, NOW)
    other = after(quiet, (unverified(Reason.THROTTLED), NOW + SECOND))
    assert other.unverified == Unverified(Reason.THROTTLED, NOW)
    told = after(other, (unverified(), NOW + HOUR), (unverified(Reason.VAULT_ERROR), NOW + HOUR + SECOND))
    assert told.unverified == Unverified(Reason.VAULT_ERROR, NOW, told=True)


def test_a_proof_that_does_not_count_yet_nevertheless_clears_a_suspicion() -> None:
    suspected = after(FLAPPING, (denied(Reason.KEY_DISABLED), NOW))
    proving = after(suspected, (usable(), NOW + SECOND))
    assert (proving.outcome, proving.suspicion, proving.proving_since) == (Outcome.DENIED, None, NOW + SECOND)
    again = after(proving, (denied(Reason.KEY_DISABLED), NOW + HOUR))
    assert again.reason is Reason.ACCESS_DENIED, "a first denial after the proof"
