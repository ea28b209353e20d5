"""Asks ARM, seldom, about the vaults of keys in use: do they still have what was wanted of them at registration?

What a vault has lost is a warning, told once; nobody's state changes for it. Where ARM is not readable nothing is
claimed and nothing changes.

Bound: vault after vault, each once in `arm.interval` and when its accounts change, with at most three of their
identities, each within `arm.deadline`. When a vault was asked about is stored, so a restart asks nobody earlier.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from byokd.domain.identifiers import TenantId, VaultHost, WatchId
from byokd.domain.properties import VaultProperties
from byokd.domain.requirements import weigh_vault
from byokd.ports import Clock, KeyTarget, Randomness, StaleError, Store, VaultRegistry
from byokd.ports.requirements import Occupant, Turn
from byokd.runtime.waking import Bell
from byokd.settings import ArmSettings

MOST_PAUSE: Final = timedelta(minutes=1)
"""Between two vaults, or two looks whether one is due: it is how late a lone vault may be, in a day."""

MOST_ASKED: Final = 3
"""Identities that ask about one vault at one time. More take their turns from day to day."""

_log = structlog.get_logger()


class Requirements:
    """Holds only what was to be looked at soon: when vaults were asked about is found in the store."""

    def __init__(
        self,
        store: Store,
        registry: VaultRegistry,
        *,
        clock: Clock,
        randomness: Randomness,
        settings: ArmSettings,
        on_change: Callable[[WatchId], Awaitable[None]],
    ) -> None:
        """Take the collaborators; `on_change` is awaited after a commit with the watch whose warnings changed."""
        self._store = store
        self._registry = registry
        self._clock = clock
        self._randomness = randomness
        self._settings = settings
        self._on_change = on_change
        self._soon: set[WatchId] = set()
        self._bell = Bell()

    def soon(self, watch: WatchId) -> None:
        """Ask about the vault of a watch at one of the next turns: its accounts changed. A restart forgets that."""
        if self._settings.enabled:
            self._soon.add(watch)

    def now(self, watch: WatchId) -> None:
        """As `soon`, but without waiting for the turn: somebody looks at it."""
        self.soon(watch)
        self._bell.ring()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            pause = await self._take_turn() if self._settings.enabled else MOST_PAUSE
            await self._bell.wait(pause.total_seconds())

    async def _take_turn(self) -> timedelta:
        """Ask about the next vault, if it is time; give how long to wait after it."""
        interval = self._settings.interval
        turn = await self._store.next_to_ask(before=self._clock.now() - interval)
        wanted = await self._store.watch(self._soon.pop()) if self._soon else None
        host = turn.host if wanted is None else wanted.key.host
        if host is not None:
            await self._look(host)
        return _pause(interval, turn)

    async def _look(self, host: VaultHost) -> None:
        occupants = await self._store.occupants(host)
        self._soon -= {occupant.watch.id for occupant in occupants}
        for tenant in dict.fromkeys(occupant.watch.tenant for occupant in occupants):
            # What one tenant's identity reads is no word about a vault that another tenant's accounts were pinned to.
            own = [occupant for occupant in occupants if occupant.watch.tenant == tenant]
            vault = await self._told(own, tenant)
            if vault is not None:
                for occupant in own:
                    await self._conclude(occupant, vault)
        await self._store.record_asked(host, now=self._clock.now())

    async def _told(self, occupants: Sequence[Occupant], tenant: TenantId) -> VaultProperties | None:
        """Ask by one identity after the other until one is told; another one first each time."""
        places = [
            (KeyTarget(occupant.watch.identity, tenant, occupant.watch.key.unpinned), subscription)
            for occupant in occupants
            for subscription in occupant.subscriptions
        ]
        first = int(self._randomness.uniform(0, len(places))) % len(places)
        for target, subscription in (places[first:] + places[:first])[:MOST_ASKED]:
            told = await self._registry.vault(target, subscription=subscription)
            if told is not None:
                return told
        return None

    async def _conclude(self, occupant: Occupant, vault: VaultProperties) -> None:
        watch = occupant.watch
        decision = weigh_vault(watch, vault, occupant.locations)
        if decision is None:
            return
        try:
            await self._store.commit_decision(watch, decision, now=self._clock.now())
        except StaleError:
            self._soon.add(watch.id)  # a check wrote meanwhile
            return
        kinds = sorted({warning.kind for warning in decision.warnings})
        _log.warning("vault-requirements-changed", key=str(watch.key), warnings=kinds, watch=watch.id)
        await self._on_change(watch.id)


def _pause(interval: timedelta, turn: Turn) -> timedelta:
    """Spread all vaults over half the interval, so that the other half is left for what hinders."""
    return min(MOST_PAUSE, interval / 2 / max(turn.vaults, 1))
