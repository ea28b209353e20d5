"""The last looks at each watch are remembered, few of each and of few."""

from datetime import UTC, datetime, timedelta

from byokd.domain.answers import Evidence, KeyFacts, NoAnswer, ProbeAnswer, ProbeOpened, Refused
from byokd.domain.decide import Look
from byokd.domain.identifiers import KeyVersion, WatchId
from byokd.domain.judge import Seen
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind
from byokd.runtime.sightings import LOOKS, Sightings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
VERSION = KeyVersion("a" * 32)
FACTS = KeyFacts(VERSION, "RSA", 2048, enabled=True, operations=frozenset({"wrapKey", "unwrapKey"}))
DISABLED = Refused(RefusalKind.KEY_DISABLED, Evidence("unwrapKey", 403, "Forbidden", "KeyDisabled", "request-1"))


def look(probe: ProbeAnswer) -> Look:
    return Look((Seen(VERSION, probe, FACTS, FACTS, START),), FACTS, None, DetectedBy.POLL)


def note(sightings: Sightings, watch: int, number: int = 0, probe: ProbeAnswer | None = None) -> None:
    now = START + timedelta(minutes=number)
    sightings.note(WatchId(watch), look(probe or ProbeOpened()), now=now, on_new_connection=False)


def test_the_last_looks_of_a_watch_are_kept_and_no_more() -> None:
    sightings = Sightings()
    for number in range(LOOKS + 3):
        note(sightings, 1, number)
    assert [one.at for one in sightings.of(WatchId(1))] == [
        START + timedelta(minutes=number) for number in range(3, LOOKS + 3)
    ]
    assert sightings.of(WatchId(2)) == ()


def test_of_too_many_watches_the_one_looked_at_longest_ago_goes() -> None:
    sightings = Sightings(most=2)
    for watch in (1, 2, 1, 3):
        note(sightings, watch)
    assert [len(sightings.of(WatchId(watch))) for watch in (1, 2, 3)] == [2, 0, 1]


def test_a_look_is_remembered_with_all_that_was_answered() -> None:
    sightings = Sightings()
    note(sightings, 1, probe=DISABLED)
    (one,) = sightings.of(WatchId(1))
    (seen,) = one.seen
    assert (seen.outcome, seen.reason) == (Outcome.DENIED, Reason.KEY_DISABLED)
    assert seen.answers == (DISABLED.evidence, FACTS.evidence)
    assert one.newest == VERSION


def test_of_a_usable_version_it_is_not_remembered_what_get_told() -> None:
    sightings = Sightings()
    note(sightings, 1)
    assert sightings.of(WatchId(1))[0].seen[0].answers[1] == Evidence("get", 200)


def test_no_answer_is_remembered_as_none() -> None:
    sightings = Sightings()
    silence = NoAnswer(Reason.TIMED_OUT, Evidence("unwrapKey"))
    seen = Seen(VERSION, silence, None, None, START)
    sightings.note(WatchId(1), Look((seen,), None, None, DetectedBy.HINT), now=START, on_new_connection=True)
    (one,) = sightings.of(WatchId(1))
    assert one.seen[0].answers == (silence.evidence,)
    assert (one.newest, one.on_new_connection) == (None, True)


def test_equal_looks_share_what_was_seen_so_that_healthy_ones_cost_little() -> None:
    sightings = Sightings()
    note(sightings, 1, 0)
    note(sightings, 1, 1)
    first, second = sightings.of(WatchId(1))
    assert first.seen is second.seen
