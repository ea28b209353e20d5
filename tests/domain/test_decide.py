"""A watch and what a check saw of it: verdicts, adoption, warnings, events and the next time."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain import warn
from byokd.domain.answers import Evidence, FactsAnswer, KeyFacts, ProbeMismatched, ProbeOpened
from byokd.domain.decide import Decision, Look, candidate, decide
from byokd.domain.judge import Seen
from byokd.domain.verdict import Watch, WatchWarning
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome, Reason, RefusalKind, WarningKind
from domain import scenes
from domain.scenes import (
    FRESH,
    HOUR,
    KEY,
    NOW,
    OPENED,
    POLICY,
    PROBE,
    SECOND,
    V1,
    V2,
    V3,
    after,
    denied,
    facts,
    inaccessible,
    look,
    refused,
    silent,
    unverified,
    watch,
)

NO = refused(RefusalKind.ACCESS_DENIED)
UNUSABLE = WatchWarning(WarningKind.NEWEST_VERSION_UNUSABLE, V3, "the version is disabled")
UNSEEN = WatchWarning(WarningKind.NEW_VERSIONS_UNSEEN, None, "GET is refused: new versions go unseen")


def decided(on: Watch, sight: Look, now: datetime = NOW, jitter: float = 0.0) -> Decision:
    return decide(on, sight, now=now, policy=POLICY, jitter=jitter)


def saw(on: Watch, newest: FactsAnswer | None, *, found: object = None, probe: object = OPENED) -> Decision:
    return decided(on, look(on, *(probe for _ in on.versions), newest=newest, candidate=found))


@st.composite
def scenes_of_watches(draw: st.DrawFn) -> tuple[Watch, Look, datetime]:
    """Any watch that checks can lead to, and any look at it."""
    played = draw(st.lists(scenes.verdicts, min_size=1, max_size=2))
    on = watch(*(verdict for verdict, _ in played), pinned=draw(st.booleans()))
    now = max(moment for _, moment in played) + draw(scenes.gaps)
    newest = draw(scenes.facts_answers)
    entries = tuple(
        Seen(version.version, draw(scenes.probe_answers), draw(scenes.facts_of(version.version)), newest, now)
        for version in on.versions
    )
    return on, Look(entries, newest, draw(scenes.candidates), draw(scenes.ways)), now


watched = scenes_of_watches()
jitters = st.floats(-1, 1)


@given(watched, jitters)
def test_the_next_check_is_always_after_now_and_never_later_than_the_longest_wait(
    scene: tuple[Watch, Look, datetime], jitter: float
) -> None:
    on, sight, now = scene
    longest = max(POLICY.check_interval * (1 + POLICY.check_jitter), POLICY.recheck_most)
    assert now < decided(on, sight, now, jitter).next_due <= now + longest


@given(watched, jitters)
def test_the_same_facts_give_the_same_decision_so_a_restart_changes_nothing(
    scene: tuple[Watch, Look, datetime], jitter: float
) -> None:
    on, sight, now = scene
    reread = replace(on, revision=7, epoch=9, due_at=now + HOUR)
    assert decided(on, sight, now, jitter) == decided(reread, sight, now, jitter)


@given(watched)
def test_every_version_has_its_observation_and_only_changed_verdicts_are_given(
    scene: tuple[Watch, Look, datetime],
) -> None:
    on, sight, now = scene
    decision = decided(on, sight, now)
    assert decision.observations.keys() == {version.id for version in on.versions}
    assert all(decision.verdicts.get(version.id) != version.verdict for version in on.versions)
    assert decision.changes or (decision.verdicts, decision.adoption, decision.events) == ({}, None, ())
    assert decision.changes or decision.warnings == on.warnings


@given(watched)
def test_a_version_is_adopted_only_when_it_proved_itself_is_new_and_the_current_one_unwraps(
    scene: tuple[Watch, Look, datetime],
) -> None:
    on, sight, now = scene
    adoption = decided(on, sight, now).adoption
    if adoption is not None:
        current = next(entry for entry in sight.seen if entry.version == on.current_version.version)
        assert isinstance(current.probe, ProbeOpened)
        assert candidate(on, sight.newest, now=now) is not None
        assert (adoption.version, adoption.probe) == (sight.newest.version, sight.candidate)
        assert (adoption.verdict.outcome, adoption.verdict.number) == (Outcome.USABLE, 1)


@given(watched)
def test_looking_again_at_the_same_never_tells_of_a_warning_twice(scene: tuple[Watch, Look, datetime]) -> None:
    on, sight, now = scene
    warned = replace(on, warnings=decided(on, sight, now).warnings)
    again = decided(warned, sight, now)
    assert again.warnings == warned.warnings
    assert {event.type for event in again.events} <= {EventType.KEY_VERSION_DETECTED}


@given(watched)
def test_an_event_about_a_warning_is_always_about_a_new_one(scene: tuple[Watch, Look, datetime]) -> None:
    on, sight, now = scene
    decision = decided(on, sight, now)
    told = [event for event in decision.events if event.type is not EventType.KEY_VERSION_DETECTED]
    assert len(told) == len([warning for warning in decision.warnings if warning.kind in warn.EVENTS])


@given(newest=scenes.key_facts, pinned=st.booleans())
def test_a_candidate_is_never_adopted_before_older_unfit_or_of_a_pinned_key(newest: KeyFacts, *, pinned: bool) -> None:
    on = watch(FRESH, FRESH, pinned=pinned)
    found = candidate(on, newest, now=NOW)
    if found is not None:
        assert not pinned
        assert found.version not in on.adopted
        assert found.created is None or found.created >= on.current_version.created
        assert found.unfit_for_wrapping(NOW) is None


@pytest.mark.parametrize(
    "unfit",
    [
        facts(V3, enabled=False),
        facts(V3, expires=NOW),
        facts(V3, not_before=NOW + SECOND),
        facts(V3, operations=frozenset({"unwrapKey"})),
        facts(V3, operations=frozenset({"wrapKey"})),
        facts(V3, bits=1024),
        facts(V3, key_type="EC"),
        facts(V3, created=NOW - 2 * HOUR),
        facts(V1),
        facts(V2),
        NO,
        silent(),
        None,
    ],
)
def test_what_is_no_candidate(unfit: FactsAnswer | None) -> None:
    assert candidate(watch(FRESH, FRESH), unfit, now=NOW) is None


def test_a_version_created_within_the_same_second_counts_as_later_while_it_was_never_adopted() -> None:
    newest = facts(V3, created=NOW - HOUR)
    assert candidate(watch(), newest, now=NOW) == newest
    adopted = replace(watch(), adopted=frozenset({V1, V3}))
    assert candidate(adopted, newest, now=NOW) is None


def test_a_proved_newer_version_is_adopted_and_told_of() -> None:
    on = watch()
    decision = decided(on, look(on, OPENED, newest=facts(V3), candidate=PROBE, by=DetectedBy.HINT))
    assert (decision.adoption.version, decision.adoption.created) == (V3, NOW)
    assert [event.type for event in decision.events] == [EventType.KEY_VERSION_DETECTED]
    assert decision.events[0].data == {
        "keyIdentifier": str(KEY.at(V3)),
        "previousKeyIdentifier": str(KEY.at(V1)),
        "detectedBy": "hint",
    }
    assert decision.changes


def test_of_several_versions_the_current_one_is_left_for_the_newer() -> None:
    on = watch(FRESH, FRESH)
    (event,) = saw(on, facts(V3), found=PROBE).events
    assert event.data["previousKeyIdentifier"] == str(KEY.at(V2))
    first, second = on.versions
    later = replace(on, versions=(first, replace(second, created=NOW)))
    assert candidate(later, facts(V3, created=NOW - SECOND), now=NOW) is None, "older than the current one"


@pytest.mark.parametrize("probe", [NO, silent(), ProbeMismatched(Evidence("unwrapKey", status=200))])
def test_nothing_is_adopted_while_the_current_version_does_not_unwrap(probe: object) -> None:
    assert saw(watch(), facts(V3), found=PROBE, probe=probe).adoption is None


@pytest.mark.parametrize("newest", [facts(V1), facts(V3, created=NOW - 2 * HOUR), facts(V3, enabled=False), NO])
def test_a_proof_of_what_is_no_candidate_is_not_adopted(newest: FactsAnswer) -> None:
    assert saw(watch(), newest, found=PROBE).adoption is None


def test_a_pinned_key_is_never_moved_nor_warned_about_newer_versions() -> None:
    decision = saw(watch(pinned=True), facts(V3, enabled=False), found=PROBE)
    assert (decision.adoption, decision.warnings) == (None, ())


WARNINGS = [
    (facts(V3, enabled=False), None, UNUSABLE),
    (facts(V3), refused(RefusalKind.KEY_DISABLED), replace(UNUSABLE, message="refuses to wrap with the newest")),
    (NO, None, UNSEEN),
]


@pytest.mark.parametrize(("newest", "found", "expected"), WARNINGS)
def test_what_is_wrong_with_the_newest_version_is_a_warning_and_no_denial(
    newest: FactsAnswer, found: object, expected: WatchWarning
) -> None:
    decision = saw(watch(), newest, found=found)
    assert [(warning.kind, warning.version) for warning in decision.warnings] == [(expected.kind, expected.version)]
    assert expected.message in decision.warnings[0].message
    assert (decision.verdicts, decision.adoption, decision.changes) == ({}, None, True)


@pytest.mark.parametrize(
    ("own", "kind", "events"),
    [
        (facts(expires=NOW), WarningKind.KEY_EXPIRED, [EventType.KEY_EXPIRED]),
        (facts(not_before=NOW + SECOND), WarningKind.KEY_NOT_YET_VALID, []),
    ],
)
def test_expiry_is_not_revocation(own: KeyFacts, kind: WarningKind, events: list[EventType]) -> None:
    on = watch()
    decision = decided(on, look(on, OPENED, newest=own, own=own))
    assert [(warning.kind, warning.version) for warning in decision.warnings] == [(kind, V1)]
    assert [event.type for event in decision.events] == events
    assert decision.observations[on.current].outcome is Outcome.USABLE
    mended = replace(on, warnings=decision.warnings)
    assert decided(mended, look(on, OPENED, newest=facts(), own=facts())).warnings == ()


@pytest.mark.parametrize(
    ("newest", "found", "probe"),
    [
        (silent(), None, OPENED),
        (None, None, silent()),
        (facts(V3), silent(), OPENED),
        (facts(V3), None, NO),
        (NO, None, NO),
        (facts(V2, created=NOW - 2 * HOUR, enabled=False), None, OPENED),
    ],
    ids=["no answer", "not asked", "proof without answer", "proof not asked", "refused", "a stale vault"],
)
def test_a_warning_stays_when_this_look_could_not_tell(
    newest: FactsAnswer | None, found: object, probe: object
) -> None:
    decision = saw(replace(watch(), warnings=(UNUSABLE,)), newest, found=found, probe=probe)
    assert decision.warnings == (UNUSABLE,)
    assert decision.events == ()


def test_new_versions_that_go_unseen_do_not_make_the_unusable_one_news_again() -> None:
    unseen = saw(replace(watch(), warnings=(UNUSABLE,)), NO)
    assert unseen.warnings == (UNUSABLE, UNSEEN)
    seen_again = saw(replace(watch(), warnings=unseen.warnings), facts(V3, enabled=False))
    assert (seen_again.warnings, seen_again.events) == ((UNUSABLE,), ())


def test_new_versions_are_called_unseen_as_long_as_some_version_lives() -> None:
    on = watch(FRESH, FRESH)
    assert decided(on, look(on, NO, OPENED, newest=NO)).warnings == (UNSEEN,)
    assert decided(on, look(on, NO, NO, newest=NO)).warnings == ()


def test_a_warning_about_the_newest_version_goes_when_it_is_adopted_or_mended() -> None:
    on = replace(watch(), warnings=(UNUSABLE, UNSEEN))
    assert saw(on, facts(V3), found=PROBE).warnings == ()
    assert saw(on, facts(V1)).warnings == ()


def test_a_validity_warning_stays_while_the_version_itself_is_not_looked_at() -> None:
    expired = WatchWarning(WarningKind.KEY_EXPIRED, V1, "expired")
    on = replace(watch(), warnings=(expired,))
    assert saw(on, silent()).warnings == (expired,)
    gone = WatchWarning(WarningKind.KEY_EXPIRED, V3, "of a retired version")
    assert saw(replace(on, warnings=(gone,)), silent()).warnings == ()


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 0.5, 1.0])
def test_a_healthy_watch_is_due_after_its_interval_give_or_take_the_jitter(jitter: float) -> None:
    on = watch()
    decision = decided(on, look(on, OPENED), jitter=jitter)
    assert decision.next_due - NOW == POLICY.check_interval * (1 + 0.1 * jitter)
    assert not decision.changes


@pytest.mark.parametrize("waited", [0, 1, 9, 10, 11, 15, 20, 60, 299, 300, 301, 86_400])
def test_a_denied_watch_is_rechecked_after_10_s_doubling_to_5_min_from_stored_facts(waited: int) -> None:
    on = watch(inaccessible())
    now = NOW + timedelta(seconds=waited)
    assert (decided(on, look(on, NO), now).next_due - now).total_seconds() == min(max(waited, 10), 300)


def test_rechecks_of_a_denied_watch_double_their_distance() -> None:
    on, now, waits = watch(inaccessible()), NOW, []
    for _ in range(8):
        due = decided(on, look(on, NO), now).next_due
        waits.append((due - now).total_seconds())
        now = due
    assert waits == [10, 10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(("by", "seconds"), [(DetectedBy.HINT, 10), (DetectedBy.OPERATOR, 10), (DetectedBy.POLL, 300)])
def test_a_hint_brings_the_recheck_back_to_10_s(by: DetectedBy, seconds: int) -> None:
    on = watch(inaccessible())
    now = NOW + HOUR
    assert decided(on, look(on, NO, by=by), now).next_due == now + timedelta(seconds=seconds)


@pytest.mark.parametrize(("since", "seconds"), [(0, 5), (2, 3), (5, 5), (60, 5), (-3600, 5)])
def test_a_suspected_watch_is_due_when_the_denial_can_be_confirmed(since: int, seconds: int) -> None:
    suspected = after(FRESH, (denied(), NOW - timedelta(seconds=since)))
    on = watch(suspected)
    sight = look(on, silent() if since else NO)
    assert decided(on, sight, NOW).next_due == NOW + timedelta(seconds=seconds)


def test_of_several_versions_the_most_urgent_sets_the_next_time() -> None:
    on = watch(inaccessible(), FRESH)
    assert decided(on, look(on, NO, OPENED)).next_due == NOW + POLICY.recheck_first
    assert decided(on, look(on, NO, NO)).next_due == NOW + POLICY.confirm_after


def test_an_inaccessible_watch_without_an_answer_waits_its_interval() -> None:
    on = watch(after(inaccessible(), (unverified(), NOW)))
    assert decided(on, look(on, silent())).next_due == NOW + POLICY.check_interval


def test_each_version_is_judged_by_what_was_seen_of_it() -> None:
    on = watch(FRESH, inaccessible(Reason.KEY_DISABLED))
    decision = decided(on, look(on, NO, OPENED), NOW + HOUR)
    first, second = (decision.verdicts[version.id] for version in on.versions)
    assert (first.outcome, first.suspicion.reason) == (Outcome.USABLE, Reason.ACCESS_DENIED)
    assert (second.outcome, second.suspicion) == (Outcome.USABLE, None)
