"""One queue's loop: follows what Event Grid wrote into it, deletes what was followed, sets aside what nobody can read.

A message is deleted only after all that it says was taken as hints. What is more than its source may ask for is left,
and comes back by itself: however often it came, a message that can be read is no poison. Whatever the queue does, the
loop only waits longer: without it everything is polled as before.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

import structlog

from byokd.domain.queued import read_message
from byokd.domain.signals import DeliveryUnreadableError
from byokd.ports import Clock, Randomness
from byokd.ports.queues import EventQueue, QueuedMessage, QueueTrouble, QueueUnavailableError
from byokd.runtime.hinting import BudgetSpentError, Hints, Source
from byokd.runtime.metrics import Metrics
from byokd.runtime.queue_standings import QueueStandings
from byokd.runtime.retrying import backoff_seconds

CALL: Final = timedelta(seconds=10)
"""For one call to the queue: a hundred times what it takes."""

FULL_PAUSE_SECONDS: Final = 0.1
"""After a full batch: a queue full of rubbish takes a share of the processor, not all of it."""

UNKNOWN_PAUSE_SECONDS: Final = 0.5
"""While it is not known yet what is watched: what is not taken from the queue is in nobody's way."""

BACKOFF_FIRST: Final = timedelta(seconds=2)
BACKOFF_MOST: Final = timedelta(seconds=60)
"""Waits after failures, doubled from the first to the longest; the service's own Retry-After up to the longest."""

MOST_TOLD: Final = 60
"""Log lines of one source in a minute about messages; the metric counts them all. Whoever floods us must not fill the
disk as well."""

_MINUTE: Final = 60.0

_T = TypeVar("_T")
_log = structlog.get_logger()


class Fate(StrEnum):
    """What became of a message, each time that it came."""

    TAKEN = "taken"
    LEFT = "left"
    UNREADABLE = "unreadable"
    SET_ASIDE = "set-aside"
    DROPPED = "dropped"


class Flaw(StrEnum):
    """Why a message could not be followed."""

    UNREADABLE = "unreadable"
    BROKE_OFF = "broke-off"
    """Following it met a defect of ours."""


