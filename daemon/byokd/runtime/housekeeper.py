"""Forgets published events that are old, so that the database does not grow for ever."""

from datetime import timedelta

from byokd.ports import Clock, Store

INTERVAL = timedelta(minutes=10)
"""Against a retention of days, a delay of minutes is nothing."""

BATCH = 1000
"""Events per transaction: a few milliseconds, so that checks get in between."""


class Housekeeper:
    """Holds nothing: what is old is found in the store."""

    def __init__(self, store: Store, *, clock: Clock, retention: timedelta) -> None:
        """Take the collaborators; `retention` is how old a published event becomes."""
        self._store = store
        self._clock = clock
        self._retention = retention

    async def run(self) -> None:
        """Keep house for ever."""
        while True:
            await self._forget_old()
            await self._clock.sleep(INTERVAL.total_seconds())

    async def _forget_old(self) -> None:
        before = self._clock.now() - self._retention
        while await self._store.forget(before=before, limit=BATCH) == BATCH:
            pass
