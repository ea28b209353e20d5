"""Who was looked at lately: the brake judges a fault of a moment ago by those that were asked since."""

from collections import OrderedDict
from datetime import timedelta

from byokd.domain.brake import Customer, Sample
from byokd.ports import Clock

MOST = 100_000
"""Customers remembered, some 30 MB. Beyond them the longest ago is forgotten, and the sample is of fewer."""


class LatelyLooked:
    """The customers whose vaults answered within the window, in memory: a restart begins anew."""

    def __init__(self, clock: Clock, *, window: timedelta) -> None:
        """Take the clock; `window` is how long ago "lately" is."""
        self._clock = clock
        self._window = window
        self._looked: OrderedDict[Customer, float] = OrderedDict()
        self._begun: float | None = None

    def note(self, customer: Customer) -> None:
        """Note that a customer's vault answered now."""
        now = self._clock.monotonic()
        if self._begun is None:
            self._begun = now
        self._looked[customer] = now
        self._looked.move_to_end(customer)
        while len(self._looked) > MOST or next(iter(self._looked.values())) < now - self._window.total_seconds():
            self._looked.popitem(last=False)

    def sample(self) -> Sample:
        """Give them, and since when: for the window, or for as long as this has been noted."""
        now = self._clock.monotonic()
        ago = min(self._window.total_seconds(), now - (self._begun if self._begun is not None else now))
        lately = frozenset(customer for customer, looked in self._looked.items() if looked >= now - ago)
        return Sample(self._clock.now() - timedelta(seconds=ago), lately)
