"""Looks at the store every few seconds: is it usable, and what are its numbers."""

from datetime import timedelta

from byokd.ports import Census, Clock, Store, StoreUnavailableError
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics

INTERVAL = timedelta(seconds=2)
"""Readiness is at most this old; the counting costs the store little."""


class Observer:
    """Keeps the last numbers for health and metrics, so that a scrape costs no transaction."""

    def __init__(self, store: Store, *, clock: Clock, health: Health, metrics: Metrics) -> None:
        """Take the collaborators."""
        self._store = store
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self.census: Census | None = None

    async def run(self) -> None:
        """Observe for ever."""
        while True:
            await self.observe()
            await self._clock.sleep(INTERVAL.total_seconds())

    async def observe(self) -> None:
        """Observe once."""
        try:
            await self._store.ping()
            self.census = await self._store.census()
        except StoreUnavailableError as error:
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
        else:
            self._metrics.show(self.census)
            self._health.well(Component.STORE)
