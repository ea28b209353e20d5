"""What runs, and how it stops: one group of named tasks meant to run for ever. If one ends, the process ends."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from byokd.ports import Clock, Randomness, StoreUnavailableError
from byokd.runtime.health import Component, Health
from byokd.runtime.retrying import retrying

GOODBYE = timedelta(seconds=1)
"""For the last message of this instance on the bus, and for closing."""

STORE_RETRY_FIRST = timedelta(seconds=0.5)
STORE_RETRY_MOST = timedelta(seconds=30)

Body = Callable[[], Awaitable[None]]
_log = structlog.get_logger()


class TaskEndedError(Exception):
    """A task that is meant to run for ever has ended: the process ends too, and the service manager restarts it."""


class _RanWellError(Exception):
    """Trouble after a good while: not one more failure of the same trouble."""


@dataclass(frozen=True, slots=True)
class NamedTask:
    """Something that runs as long as the daemon does."""

    name: str
    body: Body


@dataclass(frozen=True, slots=True)
class Farewell:
    """One step of stopping, in order, each with its own time limit."""

    name: str
    body: Body
    limit: timedelta


@dataclass(slots=True, eq=False)
class _Running:
    """A task that runs; once `leaving`, its end is no surprise."""

    task: NamedTask
    handle: asyncio.Task[None]
    leaving: asyncio.Event


class Daemon:
    """Runs tasks until it is told to stop, then says farewell and ends them."""

    def __init__(
        self,
        *,
        prepare: Body,
        always: Sequence[NamedTask],
        after_start: Sequence[NamedTask],
        farewells: Sequence[Farewell],
        stop: asyncio.Event,
        health: Health,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        """Take what to run.

        Args:
            prepare: makes the store ready; tried again with backoff while the store is unavailable.
            always: tasks that run from the first moment on (the pages that tell how the rest is doing).
            after_start: tasks that run once `prepare` has succeeded; store trouble restarts them with backoff.
            farewells: the steps of stopping.
            stop: set when it is time to stop.
            health: where trouble is noted.
            clock: for waiting.
            randomness: for spreading the waits.
        """
        self._prepare = prepare
        self.always = always
        self.after_start = after_start
        self.farewells = farewells
        self._health = health
        self._clock = clock
        self._randomness = randomness
        self._stop = stop
        self._group: asyncio.TaskGroup | None = None
        self._running: list[_Running] = []
        self._changing = asyncio.Lock()

    @property
    def has_started(self) -> bool:
        """Whether everything runs, and is not being stopped."""
        return self._group is not None and not self._stop.is_set()

    async def run(self) -> None:
        """Run until told to stop.

        Raises:
            ExceptionGroup: a task failed or ended; the log names it.
        """
        async with asyncio.TaskGroup() as group:
            for task in self.always:
                self._start(group, task, task.body)
            if await self._prepared():
                for task in self.after_start:
                    self._start(group, task, self._outliving_store_trouble(task.body))
                self._group = group
                _log.info("started")
                await self._stop.wait()
                async with self._changing:
                    _log.info("stopping")
                    for farewell in self.farewells:
                        await self._say(farewell)
            for item in self._running:
                item.handle.cancel()
        _log.info("stopped")

    async def hand_over(self, successor: "Daemon") -> None:
        """Run what another daemon would run, instead of what this one runs.

        What is in both (equal tasks, equal farewells) goes on untouched. The rest ends in good order: farewells that
        the successor lacks are said, each within its limit, then their tasks are cancelled and awaited; only then do
        the successor's start. Callable once `has_started`, from a task that is in both; the successor itself never
        runs. Returns having done nothing when it is time to stop.

        Raises:
            RuntimeError: not started yet.
        """
        if self._group is None:
            raise RuntimeError("only a daemon that has started can hand over")
        async with self._changing:
            if self._stop.is_set():
                return
            await self._leave(successor)
            kept = [item.task for item in self._running]
            for task in successor.always:
                if task not in kept:
                    self._start(self._group, task, task.body)
            for task in successor.after_start:
                if task not in kept:
                    self._start(self._group, task, self._outliving_store_trouble(task.body))
            self.farewells = successor.farewells

    async def _leave(self, successor: "Daemon") -> None:
        """End what the successor does not have."""
        stay = [*successor.always, *successor.after_start]
        going = [item for item in self._running if item.task not in stay]
        for item in going:
            item.leaving.set()
        for farewell in self.farewells:
            if farewell not in successor.farewells:
                await self._say(farewell)
        for item in going:
            item.handle.cancel()
        await asyncio.gather(*(item.handle for item in going), return_exceptions=True)
        self._running = [item for item in self._running if item not in going]

    def _start(self, group: asyncio.TaskGroup, task: NamedTask, body: Body) -> None:
        leaving = asyncio.Event()

        async def for_ever() -> None:
            await body()
            if not self._stop.is_set() and not leaving.is_set():
                _log.error("task-ended", task=task.name)
                raise TaskEndedError(task.name)

        self._running.append(_Running(task, group.create_task(for_ever(), name=task.name), leaving))

    async def _prepared(self) -> bool:
        """Prepare, however long it takes; false when told to stop before that."""
        preparing = asyncio.ensure_future(self._outliving_store_trouble(self._prepare)())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({preparing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                return False
            preparing.result()
        finally:
            for item in (preparing, stopped):
                item.cancel()
            await asyncio.gather(preparing, stopped, return_exceptions=True)
        return True

    def _outliving_store_trouble(self, body: Body) -> Body:
        async def outliving() -> None:
            while True:
                try:
                    return await self._insist(body)
                except _RanWellError:
                    continue

        return outliving

    async def _insist(self, body: Body) -> None:
        """Run a body again while the store is in trouble, with growing waits.

        Raises:
            _RanWellError: it met trouble after it had run well for a while, so the waits have to start anew.
        """
        async for attempt in retrying(
            self._clock,
            self._randomness,
            first=STORE_RETRY_FIRST,
            most=STORE_RETRY_MOST,
            on=(StoreUnavailableError,),
        ):
            with attempt:
                started = self._clock.monotonic()
                try:
                    await body()
                except (StoreUnavailableError, ExceptionGroup) as trouble:
                    error = _store_trouble(trouble)
                    self._health.trouble(Component.STORE, str(error), hint=error.hint)
                    if self._clock.monotonic() - started > STORE_RETRY_MOST.total_seconds():
                        raise _RanWellError from None
                    raise error from None

    async def _say(self, farewell: Farewell) -> None:
        try:
            async with asyncio.timeout(farewell.limit.total_seconds()):
                await farewell.body()
        except TimeoutError:
            _log.warning("farewell-cut-short", step=farewell.name, seconds=farewell.limit.total_seconds())
        except StoreUnavailableError as error:
            _log.warning("farewell-failed", step=farewell.name, message=str(error))


def _store_trouble(trouble: Exception) -> StoreUnavailableError:
    """Give the store's trouble out of a group that holds nothing else; raise anything else as it is."""
    if isinstance(trouble, StoreUnavailableError):
        return trouble
    if isinstance(trouble, ExceptionGroup) and trouble.split(StoreUnavailableError)[1] is None:
        return _store_trouble(trouble.exceptions[0])
    raise trouble
