"""Keeps in the store which vaults fail, so that a restart neither resets nor shortens a backoff."""

from byokd.domain.identifiers import VaultHost
from byokd.domain.verdict import Watch
from byokd.ports import Clock, Store, StoreUnavailableError
from byokd.records import Failing, HeldVault
from byokd.runtime.health import Component, Health
from byokd.runtime.pace import Pace
from byokd.runtime.waking import Bell

RETRY_SECONDS = 5.0
"""What could not be written is written this much later."""


class PaceKeeper:
    """Writes the paces that changed, whatever changed during one write together in the next.

    A failing vault changes once per try, and a well one never, so this costs at most one row per probe. What a crash
    takes before it is written is the last step of a backoff: the vault is asked once more, and that doubles the wait
    from where it was.
    """

    def __init__(self, store: Store, *, clock: Clock, health: Health) -> None:
        """Take the collaborators."""
        self._store = store
        self._clock = clock
        self._health = health
        self._changed: dict[VaultHost, tuple[Watch, Pace]] = {}
        self._bell = Bell()

    def changed(self, watch: Watch, pace: Pace) -> None:
        """Note that the pace of a watch's vault changed."""
        self._changed[watch.key.host] = watch, pace
        self._bell.ring()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            try:
                await self.write()
            except StoreUnavailableError as error:
                self._health.trouble(Component.STORE, str(error), hint=error.hint)
                await self._clock.sleep(RETRY_SECONDS)
            else:
                await self._bell.wait(None)

    async def write(self) -> None:
        """Write what changed.

        Raises:
            StoreUnavailableError: the outcome is unknown; what was to be written is kept for the next time.
        """
        changed, self._changed = self._changed, {}
        now, instant = self._clock.monotonic(), self._clock.now()
        found: dict[HeldVault, Failing | None] = {
            HeldVault(host, watch.epoch): pace.stored(now, instant) for host, (watch, pace) in changed.items()
        }
        try:
            if found:
                await self._store.record_failing(found)
        except StoreUnavailableError:
            self._changed = changed | self._changed
            raise
