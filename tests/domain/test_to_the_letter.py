"""What only a close look tells apart: what exactly is adopted and told, and to which side its bound itself belongs."""

from dataclasses import fields, replace
from datetime import timedelta, timezone

import pytest
from hypothesis import given

from byokd.domain.accounts import instant, state_message
from byokd.domain.answers import OWN_LIMIT, Evidence, KeyFacts, NoAnswer, ProbeMismatched, Refused
from byokd.domain.brake import Among, Counted, Crowd, Customer, Finding, Sample, Suspect, Threshold, is_too_early, tally
from byokd.domain.decide import Adoption, Decision, decide
from byokd.domain.holding import begins_suspicion, ends_hold
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost, WrappingVersionId
from byokd.domain.judge import Seen, judge
from byokd.domain.refusals import explain
from byokd.domain.verdict import Suspicion, Unverified, Verdict
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind
from domain import scenes
from domain.scenes import FRESH, HOUR, NOW, OPENED, POLICY, PROBE, SECOND, V2, facts, inaccessible, look, refused, watch

CLOSED = inaccessible()
NO = refused(RefusalKind.ACCESS_DENIED)


def decided(verdict: Verdict, probe: object, **more: object) -> Decision:
    on = watch(verdict)
    return decide(on, replace(look(on, probe), **more), now=NOW, policy=POLICY, jitter=0.0)


def wait(verdict: Verdict, probe: object) -> timedelta:
    return decided(verdict, probe).next_due - NOW


@given(scenes.sights)
def test_an_observation_is_what_it_says_and_rests_on_every_answer_once(sight: Seen) -> None:
    observation = judge(sight)
    assert isinstance(observation.outcome, Outcome)
    assert isinstance(observation.message, str)
    told = KeyFacts | Refused | NoAnswer | ProbeMismatched
    bad = tuple(one.evidence for one in (sight.probe, sight.facts) if isinstance(one, told))
    if isinstance(sight.key, told) and sight.key is not sight.facts:
        bad = (*bad, replace(sight.key.evidence, operation="get newest"))
    assert observation.evidence == (() if observation.outcome is Outcome.USABLE else bad)


def test_a_request_that_is_called_invalid_says_nothing_without_get() -> None:
    observation = judge(scenes.seen(refused(RefusalKind.BAD_REQUEST)))
    assert (observation.outcome, observation.reason) == (Outcome.UNVERIFIED, Reason.UNREADABLE_ANSWER)


def test_what_is_adopted_is_what_proved_itself_with_a_verdict_of_its_own() -> None:
    on, newest = watch(FRESH), facts(V2, not_before=NOW, expires=NOW + HOUR)
    sight = look(on, OPENED, newest=newest, candidate=PROBE, by=DetectedBy.HINT)
    decision = decide(on, sight, now=NOW, policy=POLICY, jitter=0.0)
    verdict = Verdict(
        outcome=Outcome.USABLE,
        reason=None,
        message="the version unwraps",
        since=NOW,
        number=1,
        detected_by=DetectedBy.HINT,
        observed_at=NOW,
        recheck_from=NOW,
    )
    assert decision.adoption == Adoption(V2, newest.created, PROBE, verdict)


def test_how_long_a_suspicion_had_stood_when_the_look_began_is_what_counts() -> None:
    suspected = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "no", NOW - POLICY.confirm_after))
    assert decided(suspected, NO).verdicts[WrappingVersionId(1)].outcome is Outcome.DENIED
    early = decided(suspected, NO, stood={WrappingVersionId(1): SECOND})
    assert early.verdicts.get(WrappingVersionId(1), suspected).outcome is Outcome.USABLE
    assert early.next_due - NOW == POLICY.confirm_after / 10, "a look that began too early is soon made good"


@pytest.mark.parametrize(("stood", "expected"), [(0, 5), (290, 5), (297, 3), (300, 5)])
def test_what_is_confirmed_slowly_is_looked_at_as_often_and_when_its_time_has_come(stood: int, expected: int) -> None:
    suspected = replace(FRESH, suspicion=Suspicion(Reason.NETWORK_BLOCKED, "no", NOW - stood * SECOND))
    on = watch(suspected)
    silence = look(on, scenes.silent())
    assert decide(on, silence, now=NOW, policy=POLICY, jitter=0.0).next_due - NOW == expected * SECOND


@pytest.mark.parametrize(("stood", "expected"), [(4, 5), (5, 5), (200, 5), (297, 3)])
def test_a_slow_denial_after_a_quick_one_is_not_looked_at_without_a_pause(stood: int, expected: int) -> None:
    suspected = replace(FRESH, suspicion=Suspicion(Reason.KEY_NOT_FOUND, "no", NOW - stood * SECOND))
    assert wait(suspected, refused(RefusalKind.NETWORK_BLOCKED)) == expected * SECOND


@pytest.mark.parametrize(("proving", "expected"), [(0, 10), (5, 10), (15, 5), (20, 0)])
def test_a_flapping_version_is_looked_at_when_it_will_have_stayed(proving: int, expected: int) -> None:
    flapping = replace(CLOSED, flips=POLICY.flaps_free + 1, flipped_at=NOW, proving_since=NOW - proving * SECOND)
    waited = wait(flapping, OPENED)
    assert waited == (expected * SECOND if proving < 20 else POLICY.check_interval)
    assert wait(flapping, scenes.silent()) == POLICY.check_interval


