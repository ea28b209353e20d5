"""Warnings: one rule per kind, each true of any look."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain import warn
from byokd.domain.accounts import instant
from byokd.domain.answers import FactsAnswer, KeyFacts
from byokd.domain.decide import Decision, Look, decide
from byokd.domain.identifiers import WrappingVersionId
from byokd.domain.judge import Seen
from byokd.domain.verdict import Watch, WatchWarning
from byokd.domain.vocabulary import DetectedBy, EventType, RefusalKind, WarningKind
from domain import scenes
from domain.scenes import FRESH, HOUR, KEY, NOW, OPENED, POLICY, SECOND, V1, V2, V3, facts, look, refused, silent, watch

NO = refused(RefusalKind.ACCESS_DENIED)
DAY = timedelta(days=1)
SOON = NOW + 10 * DAY


def seen_with(on: Watch, own: FactsAnswer | None, *, probe: object = OPENED, now: datetime = NOW) -> Decision:
    sight = look(on, *(probe for _ in on.versions), newest=own, own=own)
    return decide(on, sight, now=now, policy=POLICY, jitter=0.0)


def pinned_sees(on: Watch, unpinned: FactsAnswer | None) -> Decision:
    sight = replace(look(on, OPENED, newest=facts(V1), own=facts(V1)), unpinned=unpinned)
    return decide(on, sight, now=NOW, policy=POLICY, jitter=0.0)


def test_each_kind_has_exactly_one_rule_that_gives_it() -> None:
    names = ["".join(word.title() for word in rule.__name__.split("_")) for rule in warn.RULES]
    assert sorted(names) == sorted(WarningKind)


@given(
    st.lists(st.builds(WatchWarning, kind=st.sampled_from(WarningKind), version=st.sampled_from((None, V1, V2, V3)),
                       message=st.just("before"), date=st.none() | scenes.instants), max_size=4),
    scenes.facts_answers, scenes.probe_answers, scenes.facts_of(V1), scenes.candidates, scenes.facts_answers,
    st.booleans(),
)  # fmt: skip
def test_a_rule_only_ever_gives_its_own_kind_and_what_it_cannot_tell_stays_or_goes_but_never_changes(
    before: list[WatchWarning],
    newest: FactsAnswer | None,
    probe: object,
    own: FactsAnswer | None,
    candidate: object,
    unpinned: FactsAnswer | None,
    pinned: bool,  # noqa: FBT001 - drawn
) -> None:
    on = replace(watch(FRESH, pinned=pinned), warnings=tuple(before))
    sight = warn.Sight(on, (Seen(V1, probe, own, newest, NOW),), newest, candidate, unpinned, NOW, POLICY.near_expiry)
    for rule, name in zip(warn.RULES, [rule.__name__ for rule in warn.RULES], strict=True):
        given_ = list(rule(sight))
        assert all(str(one.kind) == "".join(word.title() for word in name.split("_")) for one in given_)
        assert all(one in before for one in given_ if one.message == "before")
        asked = [answer for answer in (newest, own, unpinned) if isinstance(answer, KeyFacts)]
        if not asked and rule is not warn.new_versions_unseen:
            assert set(given_) <= set(before), "what no answer told of cannot begin"


@pytest.mark.parametrize(("left", "warned"), [(30 * DAY, True), (30 * DAY + SECOND, False), (SECOND, True)])
def test_a_version_is_near_its_expiry_within_thirty_days(left: timedelta, warned: bool) -> None:  # noqa: FBT001
    decision = seen_with(watch(), facts(expires=NOW + left))
    assert [found.kind for found in decision.warnings] == [WarningKind.NEAR_EXPIRY] * warned
    assert [event.type for event in decision.events] == [EventType.KEY_NEAR_EXPIRY] * warned


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (facts(expires=NOW), "expired at 2026-11-05T12:00:00Z"),
        (facts(not_before=NOW + SECOND), "not valid before 2026-11-05T12:00:01Z"),
        (facts(not_before=NOW), None),
        (facts(expires=NOW, not_before=NOW + SECOND), "expired at 2026-11-05T12:00:00Z"),
        (facts(recovery_level=None), "does not say whether purge protection is on"),
        (facts(recovery_level="Purgeable"), "purge protection is off"),
    ],
)
def test_what_is_amiss_is_told_from_its_very_instant_on_and_of_two_dates_the_final_one(
    own: KeyFacts, expected: str | None
) -> None:
    found = [one.message for one in seen_with(watch(), own).warnings]
    assert len(found) == (expected is not None)
    assert all(expected in message for message in found)


UNWRAP_ALONE = frozenset({"unwrapKey"})


@pytest.mark.parametrize("pinned", [False, True])
def test_wrap_key_that_was_taken_from_the_current_version_is_told_once_and_costs_nothing(pinned: bool) -> None:  # noqa: FBT001 - in a table
    on = watch(pinned=pinned)
    assert seen_with(on, facts()).warnings == ()
    lost = seen_with(on, facts(operations=UNWRAP_ALONE))
    (warning,) = lost.warnings
    assert (warning.kind, warning.version) == (WarningKind.WRAP_NOT_PERMITTED, V1)
    assert warning.message == "the key operations lack wrapKey; it still unwraps, but cannot wrap"
    assert [event.type for event in lost.events] == [EventType.KEY_WRAP_NOT_PERMITTED]
    assert lost.verdicts == {}
    on = replace(on, warnings=lost.warnings)
    assert seen_with(on, facts(operations=UNWRAP_ALONE)).events == ()
    assert seen_with(on, None).warnings == seen_with(on, facts(), probe=silent()).warnings == on.warnings
    assert seen_with(on, facts()).warnings == ()


def test_a_version_that_is_being_left_needs_no_wrap_key() -> None:
    on = watch()
    left, current = on.versions[0], replace(on.versions[0], id=WrappingVersionId(99), version=V2)
    on = replace(on, versions=(left, current), current=current.id, adopted=frozenset({V1, V2}))
    seen = (
        Seen(V1, OPENED, facts(V1, operations=UNWRAP_ALONE), facts(V2), NOW),
        Seen(V2, OPENED, facts(V2), facts(V2), NOW),
    )
    sight = Look(seen, facts(V2), None, DetectedBy.POLL)
    assert decide(on, sight, now=NOW, policy=POLICY, jitter=0.0).warnings == ()


@pytest.mark.parametrize("pinned", [False, True])
def test_a_warning_concerns_its_version_or_the_key_as_it_is_watched(pinned: bool) -> None:  # noqa: FBT001 - in a table
    on = watch(pinned=pinned)
    assert on.concerned(WatchWarning(WarningKind.KEY_EXPIRED, V2, "of a version")) == KEY.at(V2)
    assert on.concerned(WatchWarning(WarningKind.PURGE_PROTECTION_OFF, None, "of the key")) == on.key


@pytest.mark.parametrize("kind", [WarningKind.KEY_EXPIRED, WarningKind.KEY_NOT_YET_VALID])
def test_an_expired_or_early_version_stays_so_while_nobody_can_tell(kind: WarningKind) -> None:
    on = replace(watch(), warnings=(WatchWarning(kind, V1, "before"),))
    assert seen_with(on, None).warnings == seen_with(on, facts(), probe=silent()).warnings == on.warnings


@pytest.mark.parametrize("newest", [None, silent(), refused(RefusalKind.NOT_FOUND)])
def test_new_versions_stay_unseen_while_nobody_can_tell(newest: FactsAnswer | None) -> None:
    on = replace(watch(), warnings=seen_with(watch(), NO).warnings)
    assert [found.kind for found in on.warnings] == [WarningKind.NEW_VERSIONS_UNSEEN]
    assert seen_with(on, newest).warnings == on.warnings


def test_the_event_tells_the_date() -> None:
    (event,) = seen_with(watch(), facts(expires=SOON)).events
    assert event.data == {
        "keyIdentifier": str(KEY.at(V1)),
        "message": "expires at 2026-11-15T12:00:00Z; from then on it may no longer unwrap, and cannot wrap",
        "detectedBy": "poll",
        "expiresAt": "2026-11-15T12:00:00.000Z",
    }


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-3, 40), st.sampled_from((OPENED, silent(), NO)), st.integers(0, 2)),
        max_size=12,
    )
)
def test_near_expiry_is_told_once_for_each_date_however_the_looks_go(
    steps: list[tuple[int | None, object, int]],
) -> None:
    """Dates only move on here: one that comes back after it was gone begins anew."""
    on, now, told = watch(), NOW, []
    dates: list[datetime | None] = [None]
    for days, probe, later in steps:
        now += later * DAY
        expires = None if days is None else now + days * DAY
        if probe is OPENED:
            near = expires if expires is not None and now < expires <= now + 30 * DAY else None
        else:
            near = dates[-1] if dates[-1] is not None and dates[-1] > now else None
        dates += [near] if near != dates[-1] else []
        decision = seen_with(on, facts(expires=expires), probe=probe, now=now)
        told += [event.data["expiresAt"] for event in decision.events if event.type is EventType.KEY_NEAR_EXPIRY]
        assert told == [instant(date) for date in dates if date is not None]
        on = replace(on, warnings=decision.warnings)


def test_a_moved_date_is_told_anew_and_one_out_of_reach_ends_it() -> None:
    on = replace(watch(), warnings=seen_with(watch(), facts(expires=SOON)).warnings)
    assert seen_with(on, facts(expires=SOON)).events == ()
    assert len(seen_with(on, facts(expires=SOON + DAY)).events) == 1
    assert seen_with(on, facts(expires=NOW + 365 * DAY)).warnings == ()


def test_without_the_dates_nothing_is_near_by_whatever_was_hinted() -> None:
    on = watch()
    for answer, probe in ((None, OPENED), (NO, OPENED), (facts(expires=SOON), NO), (facts(expires=SOON), silent())):
        sight = look(on, probe, newest=answer, own=answer, by=DetectedBy.HINT)
        found = decide(on, sight, now=NOW, policy=POLICY, jitter=0.0).warnings
        assert WarningKind.NEAR_EXPIRY not in {one.kind for one in found}


def test_near_expiry_stays_while_nobody_can_tell_until_its_date_has_passed() -> None:
    on = replace(watch(), warnings=seen_with(watch(), facts(expires=SOON)).warnings)
    assert seen_with(on, None, probe=silent()).warnings == on.warnings
    assert seen_with(on, None, probe=silent(), now=SOON).warnings == ()
    expired = seen_with(on, facts(expires=SOON), now=SOON)
    assert [found.kind for found in expired.warnings] == [WarningKind.KEY_EXPIRED]


def test_a_newer_version_of_a_pinned_key_is_a_warning_without_an_event_and_never_adopted() -> None:
    on = watch(pinned=True)
    decision = pinned_sees(on, facts(V2))
    assert [(found.kind, found.version) for found in decision.warnings] == [(WarningKind.PINNED_VERSION_SUPERSEDED, V2)]
    assert "names a version" in decision.warnings[0].message
    assert (decision.events, decision.adoption, decision.verdicts) == ((), None, {})


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        (None, True), (silent(), True), (NO, True), (facts(V1), False), (facts(V2, enabled=False), False),
        (facts(V2, created=NOW - 2 * HOUR), False), (facts(V2, expires=NOW), False),
        (facts(V2, expires=NOW + SECOND), True),
    ],
    ids=["not asked", "no answer", "refused", "the newest", "unfit", "older", "expired", "not yet expired"],
)  # fmt: skip
def test_what_ends_the_warning_of_a_pinned_key(answer: FactsAnswer | None, stays: bool) -> None:  # noqa: FBT001
    on = replace(watch(pinned=True), warnings=pinned_sees(watch(pinned=True), facts(V2)).warnings)
    assert bool(pinned_sees(on, answer).warnings) is stays


def test_a_key_without_version_is_never_called_pinned() -> None:
    on = watch()
    sight = Look(look(on, OPENED).seen, facts(V1), None, DetectedBy.POLL, unpinned=facts(V2))
    assert decide(on, sight, now=NOW, policy=POLICY, jitter=0.0).warnings == ()


@pytest.mark.parametrize(
    ("level", "warned"),
    [
        ("Purgeable", True), ("Recoverable+Purgeable", True), ("CustomizedRecoverable+Purgeable", True), (None, True),
        ("Recoverable", False), ("Recoverable+ProtectedSubscription", False), ("CustomizedRecoverable", False),
    ],
)  # fmt: skip
def test_purge_protection_is_told_by_the_recovery_level(level: str | None, warned: bool) -> None:  # noqa: FBT001
    decision = seen_with(watch(), facts(recovery_level=level))
    assert [(found.kind, found.version) for found in decision.warnings] == [
        (WarningKind.PURGE_PROTECTION_OFF, None)
    ] * warned
    assert [event.type for event in decision.events] == [EventType.KEY_PURGE_PROTECTION_OFF] * warned
    on = replace(watch(), warnings=decision.warnings)
    assert seen_with(on, silent()).warnings == on.warnings, "this look could not tell"
    assert seen_with(on, facts()).warnings == ()
