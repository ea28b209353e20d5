"""How long suspicions have stood, so that neither a set clock nor a slow look makes one denial pass for two."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from byokd.domain.identifiers import WrappingVersionId
from byokd.domain.verdict import Verdict, Watch
from byokd.ports import Clock

MOST: Final = 100_000
"""Suspicions known at once, about 20 MB. Of those beyond, only the time of day tells how long they have stood."""


class Standing:
    """Goes by the time of day, which outlives the process, and by the monotonic clock, which nobody sets.

    What counts is whichever says less: a clock that is set forward must not confirm a denial.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun: dict[WrappingVersionId, tuple[datetime, float]] = {}
        self._intended: dict[WrappingVersionId, tuple[datetime, float]] = {}

    def note(self, watch: Watch, *, now: datetime, instant: float) -> None:
        """Take over what is stored of a watch since this moment, which both clocks tell."""
        for version in watch.versions:
            suspicion, known = version.verdict.suspicion, self._begun.get(version.id)
            intended = self._intended.pop(version.id, None)
            if suspicion is None:
                self._begun.pop(version.id, None)
            elif known is not None and known[0] == suspicion.since:
                continue
            elif intended is not None and intended[0] == suspicion.since:
                self._begun[version.id] = intended
            elif known is not None or len(self._begun) < MOST:
                self._begun[version.id] = (suspicion.since, instant - (now - suspicion.since).total_seconds())

    def intend(self, verdicts: Mapping[WrappingVersionId, Verdict], *, now: datetime, instant: float) -> None:
        """Take over what may be stored since this moment: whether its commit came about is not known."""
        for version, verdict in verdicts.items():
            if verdict.suspicion is not None and len(self._intended) < MOST:
                since = verdict.suspicion.since
                self._intended[version] = (since, instant - (now - since).total_seconds())

    def opened(self, version: WrappingVersionId) -> None:
        """Take over that a suspected version was seen to open beside its checks: it is suspected from now on only."""
        if version in self._begun:
            self._begun[version] = (self._begun[version][0], self._clock.monotonic())

    def of(self, watch: Watch) -> Mapping[WrappingVersionId, timedelta]:
        """Give how long the suspicions of a watch have stood by now."""
        now, instant = self._clock.now(), self._clock.monotonic()
        stood = {}
        for version in watch.versions:
            suspicion = version.verdict.suspicion
            if suspicion is None:
                continue
            stood[version.id] = now - suspicion.since
            for known in (self._begun.get(version.id), self._intended.get(version.id)):
                if known is not None and known[0] == suspicion.since:
                    stood[version.id] = min(stood[version.id], timedelta(seconds=instant - known[1]))
        return stood