@pytest.mark.parametrize(("held", "expected"), [(1, 10), (60, 60), (1800, 300), (3500, 100), (3599, 5)])
def test_what_is_held_is_looked_at_as_if_it_were_denied_and_when_the_hold_ends(held: int, expected: int) -> None:
    since = NOW - held * SECOND
    suspected = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "no", since, held_since=since))
    on = watch(suspected)
    decision = decide(on, look(on, NO), now=NOW, policy=POLICY, jitter=0.0, braked=True)
    assert decision.next_due - NOW == expected * SECOND


def test_a_state_says_since_when_it_is_in_doubt_once_that_was_told() -> None:
    doubt = Unverified(Reason.THROTTLED, NOW - HOUR, told=True)
    words = "the account key can be unwrapped"
    assert state_message(FRESH) == state_message(replace(FRESH, unverified=replace(doubt, told=False))) == words
    assert state_message(replace(FRESH, unverified=doubt)) == (
        f"{words}, but that could not be verified since {instant(NOW - HOUR)}: Throttled"
    )
    closed = replace(CLOSED, reason=Reason.UNVERIFIED, message="could not be checked for an hour", unverified=doubt)
    assert state_message(closed) == "could not be checked for an hour"


def test_instants_are_written_in_utc_wherever_they_come_from() -> None:
    assert instant(NOW.astimezone(timezone(timedelta(hours=5)))) == instant(NOW) == "2026-11-05T12:00:00.000Z"


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        (Reason.TOKEN_UNAVAILABLE, None, "no token"),
        (Reason.THROTTLED, OWN_LIMIT, "was not asked"),
        (Reason.THROTTLED, "Throttled", "did not answer: Throttled"),
    ],
)
def test_who_was_not_answered_is_told_whose_doing_it_was(reason: Reason, code: str | None, words: str) -> None:
    explanation = explain(NoAnswer(reason, Evidence("wrapKey", code=code)))
    assert words in explanation.message
    assert explanation.hint


@pytest.mark.parametrize("kind", RefusalKind)
def test_every_refusal_is_explained_with_a_hint_of_its_own(kind: RefusalKind) -> None:
    others = [explain(refused(other)) for other in RefusalKind if other is not kind]
    assert explain(refused(kind)) not in others
    assert all(getattr(explain(refused(kind)), part.name) for part in fields(explain(refused(kind))))


ASKED, SINCE = IdentityName("platform"), NOW - 10 * SECOND
THREE_OF_FIFTEEN = Threshold(3, 0.2)


def suspect(number: int, *, ago: int = 5, vaults: int = 1) -> Suspect:
    customer = Customer(ASKED, TenantId(f"tenant{number // vaults}"), VaultHost(f"v{number}.vault.azure.net"))
    return Suspect(customer, Reason.ACCESS_DENIED, NOW - ago * SECOND)


def sample(size: int) -> Sample:
    return Sample(SINCE, frozenset(suspect(number).customer for number in range(size)))


@pytest.mark.parametrize(("asked", "ago", "found"), [(15, 5, True), (16, 5, False), (15, 10, True), (15, 11, False)])
def test_a_sample_of_those_looked_at_lately_counts_at_its_bounds_and_not_beyond(
    asked: int,
    ago: int,
    found: bool,  # noqa: FBT001 - in a table
) -> None:
    suspects = [suspect(number, ago=ago) for number in range(3)]
    finding = tally(suspects, {None: Crowd(1000, 1000)}, sample(asked), THREE_OF_FIFTEEN)
    expected = Finding(Counted.TENANTS, Among.LATELY_LOOKED_AT, None, 15, 3, (Reason.ACCESS_DENIED,))
    assert finding == (expected if found else None)


def test_what_was_found_is_told_of_an_identity_when_it_is_about_one() -> None:
    suspects = [suspect(number) for number in range(3)]
    crowds = {None: Crowd(1000, 1000), ASKED: Crowd(10, 10)}
    finding = tally(suspects, crowds, Sample(NOW, frozenset()), THREE_OF_FIFTEEN)
    assert finding is not None
    assert finding.data() == {
        "counted": "tenants",
        "among": "all",
        "identity": "platform",
        "customers": 10,
        "suspected": 3,
        "reasons": "AccessDenied",
    }
    assert replace(finding, identity=None).data()["identity"] is None
    both = (Reason.ACCESS_DENIED, Reason.WRONG_TENANT)
    assert replace(finding, reasons=both).data()["reasons"] == "AccessDenied,WrongTenant"


def test_where_tenants_are_counted_several_vaults_of_one_are_one() -> None:
    suspects = [suspect(number, vaults=2) for number in range(4)]
    crowds = {None: Crowd(1000, 2000)}
    assert tally(suspects, crowds, sample(15), THREE_OF_FIFTEEN) is None
    assert not is_too_early(suspects, crowds, Sample(SINCE, frozenset()), THREE_OF_FIFTEEN)


def test_a_suspicion_begins_once_and_a_hold_ends_by_proof() -> None:
    suspected = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "no", NOW))
    held = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "no", NOW, held_since=NOW))
    customers_own = replace(FRESH, suspicion=Suspicion(Reason.KEY_DISABLED, "no", NOW))
    later = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "no", NOW + SECOND))
    assert begins_suspicion(FRESH, suspected)
    assert begins_suspicion(suspected, later)
    for before, after in ((suspected, suspected), (suspected, FRESH), (FRESH, customers_own), (FRESH, CLOSED)):
        assert not begins_suspicion(before, after)
    assert not begins_suspicion(FRESH, replace(suspected, outcome=Outcome.DENIED))
    assert ends_hold(held, FRESH)
    for before, after in ((held, held), (held, CLOSED), (suspected, FRESH), (FRESH, FRESH)):
        assert not ends_hold(before, after)
