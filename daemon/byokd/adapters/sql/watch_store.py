"""The WatchStore port: each method hands one transaction to a runner."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from byokd.adapters.sql import failing, verdicts, watches
from byokd.adapters.sql.part import StorePart
from byokd.domain.decide import Decision
from byokd.domain.identifiers import VaultHost, WatchId, WrappingVersionId
from byokd.domain.verdict import Watch
from byokd.ports import KeyTarget
from byokd.records import Doubt, Failing, HeldVault


class SqlWatchStore(StorePart):
    """Watches, in an SQL database. Obligations and errors of each method: see `WatchStore`."""

    async def claim_vaults(self, instance: str) -> int:
        """See `WatchStore.claim_vaults`."""
        return await self._runner.write(watches.claim_vaults, instance)

    async def watches(self) -> Sequence[Watch]:
        """See `WatchStore.watches`."""
        return await self._runner.read(watches.all_watches)

    async def watch(self, watch: WatchId) -> Watch | None:
        """See `WatchStore.watch`."""
        return await self._runner.read(watches.watch, watch)

    async def find_watch(self, target: KeyTarget) -> Watch | None:
        """See `WatchStore.find_watch`."""
        return await self._runner.read(watches.find_watch, target)

    async def commit_decision(
        self, watch: Watch, decision: Decision, *, now: datetime, brake_revision: int | None = None
    ) -> Watch:
        """See `WatchStore.commit_decision`."""
        return await self._runner.write(
            verdicts.commit_decision,
            watch,
            decision,
            brake_revision=brake_revision,
            recorder=self._recorder,
            now=now,
        )

    async def record_due(self, due: Mapping[WatchId, datetime]) -> None:
        """See `WatchStore.record_due`."""
        await self._runner.write(watches.record_due, due)

    async def failing_vaults(self) -> Mapping[VaultHost, Failing]:
        """See `WatchStore.failing_vaults`."""
        return await self._runner.read(failing.failing_vaults)

    async def record_failing(self, found: Mapping[HeldVault, Failing | None]) -> None:
        """See `WatchStore.record_failing`."""
        await self._runner.write(failing.record_failing, found)

    async def follow(self, *, limit: int, now: datetime) -> int:
        """See `WatchStore.follow`."""
        return await self._runner.write(verdicts.follow_verdicts, limit=limit, recorder=self._recorder, now=now)

    async def doubts(self) -> Mapping[WrappingVersionId, Doubt]:
        """See `WatchStore.doubts`."""
        return await self._runner.read(verdicts.doubts)
