"""Trying again, for ever, with growing waits: one helper on tenacity for start-up, connections and the store."""

from collections.abc import Callable
from datetime import timedelta

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_never

from byokd.ports import Clock, Randomness

_MAX_DOUBLINGS = 30
"""Beyond it any first wait is longer than any longest one, and the power would at last overflow."""


def backoff_seconds(attempt: int, randomness: Randomness, *, first: timedelta, most: timedelta) -> float:
    """Give the wait after that many failed attempts: doubling from `first` to `most`, less a random part of its half.

    The random part keeps those that failed together from coming back together.
    """
    doubled = first.total_seconds() * 2 ** min(max(attempt, 1) - 1, _MAX_DOUBLINGS)
    longest = min(doubled, most.total_seconds())
    return randomness.uniform(longest / 2, longest)


def retrying(
    clock: Clock,
    randomness: Randomness,
    *,
    first: timedelta,
    most: timedelta,
    on: tuple[type[Exception], ...],
    before_sleep: Callable[[RetryCallState], None] | None = None,
) -> AsyncRetrying:
    """Give a tenacity controller that tries for ever while these exceptions come; any other one ends it, as it is.

    It waits as `backoff_seconds` says. `before_sleep` is told of each failure (`state.outcome`) and of the wait to come
    (`state.upcoming_sleep`).
    """

    def wait(state: RetryCallState) -> float:
        return backoff_seconds(state.attempt_number, randomness, first=first, most=most)

    return AsyncRetrying(
        sleep=clock.sleep,
        wait=wait,
        stop=stop_never,
        retry=retry_if_exception_type(on),
        before_sleep=before_sleep,
        reraise=True,
    )
