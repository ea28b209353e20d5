"""Knows which watch is due, vault by vault, and starts its check within the bounds."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from byokd.domain.decide import Decision
from byokd.domain.identifiers import VaultHost, WatchId
from byokd.domain.verdict import Verdict, Watch
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason
from byokd.ports import Clock, KeyTarget, StaleError, Store, StoreUnavailableError
from byokd.runtime.checker import Checked, Checker
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.pace import OUR_TROUBLE, Pace, PaceBounds
from byokd.runtime.waking import Bell
from byokd.settings import CheckSettings

FLUSH_INTERVAL = timedelta(seconds=10)
"""Due times of healthy checks are written in batches this far apart; a crash repeats at most this many checks."""

STORE_RETRY_SECONDS = 5.0
"""A check whose outcome could not be stored is repeated this much later."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Entry:
    watch: Watch
    due: float
    ticket: int = 0
    running: bool = False
    asked: DetectedBy | None = None
    askers: list[asyncio.Future[Checked]] = field(default_factory=list)


class TakenOverError(Exception):
    """Another daemon took the vaults over: this one must not act on them any more, and ends."""


class Scheduler:
    """Runs the checks.

    At the bound of all checks, due ones wait in the order of their due times; at a vault's bound, only that vault's
    wait.
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
        self._bounds = PaceBounds(settings.vault_concurrency, settings.vault_backoff_first, settings.vault_backoff_most)
        self._entries: dict[WatchId, _Entry] = {}
        self._paces: dict[VaultHost, Pace] = {}
        self._queue: list[tuple[float, int, WatchId]] = []
        self._tickets = 0
        self._running = 0
        self._unwritten: dict[WatchId, Watch] = {}
        self._flushed = 0.0
        self._bell = Bell()
        self._has_begun = False
        self._stopping = False
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Check for ever; after `stop`, end once the running checks have ended.

        Raises:
            StoreUnavailableError: the watches cannot be read; call again.
        """
        await self._load()
        self._health.well(Component.SCHEDULER)
        async with asyncio.TaskGroup() as checks:
            while not self._stopping:
                self._start_due(checks)
                await self._flush()
                await self._bell.wait(self._seconds_to_next())
        await self._write_due()
        self._stopped.set()

    async def stopped(self) -> None:
        """Wait until the checks that ran when `stop` was called have ended and their due times are written."""
        await self._stopped.wait()

    def stop(self) -> None:
        """Start no further check."""
        self._stopping = True
        self._bell.ring()

    def hint(self, watch: WatchId, *, detected_by: DetectedBy) -> None:
        """Make a watch due now; one that is being checked is checked again afterwards."""
        entry = self._entries.get(watch)
        if entry is None:
            return
        entry.asked = detected_by
        if not entry.running:
            self._queue_at(entry, self._clock.monotonic())
        self._bell.ring()

    def hint_version(self, target: KeyTarget) -> None:
        """Make the watches of this exact version due now; there is more than one if it is also pinned."""
        for entry in list(self._entries.values()):
            watch = entry.watch
            same = (watch.identity, watch.tenant, watch.key.host) == (target.identity, target.tenant, target.key.host)
            if same and any(watch.key.at(version.version) == target.key for version in watch.versions):
                self.hint(watch.id, detected_by=DetectedBy.HINT)

    def next_look(self, watch: WatchId) -> datetime | None:
        """Tell when a watch is looked at next: a past time while it waits for its turn; None when it is not watched."""
        entry = self._entries.get(watch)
        return None if entry is None else self._clock.now() + timedelta(seconds=entry.due - self._clock.monotonic())

    async def check_now(self, watch: WatchId) -> Checked | None:
        """Check a watch on an operator's word and give the outcome; None when it is not (or no longer) watched."""
        entry = self._entries.get(watch)
        if entry is None:
            return None
        asker: asyncio.Future[Checked] = asyncio.get_running_loop().create_future()
        entry.askers.append(asker)
        self.hint(watch, detected_by=DetectedBy.OPERATOR)
        return await asker

    async def refresh(self, watch: WatchId) -> None:
        """Read a watch anew after accounts came to it or left it; before the first run, that one reads them all."""
        if not self._has_begun:
            # The vaults may not be claimed yet: what is read now would look taken over by our own claim.
            return
        found = await self._store.watch(watch)
        if found is None:
            self._drop(watch)
        else:
            self._take(found, self._clock.monotonic() + max(0.0, due_in(found.due_at, self._clock.now())))
            self._bell.ring()

    async def _load(self) -> None:
        """Take all watches; what is overdue is admitted at twice the steady rate, suspected denials first."""
        self._has_begun = True
        now, instant = self._clock.monotonic(), self._clock.now()
        watches = sorted(await self._store.watches(), key=lambda watch: (not _suspected(watch), watch.due_at))
        spacing = self._settings.interval.total_seconds() / (2 * max(1, len(watches)))
        overdue = 0
        for watch in watches:
            seconds = due_in(watch.due_at, instant)
            if seconds <= 0 and not _suspected(watch):
                seconds = overdue * spacing
                overdue += 1
            self._take(watch, now + max(0.0, seconds))
        for gone in self._entries.keys() - {watch.id for watch in watches}:
            self._drop(gone)
        self._flushed = now

    def _take(self, watch: Watch, due: float) -> None:
        entry = self._entries.get(watch.id)
        if entry is None:
            entry = self._entries[watch.id] = _Entry(watch, due)
        _stay_in_charge(entry.watch, watch)
        entry.watch = watch
        self._paces.setdefault(watch.key.host, Pace(self._bounds))
        if not entry.running:
            self._queue_at(entry, due)

    def _drop(self, watch: WatchId) -> None:
        entry = self._entries.pop(watch, None)
        self._unwritten.pop(watch, None)
        if entry is None:
            return
        for asker in entry.askers:
            asker.cancel()
        host = entry.watch.key.host
        if not entry.running and all(other.watch.key.host != host for other in self._entries.values()):
            del self._paces[host]

    def _queue_at(self, entry: _Entry, due: float) -> None:
        self._tickets += 1
        entry.ticket, entry.due = self._tickets, due
        heapq.heappush(self._queue, (due, entry.ticket, entry.watch.id))

    def _seconds_to_next(self) -> float:
        now = self._clock.monotonic()
        flush = self._flushed + FLUSH_INTERVAL.total_seconds() - now
        if not self._queue or self._running >= self._settings.concurrency:
            return max(0.0, flush)
        return max(0.0, min(flush, self._queue[0][0] - now))

    def _start_due(self, checks: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        while self._queue and self._queue[0][0] <= now and self._running < self._settings.concurrency:
            due, ticket, watch = heapq.heappop(self._queue)
            entry = self._entries.get(watch)
            if entry is None or entry.ticket != ticket or entry.running:
                continue
            pace = self._paces[entry.watch.key.host]
            if entry.asked is not DetectedBy.OPERATOR and now < pace.next_try:
                self._pass_over(checks, entry, pace)
            elif pace.full():
                pace.waiting.append(watch)
            else:
                self._metrics.check_lag_seconds.observe(now - due)
                self._begin(entry, pace)
                checks.create_task(self._check(entry, pace), name=f"check-{watch}")

    def _pass_over(self, checks: asyncio.TaskGroup, entry: _Entry, pace: Pace) -> None:
        """Let a watch of a failing vault wait for the one that probes it; note that it is not verified meanwhile."""
        if pace.silence is None or not self._has_news_of_silence(entry.watch):
            self._queue_at(entry, pace.next_try)
            return
        self._begin(entry, pace)
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

    async def _presume(self, entry: _Entry, pace: Pace, reason: Reason) -> None:
        due = self._clock.monotonic() + STORE_RETRY_SECONDS
        try:
            checked = await self._checker.presume(entry.watch, reason)
            entry.watch = checked.watch
            due = max(self._clock.monotonic(), pace.next_try)
            if checked.decision.changes:
                self._on_change()
        except StaleError:
            due = await self._reread(entry)
        except StoreUnavailableError as error:
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
        finally:
            self._end(entry, pace, due)

    def _begin(self, entry: _Entry, pace: Pace) -> None:
        entry.running = True
        pace.running += 1
        self._running += 1

    async def _check(self, entry: _Entry, pace: Pace) -> None:
        asked, entry.asked = entry.asked, None
        askers, entry.askers = entry.askers, []
        due = self._clock.monotonic() + STORE_RETRY_SECONDS
        try:
            checked = await self._checker.check(entry.watch, detected_by=asked or DetectedBy.POLL)
            due = self._settle(entry, pace, checked)
            for asker in askers:
                if not asker.done():
                    asker.set_result(checked)
        except StaleError:
            due = await self._reread(entry)
            entry.askers += askers
        except StoreUnavailableError as error:
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
            entry.askers += askers
        except Exception:  # noqa: BLE001 - see below
            # One customer's vault must not stop the checks of all others; the log tells, the watch is tried again.
            _log.exception("check-failed", watch=entry.watch.id)
            entry.askers += askers
        finally:
            self._end(entry, pace, due)

    def _settle(self, entry: _Entry, pace: Pace, checked: Checked) -> float:
        """Take over what the check found; give when the watch is due again."""
        now = self._clock.monotonic()
        decision = checked.decision
        entry.watch = checked.watch
        if decision.changes:
            self._on_change()
        else:
            self._unwritten[entry.watch.id] = entry.watch
        silence = _silence(decision)
        if silence is None:
            pace.answered()
        else:
            pace.failed(now, silence)
        return max(now + due_in(decision.next_due, self._clock.now()), pace.next_try)

    async def _reread(self, entry: _Entry) -> float:
        try:
            found = await self._store.watch(entry.watch.id)
        except StoreUnavailableError:
            return self._clock.monotonic() + STORE_RETRY_SECONDS
        if found is None:
            self._drop(entry.watch.id)
        else:
            _stay_in_charge(entry.watch, found)
            entry.watch = found
        return self._clock.monotonic()

    def _end(self, entry: _Entry, pace: Pace, due: float) -> None:
        entry.running = False
        pace.running -= 1
        self._running -= 1
        now = self._clock.monotonic()
        if entry.watch.id in self._entries:
            self._queue_at(entry, now if entry.asked else due)
        while pace.waiting:
            waiting = self._entries.get(WatchId(pace.waiting.popleft()))
            if waiting is not None and not waiting.running:
                self._queue_at(waiting, waiting.due)
        self._bell.ring()

    async def _flush(self) -> None:
        if self._clock.monotonic() - self._flushed < FLUSH_INTERVAL.total_seconds():
            return
        self._flushed = self._clock.monotonic()
        try:
            await self._write_due()
        except StoreUnavailableError as error:
            self._health.trouble(Component.STORE, str(error), hint=error.hint)

    async def _write_due(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        if unwritten:
            now, instant = self._clock.monotonic(), self._clock.now()
            await self._store.record_due(
                {
                    watch: instant + timedelta(seconds=self._entries[watch].due - now)
                    for watch in unwritten
                    if watch in self._entries
                }
            )


def due_in(due_at: datetime, now: datetime) -> float:
    """Seconds until a stored due time; negative when it has passed."""
    return (due_at - now).total_seconds()


def _stay_in_charge(known: Watch, found: Watch) -> None:
    if known.epoch != found.epoch:
        raise TakenOverError(f"another daemon took over the vault {found.key.host}: one daemon per database")


def _suspected(watch: Watch) -> bool:
    return any(version.verdict.suspicion is not None for version in watch.versions)


def _silence(decision: Decision) -> Reason | None:
    """Why the vault itself gave no answer at all; None when it gave one, or when the trouble is our own."""
    reasons = [
        observation.reason if observation.outcome is Outcome.UNVERIFIED else None
        for observation in decision.observations.values()
    ]
    return reasons[0] if all(reason is not None and reason not in OUR_TROUBLE for reason in reasons) else None
