"""Whom else to ask, when a denial may be our own fault: before it is confirmed, others have been looked at too."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain, islice, zip_longest
from typing import Protocol

from byokd.domain.identifiers import IdentityName, TenantId, VaultHost, WatchId
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import Outcome
from byokd.ports import Clock

OPINIONS = 10
"""Looks pulled forward for one denial: few against what a vault bears, and enough to judge a small fleet by."""

LATELY = 3
"""Opinions asked for so many times `apart` ago were about the same trouble; a suspicion is confirmed after one."""

MOST_HELD = 500
"""Held watches looked at again at once when one of them was found usable; the rest follow in their turn."""


class Looking(Protocol):
    """Who looks at watches: the scheduler, of which no more is needed here."""

    def latest_due(self) -> Sequence[Watch]:
        """Give all watches, those that were looked at just now first."""
        ...

    def advance(self, watch: WatchId) -> None:
        """Look at a watch now."""
        ...


class SecondOpinions:
    """Pulls looks forward, at most once per `apart` and identity: a look more, for no other watch later."""

    def __init__(self, scheduler: Looking, clock: Clock, *, apart: timedelta) -> None:
        """Take who looks, and how far apart opinions are asked for."""
        self._scheduler = scheduler
        self._clock = clock
        self._apart = apart.total_seconds()
        self._asked: dict[IdentityName, float] = {}
        self._proved: dict[IdentityName, float] = {}
        self._lost: dict[WatchId, float] = {}

    def lost(self, watch: Watch) -> None:
        """Note that what was found of a watch could not be stored: the brake does not count it yet."""
        self._lost[watch.id] = self._clock.monotonic()

    def heard(self, watch: Watch) -> None:
        """Note that what was found of a watch is stored."""
        self._lost.pop(watch.id, None)

    def are_owed(self, suspected: Watch) -> bool:
        """Whether others say more soon: a look was lost lately, or none was asked for though there is whom to ask.

        The latter where another process began the suspicion, or it is old.
        """
        now = self._clock.monotonic()
        self._lost = {watch: lost for watch, lost in self._lost.items() if self._is_lately(lost, now)}
        if self._lost.keys() - {suspected.id}:
            return True
        asked = self._asked.get(suspected.identity)
        if asked is not None and self._is_lately(asked, now):
            return False
        return next(others(suspected, self._scheduler.latest_due()), None) is not None

    def ask(self, suspected: Watch) -> None:
        """Have other customers' watches looked at, first those of the same identity."""
        if self._is_time(self._asked, suspected.identity):
            for watch in islice(others(suspected, self._scheduler.latest_due()), OPINIONS):
                self._scheduler.advance(watch.id)

    def proved(self, usable: Watch) -> None:
        """A held denial was wrong: have the others of the same identity looked at, which may be over for all."""
        if self._is_time(self._proved, usable.identity):
            self._advance_held(watch for watch in self._scheduler.latest_due() if watch.identity == usable.identity)

    def again(self) -> frozenset[WatchId]:
        """Have what was held looked at, because an operator has judged it; name all of it."""
        return self._advance_held(self._scheduler.latest_due())

    def _advance_held(self, watches: Iterable[Watch]) -> frozenset[WatchId]:
        held = [watch.id for watch in watches if any(version.verdict.is_held() for version in watch.versions)]
        for watch in held[:MOST_HELD]:
            self._scheduler.advance(watch)
        return frozenset(held)

    def _is_lately(self, then: float, now: float) -> bool:
        return now - then <= LATELY * self._apart

    def _is_time(self, last: dict[IdentityName, float], identity: IdentityName) -> bool:
        now = self._clock.monotonic()
        if now - last.get(identity, -self._apart) < self._apart:
            return False
        last[identity] = now
        return True


def others(suspected: Watch, watches: Iterable[Watch]) -> Iterator[Watch]:
    """Give other customers' watches, one per vault, whose looks would say most.

    Those of the same identity come before others, other tenants before the same one, and tenants take turns. Left out
    is what is suspected or denied already, and would say nothing new.
    """
    vaults: dict[tuple[bool, bool], dict[TenantId, dict[VaultHost, Watch]]] = defaultdict(lambda: defaultdict(dict))
    for watch in watches:
        if watch.key.host != suspected.key.host and _is_well(watch):
            likeness = (watch.identity != suspected.identity, watch.tenant == suspected.tenant)
            vaults[likeness][watch.tenant].setdefault(watch.key.host, watch)
    for likeness in sorted(vaults):
        rounds = zip_longest(*(tenant.values() for tenant in vaults[likeness].values()))
        yield from (watch for watch in chain.from_iterable(rounds) if watch is not None)


def _is_well(watch: Watch) -> bool:
    verdicts = [version.verdict for version in watch.versions]
    return any(verdict.outcome is Outcome.USABLE and verdict.suspicion is None for verdict in verdicts)
