from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.vocabulary import Reason
from byokd.runtime.pace import OUR_TROUBLE, Pace, PaceBounds

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
