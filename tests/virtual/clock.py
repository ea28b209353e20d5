"""Time that goes by only while nobody has anything to do, and chance that is the same each time."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

import looptime

T = TypeVar("T")

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MINUTE, HOUR = 60.0, 3600.0


def virtually(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, on virtual time: for tests that run many."""
    with asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(start=0, noop_cycles=2)) as runner:
        return runner.run(scenario)


class VirtualClock:
    """As the clock of the machine, but that the day begins with the loop; `stepped` is what NTP did to it.

    Looking at it takes a nanosecond: timers may fire that much early, and on a clock that stands still whoever looks
    again and waits for the rest would do so for ever.
    """

    def __init__(self) -> None:
        self._looked = 0
        self.stepped = timedelta(0)

    def now(self) -> datetime:
        return START + self.stepped + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic(self) -> float:
        self._looked += 1
        return asyncio.get_running_loop().time() + self._looked * 1e-9

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - repeatable

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
