"""Tokens at hand, and what is known of getting them: one slot per (identity, scope, tenant), so many and no more."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from azure.core.credentials import AccessTokenInfo

from byokd.adapters.identity.classify import TokenFault
from byokd.domain.identifiers import IdentityName, TenantId

RENEW_BEFORE: Final = timedelta(minutes=5)
"""A token is renewed this long before it expires, or when its endpoint says so. Of one that lives less than twice as
long, half its life before: or else it would be renewed for every request."""

USE_UNTIL: Final = timedelta(seconds=30)
"""A token that cannot be renewed is used until this long before it expires, or a tenth of a short life."""

BACKOFF_FIRST: Final = timedelta(seconds=1)
BACKOFF_MOST: Final = timedelta(seconds=30)
"""Waits after failures: doubled from the first to the longest. Meanwhile everybody fails at once."""

WITHDRAWN_FOR: Final = timedelta(seconds=2)
"""How long Entra's word that a tenant does not let us in is passed on before it is asked again.

No doubling: it did answer. And shorter than the time after which a second denial confirms the first (5 s by default),
so that one answer never counts as two.
"""

MOST_TOKENS: Final = 10_000
"""Tokens at hand, some 3 KB each with a real one of 2 KB. As many as one daemon is built to watch vaults: more customer
tenants than that share one process with nobody. At the bound the one that was not used for the longest goes, with what
is known of its tenant's refusals; it is asked for again when it is needed."""

EXPIRED: Final = TokenFault("Expired", withdrawn=False)


class SlotKey(NamedTuple):
    """Whose token, for what, and of which tenant; None for managed identities, which live in one."""

    identity: IdentityName
    scope: str
    tenant: TenantId | None


@dataclass(slots=True)
class Slot:
    """A token and what is known of getting it. Times: `due` and `usable_until` in epoch seconds, the rest monotonic."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str | None = field(default=None, repr=False)
    due: float = 0
    usable_until: float = 0
    fetched: float = 0
    failures: int = 0
    failed_until: float = 0
    failure: TokenFault = EXPIRED

    def take(self, got: AccessTokenInfo, *, now: float, monotonic: float) -> None:
        """Note a new token."""
        life = max(0.0, got.expires_on - now)
        self.token, self.fetched = got.token, monotonic
        self.usable_until = got.expires_on - min(USE_UNTIL.total_seconds(), life / 10)
        ahead = got.expires_on - min(RENEW_BEFORE.total_seconds(), life / 2)
        self.due = min(got.refresh_on or ahead, ahead)
        self.failures, self.failed_until, self.failure = 0, 0.0, EXPIRED

    def fail(self, fault: TokenFault, *, monotonic: float) -> None:
        """Note that none was had."""
        self.failures, self.failure = self.failures + 1, fault
        wait = WITHDRAWN_FOR if fault.withdrawn else backoff(self.failures)
        self.failed_until = monotonic + wait.total_seconds()

    def is_usable(self, now: float) -> bool:
        """Whether there is a token that is still good."""
        return self.token is not None and now < self.usable_until


class Slots:
    """So many slots; the least recently used one goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: OrderedDict[SlotKey, Slot] = OrderedDict()

    def of(self, key: SlotKey) -> Slot:
        """Give the slot, made when there is none."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = Slot()
        self._slots.move_to_end(key)
        # A slot that is being filled stays: those who wait at it must not be left with another.
        while len(self._slots) > self._most and not next(iter(self._slots.values())).lock.locked():
            self._slots.popitem(last=False)
        return slot

    def clear(self) -> None:
        """Forget all."""
        self._slots.clear()

    def __len__(self) -> int:
        return len(self._slots)


def backoff(failures: int) -> timedelta:
    """Give the wait after so many failures, one after the other."""
    doublings = max(0, min(failures - 1, 10))
    return min(BACKOFF_FIRST * (1 << doublings), BACKOFF_MOST)
