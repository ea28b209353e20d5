"""Keeps in the store when watches are due, so that a restart goes on where the process before it was."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from byokd.ports import Clock, Store, StoreUnavailableError
from byokd.runtime.health import Component, Health
from byokd.runtime.roster import Entry, Roster

FLUSH_INTERVAL: Final = timedelta(seconds=10)
"""Due times of healthy checks are written in batches this far apart; a crash repeats at most this many checks."""

FLUSH_INTERVAL_AT_START: Final = timedelta(seconds=1)
"""The same while a backlog is worked off: a daemon killed every few seconds must not begin it anew each time."""


class DueKeeper:
    """Writes the due times of checks that found nothing new, in batches; other checks write theirs themselves."""

    def __init__(self, store: Store, roster: Roster, *, clock: Clock, deadline: timedelta, health: Health) -> None:
        """Take the collaborators; a check takes at most `deadline`."""
        self._store = store
        self._roster = roster
        self._clock = clock
        self._deadline = deadline.total_seconds()
        self._health = health
        self._changed: set[Entry] = set()
        self._backlog_until = 0.0
        self.next_flush = 0.0

    def begin(self, *, backlog_until: float) -> None:
        """Write at once, and more often until the last check of a backlog, which begins then, has ended."""
        self._backlog_until = backlog_until + self._deadline
        self.next_flush = 0.0

    def changed(self, entry: Entry) -> None:
        """Note that a watch has another due time, which nobody has written."""
        self._changed.add(entry)

    async def flush(self, running: Iterable[Entry]) -> None:
        """Write, as `write` does, when it is time to; trouble of the store is told, and what was to be written is lost.

        Then these are checked once more after a restart.
        """
        now = self._clock.monotonic()
        if now < self.next_flush:
            return
        interval = FLUSH_INTERVAL_AT_START if now < self._backlog_until else FLUSH_INTERVAL
        self.next_flush = now + interval.total_seconds()
        try:
            await self.write(running)
        except StoreUnavailableError as error:
            self._health.trouble(Component.STORE, str(error), hint=error.hint)

    async def write(self, running: Iterable[Entry]) -> None:
        """Write when the watches that were checked, or are being checked, are due.

        A check that runs may be cut off by the next crash, again and again if its vault hangs: then it is due only when
        it would have ended, so that others get their turn before it.

        Raises:
            StoreUnavailableError: the outcome is unknown.
        """
        changed, self._changed = self._changed, set()
        due = {entry.watch.id: entry.due for entry in changed if entry in self._roster}
        due |= {one.watch.id: one.started + self._deadline for one in running if one.started is not None}
        if due:
            now, instant = self._clock.monotonic(), self._clock.now()
            await self._store.record_due({watch: instant + timedelta(seconds=at - now) for watch, at in due.items()})
