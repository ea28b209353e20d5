"""Has every watch checked when it is due, or when there is news of it."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from byokd.domain.identifiers import IdentityName, VaultHost, WatchId
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import DetectedBy, Reason
from byokd.ports import Clock, KeyTarget, StaleError, Store, StoreUnavailableError
from byokd.runtime.checker import Checked, Checker
from byokd.runtime.due_keeping import DueKeeper
from byokd.runtime.health import Component, Health
from byokd.runtime.line import Line
from byokd.runtime.metrics import Metrics
from byokd.runtime.pace import Pace, PaceBounds
from byokd.runtime.pace_keeping import PaceKeeper
from byokd.runtime.roll_call import STORE_RETRY_SECONDS, RollCall, due_in
from byokd.runtime.roster import Entry, Roster, answer
from byokd.runtime.turns import Turn, Turns
from byokd.runtime.waking import Bell
from byokd.settings import CheckSettings

_log = structlog.get_logger()


class Scheduler:
    """Runs the checks: each watch has its turn when it is due, or sooner where there is news of it."""

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
        self._checker = checker
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._on_change = on_change
        self._hint_spacing = settings.hint_spacing.total_seconds()
        bounds = PaceBounds(settings.vault_concurrency, settings.vault_backoff_first, settings.vault_backoff_most)
        self._bell = Bell()
        self._roster = Roster(lambda: Pace(bounds))
        self._line = Line(self._roster)
        self._roll = RollCall(
            store, self._roster, self._line, clock=clock, settings=settings, health=health, bell=self._bell
        )
        self._turns = Turns(self._roster, self._line, clock=clock, settings=settings)
        self._paces = PaceKeeper(store, clock=clock, health=health)
        self._dues = DueKeeper(store, self._roster, clock=clock, deadline=settings.deadline, health=health)
        self._stopping = False
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Check for ever; after `stop`, end once the running checks have ended.

        Raises:
            StoreUnavailableError: the watches cannot be read; call again.
        """
        try:
            self._dues.begin(backlog_until=await self._roll.begin())
            self._health.well(Component.SCHEDULER)
            async with asyncio.TaskGroup() as keeping:
                keeper = keeping.create_task(self._paces.run(), name="paces")
                async with asyncio.TaskGroup() as checks:
                    while not self._stopping:
                        await self._roll.resolve_doubt()
                        self._start_due(checks)
                        await self._dues.flush(self._turns.running)
                        await self._bell.wait(self._seconds_to_next())
                keeper.cancel()
            await self._paces.write()
            await self._dues.write(self._turns.running)
            self._stopped.set()
        finally:
            if self._stopping:
                for entry in self._roster:
                    entry.dismiss()

    async def stopped(self) -> None:
        """Wait until the checks that ran when `stop` was called have ended and their due times are written."""
        await self._stopped.wait()

    def stop(self) -> None:
        """Start no further check."""
        self._stopping = True
        self._bell.ring()

    def bequeath(self, heir: "Scheduler") -> None:
        """Tell who succeeds this one, which has ended, what is watched and what hints are still to be followed.

        It reads the watches anew when it runs; until then it goes by these, so that none is unknown to it.
        """
        heir.learn(self._roster)

    def learn(self, watched: Roster) -> None:
        """Go by another one's watches until the first run reads them."""
        self._roster.inherit(watched)

    @property
    def knows_watches(self) -> bool:
        """Whether it can be told what is watched: not before the first run has read it."""
        return self._roster.is_read

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
        await self._roll.refresh(watch)

    def doubt(self) -> None:
        """Read all watches again as soon as the store allows, because one may have come that nobody could tell of."""
        self._roll.doubt()

    def _call_up(self, entry: Entry) -> None:
        """Give a watch that somebody wants checked a better place; one that is being checked gets it afterwards."""
        if entry.started is None:
            now = self._clock.monotonic()
            self._line.put(entry, entry.next_due(entry.due, now=now, hint_spacing=self._hint_spacing))
        self._bell.ring()

    def _seconds_to_next(self) -> float:
        times = (self._dues.next_flush, self._turns.next_due(), self._roll.next_resolving())
        return max(0.0, min(time for time in times if time is not None) - self._clock.monotonic())

    def _start_due(self, checks: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        while (turn := self._turns.next(now)) is not None:
            self._begin(checks, turn)

    def _begin(self, checks: asyncio.TaskGroup, turn: Turn) -> None:
        now, entry = self._clock.monotonic(), turn.entry
        if turn.silence is not None:
            entry.started = now
            checks.create_task(self._presume(entry, turn.pace, turn.silence), name=f"presume-{entry.watch.id}")
            return
        self._metrics.check_lag_seconds.observe(now - entry.due)
        detected_by = entry.begin(now, hint_spacing=self._hint_spacing)
        checks.create_task(self._check(entry, turn.pace, detected_by), name=f"check-{entry.watch.id}")

    async def _presume(self, entry: Entry, pace: Pace, reason: Reason) -> None:
        due = self._clock.monotonic() + STORE_RETRY_SECONDS
        try:
            await self._roll.make_sure(entry)
            checked = await self._checker.presume(entry.watch, reason)
            entry.watch = checked.watch
            due = max(self._clock.monotonic(), pace.next_try)
            if checked.decision.changes:
                self._on_change()
        except StaleError:
            due = await self._roll.reread(entry)
        except StoreUnavailableError as error:
            entry.outcome_unknown = True
            self._health.trouble(Component.STORE, str(error), hint=error.hint)
        finally:
            self._end(entry, due)

    async def _check(self, entry: Entry, pace: Pace, detected_by: DetectedBy) -> None:
        askers, entry.askers = entry.askers, []
        due, concluded = self._clock.monotonic() + STORE_RETRY_SECONDS, False
        try:
            await self._roll.make_sure(entry)
            checked = await self._checker.check(entry.watch, detected_by=detected_by)
            due, concluded = self._settle(entry, pace, checked), True
            answer(askers, checked)
        except StaleError:
            due = await self._roll.reread(entry)
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
            self._dues.changed(entry)
        if heard.silence is not None:
            pace.failed(now, heard.silence, retry_after=heard.retry_after)
            self._paces.changed(entry.watch, pace)
        elif heard.answered and pace.failing and begun is not None and begun >= pace.failed_at:
            pace.answered()
            self._paces.changed(entry.watch, pace)
        return max(now + due_in(decision.next_due, self._clock.now()), pace.next_try)

    def _end(self, entry: Entry, due: float) -> None:
        self._turns.end(entry, due)
        self._bell.ring()
