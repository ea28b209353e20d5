"""What only warnings need to know of a vault, and what changes seldom: it is not asked at every look.

Bound: one GET more per watch and hour, one for the first look after a start or a reload, one whenever an operator asks.
"""

from datetime import timedelta
from typing import Final

from byokd.domain.identifiers import WatchId
from byokd.domain.vocabulary import DetectedBy
from byokd.ports import Clock

EVERY: Final = timedelta(hours=1)
"""Between two such questions about one watch."""


class Seldom:
    """Knows whose turn it is. Kept in memory: a fact to store would be a write for a look that found nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_at: dict[WatchId, float] = {}
        self._swept_at = clock.monotonic()

    def takes_turn(self, watch: WatchId, *, detected_by: DetectedBy) -> bool:
        """Tell whether to ask now; a turn that is given is used up, whatever the answer will be."""
        now = self._clock.monotonic()
        last = self._asked_at.get(watch)
        if last is not None and now - last < EVERY.total_seconds() and detected_by is not DetectedBy.OPERATOR:
            return False
        self._asked_at[watch] = now
        self._forget_gone(now)
        return True

    def _forget_gone(self, now: float) -> None:
        """Forget those that were not asked about for two turns: they are not watched any more, or need it no more."""
        if now - self._swept_at < EVERY.total_seconds():
            return
        self._swept_at, before = now, now - 2 * EVERY.total_seconds()
        self._asked_at = {watch: at for watch, at in self._asked_at.items() if at > before}
