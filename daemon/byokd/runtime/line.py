"""Who is checked next: those not due yet by their times, those due by how urgent they are."""

import heapq
from typing import Final

from byokd.domain.identifiers import WatchId
from byokd.runtime.pace import Pace
from byokd.runtime.roster import Entry, Roster

PROMPT: Final = 3600.0
"""Head start, in seconds, of confirmations and of what an operator asks for: nothing that waits is that old."""

HINTED: Final = 30.0
"""Head start of what is hinted at: before all polls but those that have waited this long, so that no flood of hints can
keep a watch from its turn."""

_Place = tuple[float, int, WatchId]


class Line:
    """The waiting line of all watches. A watch has one place at a time: its last ticket's."""

    def __init__(self, roster: Roster) -> None:
        """Take the watches; whoever left the roster has left the line."""
        self._roster = roster
        self._later: list[_Place] = []
        self._ready: list[_Place] = []
        self._tickets = 0

    def put(self, entry: Entry, due: float) -> None:
        """Give a watch its place, and take its former one."""
        self._tickets += 1
        entry.ticket, entry.due = self._tickets, due
        heapq.heappush(self._later, (due, entry.ticket, entry.watch.id))

    def pop(self, now: float) -> Entry | None:
        """Take the most urgent watch that is due out of the line; None when there is none."""
        while self._later and self._later[0][0] <= now:
            _, ticket, watch = heapq.heappop(self._later)
            if (entry := self._valid(ticket, watch)) is not None:
                heapq.heappush(self._ready, (entry.due - _head_start(entry), ticket, watch))
        while self._ready:
            _, ticket, watch = heapq.heappop(self._ready)
            if (entry := self._valid(ticket, watch)) is not None:
                return entry
        return None

    def stand_aside(self, entry: Entry, pace: Pace) -> None:
        """Let a watch that was popped wait until there is room in a pace; it keeps its due time."""
        heapq.heappush(pace.waiting, (entry.due - _head_start(entry), entry.ticket, entry.watch.id))

    def call_back(self, pace: Pace, now: float) -> None:
        """Let as many watches as there is room for come back from a pace; in a backoff all, to wait for its end."""
        room = len(pace.waiting) if now < pace.next_try else pace.free
        while room > 0 and pace.waiting:
            place = heapq.heappop(pace.waiting)
            if self._valid(place[1], place[2]) is not None:
                heapq.heappush(self._ready, place)
                room -= 1

    def next_due(self) -> float | None:
        """Give when the next watch becomes due; those that are due already are not counted."""
        return self._later[0][0] if self._later else None

    def _valid(self, ticket: int, watch: WatchId) -> Entry | None:
        entry = self._roster.get(watch)
        return entry if entry is not None and entry.ticket == ticket and entry.started is None else None


def _head_start(entry: Entry) -> float:
    if entry.askers or entry.suspected:
        return PROMPT
    return HINTED if entry.hinted else 0.0
