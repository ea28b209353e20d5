from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.answers import Evidence, FactsAnswer, KeyFacts, ProbeMismatched, ProbeOpened, Refused
from byokd.domain.judge import RULES, Seen, judge
from byokd.domain.vocabulary import Outcome, Reason, RefusalKind
from domain import scenes
from domain.scenes import NOW, OPENED, SECOND, TROUBLE, V2, facts, refused, seen, silent

MISMATCHED = ProbeMismatched(Evidence("unwrapKey", status=200))
DISABLED = facts(enabled=False)
EXPIRED = facts(expires=NOW)
BOTH = facts(enabled=False, expires=NOW)
EARLY = facts(not_before=NOW + SECOND)

TABLE = [
    (OPENED, None, None, Outcome.USABLE, None),
    (OPENED, refused(RefusalKind.ACCESS_DENIED), None, Outcome.USABLE, None),
    (OPENED, DISABLED, DISABLED, Outcome.USABLE, None),
    (OPENED, EXPIRED, EXPIRED, Outcome.USABLE, None),
    (OPENED, EARLY, EARLY, Outcome.USABLE, None),
    (refused(RefusalKind.KEY_DISABLED), silent(), None, Outcome.DENIED, Reason.KEY_DISABLED),
    (refused(RefusalKind.ACCESS_DENIED), DISABLED, DISABLED, Outcome.DENIED, Reason.KEY_DISABLED),
    (refused(RefusalKind.ACCESS_DENIED), BOTH, BOTH, Outcome.DENIED, Reason.KEY_DISABLED),
    (refused(RefusalKind.ACCESS_DENIED), EXPIRED, EXPIRED, Outcome.DENIED, Reason.KEY_EXPIRED),
    (refused(RefusalKind.ACCESS_DENIED), EARLY, EARLY, Outcome.DENIED, Reason.KEY_NOT_YET_VALID),
    (refused(RefusalKind.OPERATION_FORBIDDEN), facts(), None, Outcome.DENIED, Reason.KEY_OPERATION_NOT_PERMITTED),
    (refused(RefusalKind.ACCESS_DENIED), facts(), facts(), Outcome.DENIED, Reason.ACCESS_DENIED),
    (refused(RefusalKind.ACCESS_DENIED), silent(), None, Outcome.DENIED, Reason.ACCESS_DENIED),
    (
        refused(RefusalKind.ACCESS_DENIED),
        refused(RefusalKind.ACCESS_DENIED),
        None,
        Outcome.DENIED,
        Reason.ACCESS_DENIED,
    ),
    (refused(RefusalKind.NETWORK_BLOCKED), DISABLED, DISABLED, Outcome.DENIED, Reason.NETWORK_BLOCKED),
    (refused(RefusalKind.NOT_FOUND), refused(RefusalKind.NOT_FOUND), None, Outcome.DENIED, Reason.KEY_NOT_FOUND),
    (refused(RefusalKind.NOT_FOUND), facts(V2), None, Outcome.DENIED, Reason.KEY_VERSION_NOT_FOUND),
    (MISMATCHED, facts(), facts(), Outcome.DENIED, Reason.PROBE_MISMATCH),
    (refused(RefusalKind.BAD_REQUEST), facts(), facts(), Outcome.DENIED, Reason.PROBE_MISMATCH),
    (refused(RefusalKind.BAD_REQUEST), silent(), None, Outcome.UNVERIFIED, Reason.UNREADABLE_ANSWER),
    (refused(RefusalKind.WRONG_TENANT), None, None, Outcome.DENIED, Reason.WRONG_TENANT),
    (refused(RefusalKind.CONSENT_WITHDRAWN), None, None, Outcome.DENIED, Reason.CONSENT_WITHDRAWN),
    (
        refused(RefusalKind.VAULT_NOT_FOUND),
        silent(Reason.NAME_NOT_RESOLVED),
        None,
        Outcome.DENIED,
        Reason.VAULT_NOT_FOUND,
    ),
    *((silent(reason), None, None, Outcome.UNVERIFIED, reason) for reason in TROUBLE),
    (silent(), DISABLED, DISABLED, Outcome.UNVERIFIED, Reason.TIMED_OUT),
    (silent(), refused(RefusalKind.NOT_FOUND), None, Outcome.UNVERIFIED, Reason.TIMED_OUT),
    (refused(RefusalKind.NOT_FOUND), silent(Reason.THROTTLED), None, Outcome.DENIED, Reason.KEY_NOT_FOUND),
    (refused(RefusalKind.NOT_FOUND), None, None, Outcome.DENIED, Reason.KEY_NOT_FOUND),
]


