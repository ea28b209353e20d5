"""Watches: what is believed of their versions, when they are due, and who is in charge of their vaults."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.decide import Decision
from byokd.domain.identifiers import VaultHost, WatchId, WrappingVersionId
from byokd.domain.verdict import Watch
from byokd.ports.vault import KeyTarget
from byokd.records import Doubt, Failing, HeldVault


class WatchStore(Protocol):
    """Watches, their verdicts and their vaults. Each method is one transaction; see `Store`."""

    async def claim_vaults(self, instance: str) -> int:
        """Take every vault for this replica under a new epoch; give their number."""
        ...

    async def watches(self) -> Sequence[Watch]:
        """Give every watch that has accounts."""
        ...

    async def watch(self, watch: WatchId) -> Watch | None:
        """Give one watch; None when no account uses it any more."""
        ...

    async def find_watch(self, target: KeyTarget) -> Watch | None:
        """Give the watch of exactly this identity, tenant and key identifier."""
        ...

    async def commit_decision(
        self, watch: Watch, decision: Decision, *, now: datetime, brake_revision: int | None = None
    ) -> Watch:
        """Write verdicts, adoption, warnings, key events and due time; give the watch as it is now.

        Guarded by the watch's revision and the vault's epoch as in `watch`, and by the brake's revision where it was
        consulted: it must not have been engaged, or released, meanwhile.
        """
        ...

    async def record_due(self, due: Mapping[WatchId, datetime]) -> None:
        """Write due times of checks that found nothing new, in one batch."""
        ...

    async def failing_vaults(self) -> Mapping[VaultHost, Failing]:
        """Give the vaults that failed or throttled when they were last asked."""
        ...

    async def record_failing(self, found: Mapping[HeldVault, Failing | None]) -> None:
        """Write how vaults are, in one batch; None: they answer. Those of another epoch are passed over."""
        ...

    async def follow(self, *, limit: int, now: datetime) -> int:
        """Carry changed verdicts to at most `limit` accounts, with their events; give how many were carried."""
        ...

    async def doubts(self) -> Mapping[WrappingVersionId, Doubt]:
        """Give what is amiss with the versions that are in doubt; there are few, unless much is amiss."""
        ...
