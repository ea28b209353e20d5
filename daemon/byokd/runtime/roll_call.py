"""Calls the roll: reads from the store which watches there are and how they are, and keeps the roster to it."""

from datetime import datetime

from byokd.domain.identifiers import VaultHost, WatchId
from byokd.domain.verdict import Watch
from byokd.ports import Clock, StaleError, Store, StoreUnavailableError
from byokd.runtime.health import Component, Health
from byokd.runtime.line import Line
from byokd.runtime.roster import Entry, Roster, is_suspected
from byokd.runtime.waking import Bell
from byokd.settings import CheckSettings

STORE_RETRY_SECONDS = 5.0
"""What the store could not tell or take is asked, or checked, again this much later."""


class TakenOverError(Exception):
    """Another daemon took the vaults over: this one must not act on them any more, and ends."""


class RollCall:
    """Takes in the watches that come, with a place in the line, and lets go of those that are gone."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        line: Line,
        *,
        clock: Clock,
        settings: CheckSettings,
        health: Health,
        bell: Bell,
    ) -> None:
        """Take the collaborators; the bell is rung for what is not to wait."""
        self._store = store
        self._roster = roster
        self._line = line
        self._clock = clock
        self._settings = settings
        self._health = health
        self._bell = bell
        self._hint_spacing = settings.hint_spacing.total_seconds()
        self._has_begun = False
        self._paces_resumed = False
        self._in_doubt = False
        self._resolve_at = 0.0

    async def begin(self) -> float:
        """Take all watches; what is overdue is admitted at twice the steady rate, suspected denials first.

        The longest overdue comes before others, and what was begun is noted down, so that lives of seconds, one after
        the other, get around to every watch.

        Returns:
            when the last of what is overdue is admitted.

        Raises:
            StoreUnavailableError: the watches cannot be read; call again.
            TakenOverError: they are another daemon's.
        """
        self._has_begun = True
        watches = sorted(await self._store.watches(), key=lambda watch: (not is_suspected(watch), watch.due_at))
        failing = await self._store.failing_vaults()
        now, instant = self._clock.monotonic(), self._clock.now()
        spacing = self._settings.interval.total_seconds() / (2 * max(1, len(watches)))
        known = set(self._roster.hosts) if self._paces_resumed else set[VaultHost]()
        longest = self._longest_wait()
        overdue = 0
        for watch in watches:
            seconds = due_in(watch.due_at, instant)
            if seconds <= 0:
                seconds = overdue * spacing
                overdue += 1
            # A due time that is further away than any wait was written before the clock was set back.
            self._take(watch, now + min(seconds, max(longest, overdue * spacing)), anew=True)
        for host in self._roster.hosts - known:
            if host in failing and (pace := self._roster.pace(host)) is not None:
                pace.resume(failing[host], now, instant)
        self._paces_resumed = True
        for gone in self._roster.ids - {watch.id for watch in watches}:
            self._drop(gone)
        self._roster.is_read = True
        return now + overdue * spacing

    async def refresh(self, watch: WatchId) -> None:
        """Read a watch anew after accounts came to it or left it; before the roll was called, that reads them all."""
        if not self._has_begun:
            # The vaults may not be claimed yet: what is read now would look taken over by our own claim.
            return
        try:
            found = await self._store.watch(watch)
        except StoreUnavailableError:
            self.doubt()
            return
        if found is None:
            self._drop(watch)
        else:
            self._take(found, self._clock.monotonic() + max(0.0, due_in(found.due_at, self._clock.now())))
            self._bell.ring()

    def doubt(self) -> None:
        """Have all watches read again, because one may have come that nobody could tell of."""
        self._in_doubt = True
        self._bell.ring()

    def next_resolving(self) -> float | None:
        """Give when `resolve_doubt` has something to do; None while there is no doubt."""
        return self._resolve_at if self._in_doubt else None

    async def resolve_doubt(self) -> None:
        """Take watches that have come; those that are gone are found out by their next check."""
        if not self._in_doubt or self._clock.monotonic() < self._resolve_at:
            return
        try:
            watches = await self._store.watches()
        except StoreUnavailableError as error:
            self._resolve_at = self._clock.monotonic() + STORE_RETRY_SECONDS
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
            return
        self._in_doubt = False
        now, instant = self._clock.monotonic(), self._clock.now()
        for watch in watches:
            if watch.id not in self._roster.ids:
                self._take(watch, now + max(0.0, due_in(watch.due_at, instant)))

    async def make_sure(self, entry: Entry) -> None:
        """Read a watch again whose last commit may or may not have come about.

        What is believed of it decides what a look changes: a suspicion that is stored unknown to us would stay for
        ever, however often the version is found usable, and after a restart a single denial would confirm it.

        Raises:
            StoreUnavailableError: it still cannot be known.
            StaleError: the watch is not as it was believed to be, or gone.
        """
        if entry.outcome_unknown:
            found = await self._store.watch(entry.watch.id)
            entry.outcome_unknown = False
            if found is None or found.revision != entry.watch.revision:
                raise StaleError("the commit whose outcome was unknown came about")

    async def reread(self, entry: Entry) -> float:
        """Read a watch that somebody else has changed, to check it again at once; give when it is due.

        Raises:
            TakenOverError: it is another daemon's.
        """
        try:
            found = await self._store.watch(entry.watch.id)
        except StoreUnavailableError:
            entry.outcome_unknown = True
            return self._clock.monotonic() + STORE_RETRY_SECONDS
        if found is None:
            self._drop(entry.watch.id)
        else:
            _stay_in_charge(entry.watch, found)
            entry.watch = found
        return self._clock.monotonic()

    def _longest_wait(self) -> float:
        settings = self._settings
        interval = settings.interval * (1 + settings.jitter)
        return max(interval, settings.recheck_most, settings.vault_backoff_most).total_seconds()

    def _take(self, watch: Watch, due: float, *, anew: bool = False) -> None:
        entry = self._roster.get(watch.id)
        if entry is None:
            entry, anew = self._roster.add(watch), True
        _stay_in_charge(entry.watch, watch)
        entry.watch = watch
        if anew and entry.started is None:
            self._line.put(entry, entry.next_due(due, now=self._clock.monotonic(), hint_spacing=self._hint_spacing))

    def _drop(self, watch: WatchId) -> None:
        if (entry := self._roster.drop(watch)) is not None:
            entry.dismiss()


def due_in(due_at: datetime, now: datetime) -> float:
    """Seconds until a stored due time; negative when it has passed."""
    return (due_at - now).total_seconds()


def _stay_in_charge(known: Watch, found: Watch) -> None:
    if known.epoch != found.epoch:
        raise TakenOverError(f"another daemon took over the vault {found.key.host}: one daemon per database")
