"""Publishes the heads of the signed history, so that whoever archives the bus can tell when it is rewritten."""

from collections.abc import Callable
from datetime import timedelta

from byokd.ports import Clock, Store

POLL = timedelta(minutes=1)
"""How often to look whether something was recorded at all."""


class Auditing:
    """Holds nothing: when heads were last recorded is found in the store, so a restart changes no time."""

    def __init__(self, store: Store, *, clock: Clock, interval: timedelta, on_change: Callable[[], None]) -> None:
        """Take the collaborators; `on_change` is called after a commit."""
        self._store = store
        self._clock = clock
        self._interval = interval
        self._on_change = on_change

    async def run(self) -> None:
        """Record heads for ever."""
        while True:
            wait = await self._record_when_due()
            await self._clock.sleep(wait.total_seconds())

    async def _record_when_due(self) -> timedelta:
        """Record the heads if it is time; give how long to wait before looking again."""
        since = await self._store.untold_since()
        if since is None:
            return min(POLL, self._interval)
        left = since + self._interval - self._clock.now()
        if left > timedelta(0):
            return min(POLL, left)
        await self._store.record_heads(await self._store.heads(), now=self._clock.now())
        self._on_change()
        return min(POLL, self._interval)
