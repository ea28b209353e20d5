"""What the service manager is told: that the loop turns, that the daemon is ready, and one sentence on how it is."""

from datetime import timedelta
from typing import Never

from byokd.domain.vocabulary import State
from byokd.ports import Clock, ServiceManager
from byokd.records import Census
from byokd.runtime.health import Health
from byokd.runtime.observer import Observer

INTERVAL = timedelta(seconds=5)
"""Between two looks at whether the sentence has changed."""


class Watchdog:
    """Gives signs of life out of the event loop: a loop that hangs gives none, and the process is started anew."""

    def __init__(self, manager: ServiceManager, clock: Clock, *, interval: timedelta) -> None:
        """Take whom to tell, and how long silence may last."""
        self._manager = manager
        self._clock = clock
        self._interval = interval

    async def run(self) -> Never:
        """Tell for ever, at a third of the interval: two may be late before the process is killed."""
        while True:
            self._manager.alive()
            await self._clock.sleep(self._interval.total_seconds() / 3)


class Reporter:
    """Tells that the daemon is ready, as soon as it runs, and then whatever changes."""

    def __init__(self, manager: ServiceManager, clock: Clock, *, health: Health, observer: Observer) -> None:
        """Take whom to tell, and who knows."""
        self._manager = manager
        self._clock = clock
        self._health = health
        self._observer = observer

    async def run(self) -> Never:
        """Tell for ever."""
        self._manager.ready()
        said = ""
        while True:
            sentence = self.sentence()
            if sentence != said:
                self._manager.status(sentence)
            said = sentence
            await self._clock.sleep(INTERVAL.total_seconds())

    def sentence(self) -> str:
        """Say how it is: what is watched, who is without access, and every component in trouble."""
        watched = _watched(self._observer.census)
        troubles = [f"{name}: {found.message}" for name, found in self._health.conditions.items() if not found.well]
        return "; ".join([watched, *troubles])


def _watched(census: Census | None) -> str:
    if census is None:
        return "started"
    accounts, without = sum(census.accounts.values()), census.accounts.get(State.INACCESSIBLE, 0)
    return f"{census.watches} watches, {accounts} accounts, {without} Inaccessible"