@pytest.mark.parametrize(("probe", "key", "of", "outcome", "reason"), TABLE)
def test_the_verdict_table(probe: object, key: object, of: object, outcome: Outcome, reason: Reason | None) -> None:
    observation = judge(seen(probe, key=key, of=of))
    assert (observation.outcome, observation.reason) == (outcome, reason)
    assert observation.message.isprintable()
    bad = [answer.evidence for answer in (probe, of) if hasattr(answer, "evidence")]
    if key is not of and hasattr(key, "evidence"):
        bad.append(replace(key.evidence, operation="get newest"))
    assert observation.evidence == (() if outcome is Outcome.USABLE else tuple(bad))


def test_the_table_reaches_every_reason_and_every_rule() -> None:
    assert {row[4] for row in TABLE} == {None, *Reason} - {Reason.UNVERIFIED}
    sights = [seen(probe, key=key, of=of) for probe, key, of, _, _ in TABLE]
    deciding = {next(rule for rule in RULES if rule(sight) is not None) for sight in sights}
    assert deciding == set(RULES)


@given(scenes.sights)
def test_every_answer_is_covered_and_a_reason_never_travels_without_its_message(sight: Seen) -> None:
    observation = judge(sight)
    assert (observation.reason is None) == (observation.outcome is Outcome.USABLE)
    assert observation.message
    assert observation.message.isprintable()


@given(scenes.sights)
def test_nothing_is_denied_without_a_genuine_refusal_or_a_mismatch_of_unwrap(sight: Seen) -> None:
    if judge(sight).outcome is Outcome.DENIED:
        assert isinstance(sight.probe, Refused | ProbeMismatched)
        assert judge(sight).evidence[0] == sight.probe.evidence


@given(scenes.sights)
def test_usable_is_what_unwrap_proved_and_nothing_else(sight: Seen) -> None:
    assert (judge(sight).outcome is Outcome.USABLE) == isinstance(sight.probe, ProbeOpened)


@given(scenes.silences, scenes.facts_answers, scenes.facts_answers)
def test_without_an_answer_to_unwrap_nothing_that_get_says_denies(probe: object, key: object, of: object) -> None:
    assert judge(seen(probe, key=key, of=of)).outcome is Outcome.UNVERIFIED


ABOUT_THE_KEY = [kind for kind in RefusalKind if kind not in {RefusalKind.NOT_FOUND, RefusalKind.BAD_REQUEST}]


@given(scenes.facts_answers)
def test_a_request_called_invalid_denies_only_while_get_finds_the_key(key: object) -> None:
    observation = judge(seen(refused(RefusalKind.BAD_REQUEST), key=key, of=key))
    assert (observation.outcome is Outcome.DENIED) == isinstance(key, KeyFacts)


@given(st.sampled_from(ABOUT_THE_KEY), scenes.facts_answers)
def test_get_only_explains_a_refusal_and_never_takes_it_back(kind: RefusalKind, key: object) -> None:
    assert judge(seen(refused(kind), key=key, of=key)).outcome is Outcome.DENIED


@pytest.mark.parametrize("kind", [kind for kind in RefusalKind if kind is not RefusalKind.NOT_FOUND])
def test_a_missing_key_is_denied_though_get_is_refused_but_not_called_purged(kind: RefusalKind) -> None:
    observation = judge(seen(refused(RefusalKind.NOT_FOUND), key=refused(kind)))
    assert observation.reason is Reason.KEY_NOT_FOUND
    assert "GET is refused, so which of them cannot be told" in observation.message


@pytest.mark.parametrize("key", [None, silent(Reason.THROTTLED)])
def test_it_is_said_when_get_did_not_answer_which_of_them_is_gone(key: FactsAnswer | None) -> None:
    observation = judge(seen(refused(RefusalKind.NOT_FOUND), key=key))
    assert "GET did not answer, so which of them cannot be told" in observation.message


def test_validity_ends_with_the_instant_of_expiry_and_begins_with_that_of_not_before() -> None:
    no = refused(RefusalKind.ACCESS_DENIED)
    assert judge(seen(no, of=facts(expires=NOW + SECOND))).reason is Reason.ACCESS_DENIED
    assert judge(seen(no, of=facts(not_before=NOW))).reason is Reason.ACCESS_DENIED


def test_who_is_outside_its_validity_is_told_the_date() -> None:
    no = refused(RefusalKind.ACCESS_DENIED)
    assert "expired at 2026-11-05T12:00:00Z" in judge(seen(no, of=EXPIRED)).message
    assert "not valid before 2026-11-05T12:00:01Z" in judge(seen(no, of=EARLY)).message


def test_an_answer_that_no_rule_knows_is_a_defect_and_says_of_what_kind_it_is() -> None:
    with pytest.raises(AssertionError, match="no rule covers str"):
        judge(seen("an answer of another kind"))


def test_the_same_evidence_is_not_told_twice() -> None:
    no = refused(RefusalKind.ACCESS_DENIED)
    assert len(judge(seen(refused(RefusalKind.KEY_DISABLED), key=no, of=no)).evidence) == 2
