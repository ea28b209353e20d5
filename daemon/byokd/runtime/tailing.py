"""Hands the history to those who watch it: what was committed, and then what is."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from byokd.ports import Store
from byokd.records import OutboxRow

MOST = 16
"""Watchers at once. Each costs a short read per `POLL` and at most one page of memory; further ones are refused."""

PAGE = 200
"""Events read at once."""

POLL = timedelta(milliseconds=500)
"""How often to look for events, by whichever process they were committed."""


LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""Later than any event."""


class TooManyWatchersError(Exception):
    """As many as are allowed watch already."""


class Tailing:
    """Reads the history for each watcher by itself; nothing of it is kept here."""

    def __init__(self, store: Store) -> None:
        """Take the store."""
        self._store = store
        self._watchers = 0
        self._closing = asyncio.Event()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take one of the places.

        Raises:
            TooManyWatchersError: there is none left.
        """
        if self._watchers >= MOST:
            raise TooManyWatchersError(f"{MOST} watch already")
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def start(self, since: int | datetime | None, *, live: bool) -> int:
        """Give the number after which to begin; without `since`, what comes from now on, or everything."""
        if isinstance(since, datetime):
            return await self._store.number_before(since)
        if since is not None:
            return since
        return await self._store.number_before(LATEST) if live else 0

    async def pages(self, after: int, *, stream: str | None, live: bool) -> AsyncIterator[Sequence[OutboxRow]]:
        """Give events in the order of their numbers; where `live`, until `close` is called, else to the last one.

        A page may be empty: nothing has come for `POLL`, and the watcher may look whether it is still wanted.
        """
        while not self._closing.is_set():
            rows = await self._store.history(after=after, limit=PAGE, stream=stream)
            yield rows
            if rows:
                after = rows[-1].number
            if len(rows) < PAGE:
                if not live:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL.total_seconds()):
                        await self._closing.wait()

    async def close(self) -> None:
        """End what every watcher reads, at once."""
        self._closing.set()
