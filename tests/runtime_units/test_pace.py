from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.answers import OWN_LIMIT, Evidence, NoAnswer, ProbeAnswer, ProbeOpened, Refused
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.records import Failing
from byokd.runtime.pace import OUR_TROUBLE, Heard, Pace, PaceBounds

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, MOST = timedelta(seconds=2), timedelta(seconds=60)
BOUNDS = PaceBounds(concurrency=4, backoff_first=FIRST, backoff_most=MOST)


def test_a_vault_that_answers_is_asked_up_to_its_bound_at_once() -> None:
    pace = Pace(BOUNDS)
    filled = []
    for pace.running in range(6):
        filled.append(pace.full())
    assert filled == [False, False, False, False, True, True]


def test_a_failing_vault_is_probed_by_one_check_at_a_time() -> None:
    pace = Pace(BOUNDS)
    pace.failed(100.0, Reason.THROTTLED)
    assert pace.failing
    assert not pace.full()
    pace.running = 1
    assert pace.full()


def test_the_wait_doubles_with_every_failed_try_up_to_its_bound() -> None:
    pace, now, waits = Pace(BOUNDS), 100.0, []
    for _ in range(8):
        pace.failed(now, Reason.THROTTLED)
        waits.append(pace.next_try - now)
        now = pace.next_try
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_checks_that_fail_together_count_as_one_try() -> None:
    pace = Pace(BOUNDS)
    for late in (0.0, 0.5, 1.9):
        pace.failed(100.0 + late, Reason.THROTTLED)
    assert (pace.backoff, pace.next_try) == (FIRST, 102.0)


def test_an_answer_ends_the_backoff_at_once_and_the_next_failure_starts_small() -> None:
    pace = Pace(BOUNDS)
    pace.failed(100.0, Reason.THROTTLED)
    pace.failed(102.0, Reason.THROTTLED)
    pace.answered()
    assert (pace.failing, pace.next_try) == (False, 0.0)
    pace.failed(200.0, Reason.THROTTLED)
    assert pace.next_try == 202.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30))
def test_the_wait_is_never_longer_than_its_bound_nor_moved_back_while_failing(tries: list[tuple[bool, float]]) -> None:
    pace, now = Pace(BOUNDS), 0.0
    for failed, later in tries:
        now += later
        before = pace.next_try
        if failed:
            pace.failed(now, Reason.THROTTLED)
            assert now < pace.next_try <= now + MOST.total_seconds()
            assert pace.next_try >= before
        else:
            pace.answered()
            assert not pace.failing


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.TIMED_OUT, Reason.VAULT_ERROR, Reason.CONNECTION_FAILED])
def test_only_our_own_trouble_says_nothing_of_a_vault(reason: Reason) -> None:
    assert reason not in OUR_TROUBLE
    assert Reason.TOKEN_UNAVAILABLE in OUR_TROUBLE


def test_a_vault_that_asks_for_more_patience_gets_it_up_to_the_bound() -> None:
    pace = Pace(BOUNDS)
    pace.failed(100.0, Reason.THROTTLED, retry_after=timedelta(seconds=30))
    assert pace.next_try == 130.0
    pace.failed(101.0, Reason.THROTTLED, retry_after=timedelta(seconds=45))
    assert pace.next_try == 146.0
    pace.failed(146.0, Reason.THROTTLED, retry_after=timedelta(seconds=1))
    assert (pace.backoff, pace.next_try) == (2 * FIRST, 150.0)
    pace.failed(150.0, Reason.THROTTLED, retry_after=timedelta(days=1))
    assert pace.next_try == 210.0


@given(failures=st.integers(1, 9), gone=st.floats(0, 100), asked=st.none() | st.integers(1, 100))
def test_a_restart_neither_resets_nor_shortens_a_backoff(failures: int, gone: float, asked: int | None) -> None:
    """The process after the restart has another monotonic clock; the time of day went on."""
    before, now = Pace(BOUNDS), 1000.0
    for _ in range(failures):
        before.failed(now, Reason.THROTTLED, retry_after=None if asked is None else timedelta(seconds=asked))
        now, last = before.next_try, now
    failing = before.stored(last, NOON)
    assert failing is not None
    after = Pace(BOUNDS)
    after.resume(failing, 7.0, NOON + timedelta(seconds=gone))
    assert after.failing
    left = max(0.0, before.next_try - last - gone)
    assert after.next_try - 7.0 == pytest.approx(left, abs=1e-5)
    later = max(before.next_try, last + gone)
    before.failed(later, Reason.TIMED_OUT)
    after.failed(later - last - gone + 7.0 + 1e-5, Reason.TIMED_OUT)
    assert after.backoff == before.backoff


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_a_clock_that_was_set_makes_no_wait_longer_than_its_bound(step: timedelta) -> None:
    pace = Pace(BOUNDS)
    pace.resume(Failing(Reason.THROTTLED, MOST, NOON + MOST), 7.0, NOON + step)
    assert 7.0 <= pace.next_try <= 7.0 + MOST.total_seconds()


def test_a_vault_that_answers_leaves_nothing_to_be_stored() -> None:
    pace = Pace(BOUNDS)
    pace.failed(100.0, Reason.THROTTLED)
    pace.answered()
    assert pace.stored(101.0, NOON) is None


THROTTLED = NoAnswer(Reason.THROTTLED, Evidence("unwrap", 429), timedelta(seconds=9))
NO_TOKEN = NoAnswer(Reason.TOKEN_UNAVAILABLE, Evidence("unwrap"))
NOT_ASKED = NoAnswer(Reason.THROTTLED, Evidence("unwrap", code=OWN_LIMIT))
DISABLED = Refused(RefusalKind.KEY_DISABLED, Evidence("unwrap", 403))


@pytest.mark.parametrize(
    ("answers", "heard"),
    [
        ([ProbeOpened()], Heard(answered=True)),
        ([DISABLED], Heard(answered=True)),
        ([THROTTLED, ProbeOpened()], Heard(answered=True)),
        ([THROTTLED], Heard(answered=False, silence=Reason.THROTTLED, retry_after=timedelta(seconds=9))),
        ([NOT_ASKED, THROTTLED], Heard(answered=False, silence=Reason.THROTTLED, retry_after=timedelta(seconds=9))),
        ([NO_TOKEN, NOT_ASKED], Heard(answered=False)),
        ([], Heard(answered=False)),
    ],
)
def test_what_the_answers_of_a_check_say_of_the_vault_itself(answers: list[ProbeAnswer], heard: Heard) -> None:
    assert Heard.of(answers) == heard
