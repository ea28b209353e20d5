"""What time the vaults say it is, from the `Date` header of answers that pass by anyway."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from byokd.adapters.keyvault.headers import http_date
from byokd.domain.identifiers import VaultHost
from byokd.ports import Clock

BETWEEN_LOOKS: Final = timedelta(seconds=1)
"""Headers are read no more often: a look costs as much as a tenth of a check."""


class VaultDates:
    """Tells how far our clock is ahead of a vault's: for one answer a second at most, whichever comes."""

    def __init__(self, clock: Clock, tell: Callable[[VaultHost, timedelta], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._next = 0.0

    def answered(self, host: VaultHost, date: str | None) -> None:
        """Note a genuine answer; `date` is its header, which may be missing or nonsense."""
        now = self._clock.monotonic()
        if date is None or now < self._next:
            return
        told = http_date(date)
        if told is None:
            return
        self._next = now + BETWEEN_LOOKS.total_seconds()
        self._tell(host, self._clock.now() - told)
