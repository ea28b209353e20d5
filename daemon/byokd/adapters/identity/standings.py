"""How an application stands with Entra ID: whether it fails in every tenant, for then nobody needs to try."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from byokd.adapters.identity.classify import TokenFault
from byokd.adapters.identity.slots import EXPIRED, backoff
from byokd.domain.identifiers import TenantId

AT_ONCE: Final = 8
"""Requests of one identity under way: as many as there are connections to token endpoints. Others wait their turn, so
that an endpoint that hangs is found out by a few requests and not by one for each tenant."""


@dataclass(slots=True)
class Standing:
    """What is known of one identity, whatever the tenant.

    Trouble of ours in one tenant alone may be that tenant's: it holds up nobody else. When a second tenant meets it
    with no success between, it is the identity's: then nobody asks for a while, and a few requests find out whether it
    is over.
    """

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    failures: int = 0
    held_until: float = 0
    failure: TokenFault = EXPIRED
    first: TenantId | None = None

    def fail(self, fault: TokenFault, tenant: TenantId | None, *, monotonic: float) -> None:
        """Note that a token could not be had for a tenant."""
        if not fault.ours:
            return
        if self.failures == 0 and self.first in (None, tenant):
            self.first = tenant
            return
        if self.is_held(monotonic):  # asked before it was known
            return
        self.failures, self.failure = self.failures + 1, fault
        self.held_until = monotonic + backoff(self.failures).total_seconds()

    def succeed(self) -> None:
        """Note that one was had."""
        self.failures, self.held_until, self.first = 0, 0.0, None

    def is_held(self, monotonic: float) -> bool:
        """Whether nobody is to ask now."""
        return monotonic < self.held_until
