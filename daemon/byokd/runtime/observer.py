"""Looks at store and bus every few seconds: are they usable, and what are the numbers."""

from collections.abc import Callable
from datetime import timedelta

from byokd.ports import Clock, Store, StoreUnavailableError
from byokd.records import Census
from byokd.runtime.health import Component, Health
from byokd.runtime.marker import HINT
from byokd.runtime.metrics import Metrics
from byokd.runtime.publisher import Publisher
from byokd.runtime.refusals import HINT as REFUSED_HINT
from byokd.runtime.rivals import HINT as RIVAL_HINT

INTERVAL = timedelta(seconds=2)
"""Readiness is at most this old; the counting costs the store little."""


class Observer:
    """Keeps the last numbers for health and metrics, so that a scrape costs no transaction."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        publisher: Publisher,
        absent: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Take the collaborators; `absent` says why nobody is told that this daemon is online, if so."""
        self._store = store
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._publisher = publisher
        self._absent = absent
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
            self._observe_damage(self.census.damaged_accounts)
        self._observe_bus()

    def _observe_damage(self, damaged: int) -> None:
        if damaged:
            message = f"{damaged} damaged: the record of the account key does not open, though the customer's key does"
            hint = "byokd accounts list shows which; keep the database, a backup may hold good records"
            self._health.trouble(Component.ACCOUNTS, message, hint=hint)
        else:
            self._health.well(Component.ACCOUNTS, "none is damaged")

    def _observe_bus(self) -> None:
        """Show how the bus is; the publisher itself says so in the log."""
        status = self._publisher.status
        if status.rival is not None:
            message = f"another daemon publishes below our topic_prefix: {status.rival}"
            self._health.show_trouble(Component.BUS, message, hint=RIVAL_HINT)
        elif not status.link.connected or status.link.problem is not None:
            problem = status.link.problem or "not connected yet"
            hint = (
                "events are kept and sent when the broker lets byokd in again; if it runs, see url, username, "
                "password_file, certificate_file and ca_file under [mqtt], and that no other daemon has our "
                "topic_prefix"
            )
            self._health.show_trouble(Component.BUS, problem, hint=hint)
        elif status.refused:
            topic, reason = next(iter(status.refused.items()))
            message = f"the broker refuses {len(status.refused)} topic(s), such as {topic}: {reason}"
            self._health.show_trouble(Component.BUS, message, hint=REFUSED_HINT)
        elif status.unmarked is not None:
            message = f"what the broker loses is not sent again: {status.unmarked}"
            self._health.show_trouble(Component.BUS, message, hint=HINT)
        elif (absent := self._absent()) is not None:
            message = f"nobody is told that this daemon is online: {absent}"
            self._health.show_trouble(Component.BUS, message, hint=REFUSED_HINT)
        else:
            self._health.show_well(Component.BUS)