class QueueReader:
    """Reads the queue of one source. At most one batch is in memory."""

    def __init__(
        self,
        source: Source,
        queue: EventQueue,
        hints: Hints,
        *,
        standings: QueueStandings,
        clock: Clock,
        randomness: Randomness,
        metrics: Metrics,
    ) -> None:
        self._source = source
        self._settings = source.settings
        self._queue = queue
        self._hints = hints
        self._standings = standings
        self._clock = clock
        self._randomness = randomness
        self._metrics = metrics
        self._at_hand = asyncio.Lock()
        self._stopping = False
        self._failures = 0
        self._told = 0
        self._told_since = clock.monotonic()

    @property
    def name(self) -> str:
        """That of the source."""
        return self._source.name

    async def run(self) -> None:
        """Read until stopped."""
        try:
            while not self._stopping:
                await self._clock.sleep(await self._step() if self._hints.can_take else UNKNOWN_PAUSE_SECONDS)
        finally:
            self._standings.forget(self.name)

    async def stop(self) -> None:
        """Take no more messages, and wait until those at hand are dealt with."""
        self._stopping = True
        async with self._at_hand:
            return

    async def _step(self) -> float:
        """Read once; give the seconds to wait before the next time."""
        try:
            wait = await self._read()
        except QueueUnavailableError as error:
            self._failures += 1
            self._standings.trouble(self.name, error, in_a_row=self._failures)
            wait = backoff_seconds(self._failures, self._randomness, first=BACKOFF_FIRST, most=BACKOFF_MOST)
            return max(wait, min(error.retry_after or 0.0, BACKOFF_MOST.total_seconds()))
        self._failures = 0
        self._standings.well(self.name)
        return wait

    async def _read(self) -> float:
        messages = await self._call(self._queue.receive())
        async with self._at_hand:
            # Told to stop meanwhile: they come back, to whoever reads then.
            return 0.0 if self._stopping else await self._handle(messages)

    async def _handle(self, messages: Sequence[QueuedMessage]) -> float:
        """Follow all first, for that is quick, and then tell the queue; give the wait."""
        followed: list[QueuedMessage] = []
        flawed: list[tuple[QueuedMessage, Flaw]] = []
        wait = self._settings.poll_interval.total_seconds()
        if len(messages) >= self._settings.batch:
            wait = min(wait, FULL_PAUSE_SECONDS)
        for place, message in enumerate(messages):
            try:
                flaw = self._follow(message)
            except BudgetSpentError as spent:
                self._count(Fate.LEFT, len(messages) - place)
                wait = min(float(spent.retry_after), _MINUTE)
                break
            if flaw is None:
                followed.append(message)
            else:
                flawed.append((message, flaw))
            await self._clock.sleep(0)  # others' turn: reading a long one takes milliseconds
        self._count(Fate.TAKEN, len(followed))
        await self._settle(followed, flawed)
        return wait

    def _follow(self, message: QueuedMessage) -> Flaw | None:
        """Take what a message says; tell what is wrong with it, if anything is.

        Raises:
            BudgetSpentError: not all of it was taken.
        """
        try:
            delivery = read_message(message.text)
            self._hints.take(self._source, delivery.signals, passed_over=delivery.passed_over)
        except BudgetSpentError:
            raise
        except DeliveryUnreadableError:
            return Flaw.UNREADABLE
        except Exception as error:  # noqa: BLE001 - else the same message would end every daemon that reads it
            if self._may_tell():
                _log.error("message-broke-off", source=self.name, message=message.id, error=type(error).__name__)
            return Flaw.BROKE_OFF
        return None

    async def _settle(self, followed: Sequence[QueuedMessage], flawed: Sequence[tuple[QueuedMessage, Flaw]]) -> None:
        """Delete what was followed, and deal with what cannot be.

        Raises:
            QueueUnavailableError: something of it failed; everything was tried.
        """
        troubles: list[QueueUnavailableError] = []

        async def tried(body: Awaitable[None]) -> None:
            try:
                await body
            except QueueUnavailableError as error:
                troubles.append(error)

        async with asyncio.TaskGroup() as group:
            for message in followed:
                group.create_task(tried(self._call(self._queue.delete(message))), name="queue-delete")
            for message, flaw in flawed:
                group.create_task(tried(self._bear(message, flaw)), name="queue-set-aside")
        if troubles:
            raise troubles[0]

    async def _bear(self, message: QueuedMessage, flaw: Flaw) -> None:
        """Leave a message to be tried again, or end it: set aside, or dropped where that is not possible."""
        if message.tries < self._settings.max_tries:
            self._count(Fate.UNREADABLE, 1)
            return
        fate = await self._aside(message, flaw)
        if fate is Fate.UNREADABLE:
            self._count(fate, 1)
            return
        await self._call(self._queue.delete(message))
        self._count(fate, 1)
        if not self._may_tell():
            return
        if fate is Fate.SET_ASIDE:
            _log.warning("message-set-aside", source=self.name, message=message.id, why=flaw, tries=message.tries)
        else:
            _log.warning("message-dropped", source=self.name, message=message.id, why=flaw, tries=message.tries)

    async def _aside(self, message: QueuedMessage, flaw: Flaw) -> Fate:
        """Set a poison message aside. While that fails it is tried as often again, and then dropped."""
        if self._settings.poison_queue is None:
            return Fate.DROPPED
        try:
            await self._call(self._queue.set_aside(message))
        except QueueUnavailableError as error:
            self._metrics.queue_failures.labels(self.name, error.trouble).inc()
            if self._may_tell():
                _log.warning(
                    "message-not-set-aside", source=self.name, message=message.id, why=flaw, trouble=str(error)
                )
            return Fate.UNREADABLE if message.tries < 2 * self._settings.max_tries else Fate.DROPPED
        return Fate.SET_ASIDE

    async def _call(self, body: Awaitable[_T]) -> _T:
        with suppress(TimeoutError):
            async with asyncio.timeout(CALL.total_seconds()):
                return await body
        raise QueueUnavailableError(QueueTrouble.TIMED_OUT)

    def _count(self, fate: Fate, number: int) -> None:
        if number:
            self._metrics.queue_messages.labels(self.name, fate).inc(number)

    def _may_tell(self) -> bool:
        now = self._clock.monotonic()
        if now - self._told_since >= _MINUTE:
            self._told, self._told_since = 0, now
        self._told += 1
        return self._told <= MOST_TOLD
