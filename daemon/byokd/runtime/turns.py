"""Whose turn it is to be checked, within the bounds: of all checks, of a vault's, and of those that probe."""

from dataclasses import dataclass

from byokd.domain.verdict import Verdict, Watch
from byokd.domain.vocabulary import Outcome, Reason
from byokd.ports import Clock
from byokd.runtime.line import Line
from byokd.runtime.pace import Pace, PaceBounds
from byokd.runtime.roster import Entry, Roster
from byokd.settings import CheckSettings


@dataclass(frozen=True, slots=True)
class Turn:
    """A watch whose turn it is, with a place that it has until `Turns.end`.

    Attributes:
        pace: its vault's.
        silence: what is to be noted of the watch without asking its vault, which another one probes; None: check it.
    """

    entry: Entry
    pace: Pace
    silence: Reason | None = None


class Turns:
    """Gives the turns.

    At the bound of all checks, due ones wait in the order of their due times, with a head start for confirmations, what
    operators ask for and hints; at a vault's bound, only that vault's wait. Checks that probe failing vaults take at
    most half of all places, so that many vaults that hang leave the others theirs.
    """

    def __init__(self, roster: Roster, line: Line, *, clock: Clock, settings: CheckSettings) -> None:
        """Take the watches and how they wait."""
        self._roster = roster
        self._line = line
        self._clock = clock
        self._settings = settings
        first, most = settings.vault_backoff_first, settings.vault_backoff_most
        self._probes = Pace(PaceBounds(max(1, settings.concurrency // 2), first, most))
        self.running: set[Entry] = set()

    def next(self, now: float) -> Turn | None:
        """Take the most urgent watch that may have its turn now out of the line; None when there is none."""
        while not self._full() and (entry := self._line.pop(now)) is not None:
            pace = self._roster.pace(entry.watch.key.host)
            if pace is None:
                raise AssertionError("a watch without a pace")
            if not entry.askers and now < pace.next_try:
                turn = self._pass_over(entry, pace)
            else:
                turn = self._let_in(entry, pace, now)
            if turn is not None:
                self.running.add(entry)
                return turn
        return None

    def end(self, entry: Entry, due: float) -> None:
        """Take the place of a watch back, and let it wait until it is due; those who wait for its place may go on."""
        now = self._clock.monotonic()
        self.running.discard(entry)
        entry.started = None
        for pace in entry.charged:
            pace.running -= 1
        if entry in self._roster:
            self._line.put(entry, due)
        else:
            entry.dismiss()
        for pace in entry.charged:
            self._line.call_back(pace, now)
        entry.charged = ()

    def next_due(self) -> float | None:
        """Give when the next watch may become due; None: not before another one's turn has ended."""
        return None if self._full() else self._line.next_due()

    def _full(self) -> bool:
        return len(self.running) >= self._settings.concurrency

    def _let_in(self, entry: Entry, pace: Pace, now: float) -> Turn | None:
        """Charge the paces of a watch; where one is full it stands aside."""
        paces = (pace, self._probes) if pace.failing and not entry.askers else (pace,)
        full = next((one for one in paces if one.full()), None)
        if full is not None:
            self._line.stand_aside(entry, full)
            for other in paces:
                # This one may have been called back to a place that another can take.
                if not other.full():
                    self._line.call_back(other, now)
            return None
        entry.charged = paces
        for one in paces:
            one.running += 1
        return Turn(entry, pace)

    def _pass_over(self, entry: Entry, pace: Pace) -> Turn | None:
        """Let a watch of a failing vault wait for the one that probes it; note that it is not verified meanwhile."""
        if pace.silence is None or not self._has_news_of_silence(entry.watch):
            self._line.put(entry, pace.next_try)
            return None
        return Turn(entry, pace, pace.silence)

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
