"""The unpublished events in the store, read and marked through its outages."""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from tenacity import AsyncRetrying, RetryCallState

from byokd.ports import Clock, Randomness, Store, StoreUnavailableError
from byokd.records import OutboxRow
from byokd.runtime.retrying import retrying

PAGE_ROWS = 500
"""Events read, sent and marked together. While one page is sent, the one before it is marked and the next one is read:
three pages are the bound on memory, two on what a crash makes byokd send twice."""

_RETRY_FIRST = timedelta(milliseconds=500)
_RETRY_MOST = timedelta(seconds=10)

_log = structlog.get_logger()


class Outbox:
    """Waits while the store cannot be used; that is logged once when it begins and once when it ends."""

    def __init__(self, store: Store, clock: Clock, randomness: Randomness) -> None:
        self._store = store
        self._clock = clock
        self._randomness = randomness
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the store cannot be used; None when it can."""
        return self._problem

    async def page(self, *, after: int) -> Sequence[OutboxRow]:
        """Give the next unpublished events with a number above `after`, in order."""
        rows: Sequence[OutboxRow] = await self._retrying()(self._store.unpublished, after=after, limit=PAGE_ROWS)
        self._recovered()
        return rows

    async def mark(self, numbers: Sequence[int]) -> None:
        """Note that the broker acknowledged these events. Marking twice is harmless."""
        await self._retrying()(self._store.mark_published, numbers, now=self._clock.now())
        self._recovered()

    async def identity(self) -> str:
        """Give the id of the database that the events are in."""
        found: str = await self._retrying()(self._store.identity)
        self._recovered()
        return found

    async def contiguous(self) -> int:
        """Give the number up to which every event is acknowledged."""
        number: int = await self._retrying()(self._store.contiguous)
        self._recovered()
        return number

    async def resend(self, *, after: int | None, retention: timedelta) -> int:
        """Have events sent again that the broker lost, see `Store.resend`; give how many."""
        count: int = await self._retrying()(self._store.resend, after=after, since=self._clock.now() - retention)
        self._recovered()
        return count

    def _retrying(self) -> AsyncRetrying:
        return retrying(
            self._clock,
            self._randomness,
            first=_RETRY_FIRST,
            most=_RETRY_MOST,
            on=(StoreUnavailableError,),
            before_sleep=self._failed,
        )

    def _failed(self, state: RetryCallState) -> None:
        problem = None if state.outcome is None else state.outcome.exception()
        if self._problem is None:
            _log.warning("outbox-unusable", problem=str(problem), hint=getattr(problem, "hint", None))
        self._problem = str(problem)

    def _recovered(self) -> None:
        if self._problem is not None:
            self._problem = None
            _log.info("outbox-usable")
