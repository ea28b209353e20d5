"""Carries changed verdicts to the accounts of their wrapping versions."""

from collections.abc import Callable
from datetime import timedelta

from byokd.ports import Clock, Store
from byokd.runtime.waking import Bell

BATCH = 500
"""Accounts per transaction: short enough to let checks in between, long enough to be cheap per account."""

POLL = timedelta(seconds=5)
"""How often to look without being told: for verdicts committed before a crash."""


class Follower:
    """Holds nothing: accounts that lag behind their verdict are found in the store, so it resumes by itself."""

    def __init__(self, store: Store, *, clock: Clock, on_change: Callable[[], None]) -> None:
        """Take the collaborators; `on_change` is called after events were committed."""
        self._store = store
        self._clock = clock
        self._on_change = on_change
        self._bell = Bell()

    def notify(self) -> None:
        """Tell that a verdict changed."""
        self._bell.ring()

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            carried = await self._store.follow(limit=BATCH, now=self._clock.now())
            if carried:
                self._on_change()
            if carried < BATCH:
                await self._bell.wait(POLL.total_seconds())
