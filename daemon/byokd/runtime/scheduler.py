"""Knows which watch is due, vault by vault, and starts its check within the bounds."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from byokd.domain.identifiers import IdentityName, VaultHost, WatchId
from byokd.domain.verdict import Verdict, Watch
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.ports import Clock, KeyTarget, StaleError, Store, StoreUnavailableError
from byokd.runtime.checker import Checked, Checker
from byokd.runtime.health import Component, Health
from byokd.runtime.line import Line
from byokd.runtime.metrics import Metrics
from byokd.runtime.pace import Pace, PaceBounds
from byokd.runtime.pace_keeping import PaceKeeper
from byokd.runtime.roster import Entry, Roster, is_suspected
from byokd.runtime.waking import Bell
from byokd.settings import CheckSettings

FLUSH_INTERVAL: Final = timedelta(seconds=10)
"""Due times of healthy checks are written in batches this far apart; a crash repeats at most this many checks."""

FLUSH_INTERVAL_AT_START: Final = timedelta(seconds=1)
"""The same while a backlog is worked off: a daemon killed every few seconds must not begin it anew each time."""

STORE_RETRY_SECONDS = 5.0
"""A check whose outcome could not be stored is repeated this much later."""

_log = structlog.get_logger()


class TakenOverError(Exception):
    """Another daemon took the vaults over: this one must not act on them any more, and ends."""


class Scheduler:
    """Runs the checks.

    At the bound of all checks, due ones wait in the order of their due times, with a head start for confirmations, what
    operators ask for and hints; at a vault's bound, only that vault's wait. Checks that probe failing vaults take at
    most half of all places, so that many vaults that hang leave the others theirs.
    """

    def __init__(
        self,
        store: Store,
        checker: Checker,
        *,
        clock: Clock,
        settings: CheckSettings,
        health: Health,
        metrics: Metrics,
        on_change: Callable[[], None],
    ) -> None:
        """Take the collaborators; `on_change` is called after a check that changed something was committed."""
        self._store = store
        self._checker = checker
        self._clock = clock
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._on_change = on_change
        first, most = settings.vault_backoff_first, settings.vault_backoff_most
        self._roster = Roster(lambda: Pace(PaceBounds(settings.vault_concurrency, first, most)))
        self._line = Line(self._roster)
        self._keeper = PaceKeeper(store, clock=clock, health=health)
        self._probes = Pace(PaceBounds(max(1, settings.concurrency // 2), first, most))
        self._hint_spacing = settings.hint_spacing.total_seconds()
        self._running: set[Entry] = set()
        self._unwritten: set[WatchId] = set()
        self._flush_at = 0.0
        self._backlog_until = 0.0
        self._in_doubt = False
        self._resolve_at = 0.0
        self._bell = Bell()
        self._has_begun = False
        self._stopping = False
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Check for ever; after `stop`, end once the running checks have ended.

        Raises:
            StoreUnavailableError: the watches cannot be read; call again.
        """
        try:
            await self._load()
            self._health.well(Component.SCHEDULER)
            async with asyncio.TaskGroup() as keeping:
                keeper = keeping.create_task(self._keeper.run(), name="paces")
                async with asyncio.TaskGroup() as checks:
                    while not self._stopping:
                        await self._resolve_doubt()
                        self._start_due(checks)
                        await self._flush()
                        await self._bell.wait(self._seconds_to_next())
                keeper.cancel()
            await self._keeper.write()
            await self._write_due()
            self._stopped.set()
        finally:
            if self._stopping:
                for entry in self._roster:
                    _dismiss(entry)

    async def stopped(self) -> None:
        """Wait until the checks that ran when `stop` was called have ended and their due times are written."""
        await self._stopped.wait()

    def stop(self) -> None:
        """Start no further check."""
        self._stopping = True
        self._bell.ring()

    def hint(self, watch: WatchId, *, detected_by: DetectedBy = DetectedBy.HINT) -> None:
        """Have a watch checked soon, because something may have happened to it, and once more a little later.

        Hints are coalesced: checks that follow them begin at least `checks.hint_spacing` apart, the one after the last
        hint included. A hint that comes during a check is followed by another one. An operator's word is followed at
        once, as by `check_now`.
        """
        entry = self._roster.get(watch)
        if entry is not None and detected_by is DetectedBy.OPERATOR:
            self._ask(entry)
        if entry is None or entry.hinted or detected_by is DetectedBy.OPERATOR:
            return
        entry.hinted = True
        self._call_up(entry)

    def is_hinted(self, watch: WatchId) -> bool:
        """Whether a hint at this watch still awaits its check, so that another one makes no difference."""
        entry = self._roster.get(watch)
        return entry is not None and entry.hinted

    def hint_version(self, target: KeyTarget) -> None:
        """Hint at the watches of this exact version; there is more than one if it is also pinned."""
        for entry in self._roster.of_version(target):
            self.hint(entry.watch.id)

    @property
    def identities(self) -> frozenset[IdentityName]:
        """The identities that watches are looked at with."""
        return frozenset(entry.watch.identity for entry in self._roster)

    def watches_of(self, host: VaultHost, *, key: str | None) -> list[WatchId]:
        """Name the watches of a vault, or of one of its keys by its name in lower case."""
        return self._roster.of_vault(host, key=key)

    def next_look(self, watch: WatchId) -> datetime | None:
        """Tell when a watch is looked at next: a past time while it waits for its turn; None when it is not watched."""
        entry = self._roster.get(watch)
        return None if entry is None else self._clock.now() + timedelta(seconds=entry.due - self._clock.monotonic())

    def latest_due(self) -> list[Watch]:
        """Give all watches; those that are due last, as they were looked at just now, come first."""
        return [entry.watch for entry in sorted(self._roster, key=lambda entry: -entry.due)]

    def advance(self, watch: WatchId) -> None:
        """Make a watch due now that is not being checked. Unlike a hint it is no news of the watch."""
        entry = self._roster.get(watch)
        if entry is not None and entry.started is None:
            self._line.put(entry, self._clock.monotonic())
            self._bell.ring()

    async def check_now(self, watch: WatchId) -> Checked | None:
        """Check a watch on an operator's word and give the outcome; None when it is not (or no longer) watched.

        The check begins after this was called. Those who call before it begins share it.
        """
        entry = self._roster.get(watch)
        if entry is None or self._stopping:
            return None
        return await self._ask(entry)

    def _ask(self, entry: Entry) -> "asyncio.Future[Checked | None]":
        asker: asyncio.Future[Checked | None] = asyncio.get_running_loop().create_future()
        entry.askers.append(asker)
        if len(entry.askers) == 1:
            self._call_up(entry)
        return asker

    async def refresh(self, watch: WatchId) -> None:
        """Read a watch anew after accounts came to it or left it; before the first run, that one reads them all."""
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
        """Read all watches again as soon as the store allows, because one may have come that nobody could tell of."""
        self._in_doubt = True
        self._bell.ring()

    async def _resolve_doubt(self) -> None:
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

    async def _load(self) -> None:
        """Take all watches; what is overdue is admitted at twice the steady rate, suspected denials first.

        The longest overdue comes before others, and what was begun is noted down, so that lives of seconds, one after
        the other, get around to every watch.
        """
        self._has_begun = True
        watches = sorted(await self._store.watches(), key=lambda watch: (not is_suspected(watch), watch.due_at))
        failing = await self._store.failing_vaults()
        now, instant = self._clock.monotonic(), self._clock.now()
        spacing = self._settings.interval.total_seconds() / (2 * max(1, len(watches)))
        known, longest = set(self._roster.hosts), self._longest_wait()
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
        for gone in self._roster.ids - {watch.id for watch in watches}:
            self._drop(gone)
        self._backlog_until = now + overdue * spacing + self._settings.deadline.total_seconds()
        self._flush_at = now

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
        self._unwritten.discard(watch)
        if (entry := self._roster.drop(watch)) is not None:
            _dismiss(entry)

    def _call_up(self, entry: Entry) -> None:
        """Give a watch that somebody wants checked a better place; one that is being checked gets it afterwards."""
        if entry.started is None:
            now = self._clock.monotonic()
            self._line.put(entry, entry.next_due(entry.due, now=now, hint_spacing=self._hint_spacing))
        self._bell.ring()

    def _seconds_to_next(self) -> float:
        now = self._clock.monotonic()
        until, due = self._flush_at, self._line.next_due()
        if due is not None and len(self._running) < self._settings.concurrency:
            until = min(until, due)
        if self._in_doubt:
            until = min(until, self._resolve_at)
        return max(0.0, until - now)

    def _start_due(self, checks: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        while len(self._running) < self._settings.concurrency and (entry := self._line.pop(now)) is not None:
            pace = self._roster.pace(entry.watch.key.host)
            if pace is None:
                raise AssertionError("a watch without a pace")
            if not entry.askers and now < pace.next_try:
                self._pass_over(checks, entry, pace)
                continue
            paces = (pace, self._probes) if pace.failing and not entry.askers else (pace,)
            full = next((one for one in paces if one.full()), None)
            if full is None:
                self._begin(checks, entry, pace, paces)
                continue
            self._line.stand_aside(entry, full)
            for other in paces:
                # This one may have been called back to a place that another can take.
                if not other.full():
                    self._line.call_back(other, now)

    def _begin(self, checks: asyncio.TaskGroup, entry: Entry, pace: Pace, paces: tuple[Pace, ...]) -> None:
        now = self._clock.monotonic()
        self._metrics.check_lag_seconds.observe(now - entry.due)
        detected_by = entry.begin(now, hint_spacing=self._hint_spacing)
        self._running.add(entry)
        entry.charged = paces
        for one in paces:
            one.running += 1
        checks.create_task(self._check(entry, pace, detected_by), name=f"check-{entry.watch.id}")

    def _pass_over(self, checks: asyncio.TaskGroup, entry: Entry, pace: Pace) -> None:
        """Let a watch of a failing vault wait for the one that probes it; note that it is not verified meanwhile."""
        if pace.silence is None or not self._has_news_of_silence(entry.watch):
            self._line.put(entry, pace.next_try)
            return
        self._running.add(entry)
        entry.started = self._clock.monotonic()
        checks.create_task(self._presume(entry, pace, pace.silence), name=f"presume-{entry.watch.id}")

    def _has_news_of_silence(self, watch: Watch) -> bool:
        """Whether the store does not yet know, or the bus does not yet hear, what the silence makes of the watch."""
        return any(self._makes_news(version.verdict) for version in watch.versions)

    def _makes_news(self, verdict: Verdict) -> bool:
        silent = verdict.unverified
        if silent is None:
            return True
        age, closing = self._clock.now() - silent.since, self._settings.fail_closed_after
        closes = closing is not None and verdict.outcome is Outcome.USABLE and age >= closing
        return closes or (not silent.told and age >= self._settings.unverified_after)

    async def _presume(self, entry: Entry, pace: Pace, reason: Reason) -> None:
        due = self._clock.monotonic() + STORE_RETRY_SECONDS
        try:
            await self._make_sure(entry)
            checked = await self._checker.presume(entry.watch, reason)
            entry.watch = checked.watch
            due = max(self._clock.monotonic(), pace.next_try)
            if checked.decision.changes:
                self._on_change()
        except StaleError:
            due = await self._reread(entry)
        except StoreUnavailableError as error:
            entry.outcome_unknown = True
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
        finally:
            self._end(entry, due)

    async def _check(self, entry: Entry, pace: Pace, detected_by: DetectedBy) -> None:
        askers, entry.askers = entry.askers, []
        due, concluded = self._clock.monotonic() + STORE_RETRY_SECONDS, False
        try:
            await self._make_sure(entry)
            checked = await self._checker.check(entry.watch, detected_by=detected_by)
            due, concluded = self._settle(entry, pace, checked), True
            for asker in askers:
                if not asker.done():
                    asker.set_result(checked)
        except StaleError:
            due = await self._reread(entry)
        except StoreUnavailableError as error:
            entry.outcome_unknown = True
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
        except Exception:  # noqa: BLE001 - see below
            # One customer's vault must not stop the checks of all others; the log tells, the watch is tried again.
            _log.exception("check-failed", watch=entry.watch.id)
        finally:
            if concluded:
                due = entry.next_due(due, now=self._clock.monotonic(), hint_spacing=self._hint_spacing)
            else:
                entry.askers += askers
                entry.hinted = entry.hinted or detected_by is DetectedBy.HINT
            self._end(entry, due)

    def _settle(self, entry: Entry, pace: Pace, checked: Checked) -> float:
        """Take over what the check found; give when the watch is due again."""
        now, begun = self._clock.monotonic(), entry.started
        decision, heard = checked.decision, checked.heard
        entry.watch = checked.watch
        if decision.changes:
            self._on_change()
        else:
            self._unwritten.add(entry.watch.id)
        if heard.silence is not None:
            pace.failed(now, heard.silence, retry_after=heard.retry_after)
            self._keeper.changed(entry.watch, pace)
        elif heard.answered and pace.failing and begun is not None and begun >= pace.failed_at:
            pace.answered()
            self._keeper.changed(entry.watch, pace)
        return max(now + due_in(decision.next_due, self._clock.now()), pace.next_try)

    async def _make_sure(self, entry: Entry) -> None:
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

    async def _reread(self, entry: Entry) -> float:
        """Read a watch that somebody else has changed, to check it again at once."""
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

    def _end(self, entry: Entry, due: float) -> None:
        now = self._clock.monotonic()
        self._running.discard(entry)
        entry.started = None
        for pace in entry.charged:
            pace.running -= 1
        if entry in self._roster:
            self._line.put(entry, due)
        else:
            _dismiss(entry)
        for pace in entry.charged:
            self._line.call_back(pace, now)
        entry.charged = ()
        self._bell.ring()

    async def _flush(self) -> None:
        now = self._clock.monotonic()
        if now < self._flush_at:
            return
        interval = FLUSH_INTERVAL_AT_START if now < self._backlog_until else FLUSH_INTERVAL
        self._flush_at = now + interval.total_seconds()
        try:
            await self._write_due()
        except StoreUnavailableError as error:
            self._health.trouble(Component.STORE, str(error), hint=error.hint)

    async def _write_due(self) -> None:
        """Write when the watches that were checked, or are being checked, are due.

        A check that runs may be cut off by the next crash, again and again if its vault hangs: then it is due only when
        it would have ended, so that others get their turn before it.
        """
        unwritten, self._unwritten = self._unwritten, set()
        due = {entry.watch.id: entry.due for watch in unwritten if (entry := self._roster.get(watch)) is not None}
        deadline = self._settings.deadline.total_seconds()
        due |= {one.watch.id: one.started + deadline for one in self._running if one.started is not None}
        if due:
            now, instant = self._clock.monotonic(), self._clock.now()
            await self._store.record_due({watch: instant + timedelta(seconds=at - now) for watch, at in due.items()})


def due_in(due_at: datetime, now: datetime) -> float:
    """Seconds until a stored due time; negative when it has passed."""
    return (due_at - now).total_seconds()


def _dismiss(entry: Entry) -> None:
    """Tell who waits for a check that there will be none."""
    for asker in entry.askers:
        if not asker.done():
            asker.set_result(None)
    entry.askers = []


def _stay_in_charge(known: Watch, found: Watch) -> None:
    if known.epoch != found.epoch:
        raise TakenOverError(f"another daemon took over the vault {found.key.host}: one daemon per database")
