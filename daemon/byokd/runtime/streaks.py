"""Failures that follow each other with no success between, and how many vaults they befell."""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from byokd.domain.accounts import instant
from byokd.domain.identifiers import VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import Clock

MANY: Final = 20
"""Vaults are counted no further. That many, one after the other with no other answer between, are no coincidence."""

FORGET: Final = timedelta(minutes=15)
"""What was not heard of for so long says nothing of now: longer than the longest wait between two looks at a vault."""


class Vaults:
    """How many vaults are asked at present, up to MANY."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: OrderedDict[VaultHost, float] = OrderedDict()

    def asked(self, host: VaultHost) -> None:
        """Note that a vault was asked."""
        self._asked[host] = self._clock.monotonic()
        self._asked.move_to_end(host)
        if len(self._asked) > MANY:
            self._asked.popitem(last=False)

    @property
    def count(self) -> int:
        """How many there are."""
        since = self._clock.monotonic() - FORGET.total_seconds()
        return sum(at >= since for at in self._asked.values())


class Streak:
    """One run of failures. `said` is for whoever tells people of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = self._last = clock.monotonic()
        self._began_at: datetime = clock.now()
        self._of: OrderedDict[VaultHost, Reason | None] = OrderedDict()
        self.code: str | None = None
        self.said = False

    def add(self, host: VaultHost, reason: Reason | None, *, code: str | None = None) -> None:
        """Note one more failure."""
        self._last = self._clock.monotonic()
        self._of[host] = reason
        self._of.move_to_end(host)
        if len(self._of) > MANY:
            self._of.popitem(last=False)
        self.code = code

    @property
    def age(self) -> timedelta:
        """How long it has lasted, from the first failure to now."""
        return timedelta(seconds=self._clock.monotonic() - self._began)

    @property
    def is_old(self) -> bool:
        """Whether nobody has failed, or been asked, for so long that it says nothing of now."""
        return self._clock.monotonic() - self._last > FORGET.total_seconds()

    @property
    def began_at(self) -> str:
        """When it began, by the clock of then."""
        return instant(self._began_at)

    @property
    def count(self) -> int:
        """How many vaults it befell, up to MANY."""
        return len(self._of)

    @property
    def count_words(self) -> str:
        """The same for people."""
        if self.count >= MANY:
            return f"{MANY} or more vaults"
        return f"{self.count} vault{'' if self.count == 1 else 's'}"

    @property
    def reasons(self) -> frozenset[Reason | None]:
        """Why, each vault's last one."""
        return frozenset(self._of.values())

    def all_of(self, reason: Reason) -> bool:
        """Whether it is all for one reason."""
        return self.reasons == {reason}
