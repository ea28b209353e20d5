"""The AccountKeyStore port: each method hands one transaction to a runner."""

from collections.abc import Sequence
from datetime import datetime

from byokd.adapters.sql import accounts, damage, rewraps, settling
from byokd.adapters.sql.part import StorePart
from byokd.domain.identifiers import AccountId, WatchId
from byokd.records import Rewrapped, RewrapQueue, RewrapWork, Settled, WrappedKey

SETTLE_BATCH = 500
"""Wraps that one transaction erases: others wait no longer for it than for a follower's."""


class SqlAccountKeyStore(StorePart):
    """Wrapped account keys, in an SQL database. Obligations and errors of each method: see `AccountKeyStore`."""

    async def wrapped_key(self, account: AccountId) -> WrappedKey | None:
        """See `AccountKeyStore.wrapped_key`."""
        return await self._runner.read(accounts.wrapped_key, account)

    async def rewrap_queues(self, *, now: datetime) -> Sequence[RewrapQueue]:
        """See `AccountKeyStore.rewrap_queues`."""
        return await self._runner.read(rewraps.rewrap_queues, now=now)

    async def rewrap_work(self, *, limit: int, now: datetime, watch: WatchId | None = None) -> Sequence[RewrapWork]:
        """See `AccountKeyStore.rewrap_work`."""
        return await self._runner.read(rewraps.rewrap_work, limit=limit, now=now, watch=watch)

    async def commit_rewraps(self, moved: Sequence[Rewrapped], *, now: datetime) -> frozenset[AccountId]:
        """See `AccountKeyStore.commit_rewraps`."""
        return await self._runner.write(rewraps.commit_rewraps, moved, recorder=self._recorder, now=now)

    async def rewrap_failed(self, work: RewrapWork, message: str, *, now: datetime, retry_at: datetime) -> None:
        """See `AccountKeyStore.rewrap_failed`."""
        await self._runner.write(
            rewraps.rewrap_failed, work, message, recorder=self._recorder, now=now, retry_at=retry_at
        )

    async def account_damaged(
        self, account: AccountId, wrapped: WrappedKey | None, message: str, *, now: datetime
    ) -> bool:
        """See `AccountKeyStore.account_damaged`."""
        return await self._runner.write(
            damage.account_damaged, account, wrapped, message, recorder=self._recorder, now=now
        )

    async def account_repaired(self, wrapped: WrappedKey, *, now: datetime) -> bool:
        """See `AccountKeyStore.account_repaired`."""
        return await self._runner.write(damage.account_repaired, wrapped, recorder=self._recorder, now=now)

    async def settle(self, *, before: datetime, now: datetime) -> Settled:
        """See `AccountKeyStore.settle`.

        Then what was erased is gone from the files too; while a backup reads them, next time.
        """
        settled, last = Settled(0, frozenset()), SETTLE_BATCH
        while last == SETTLE_BATCH:
            part = await self._runner.write(
                settling.settle, before=before, limit=SETTLE_BATCH, recorder=self._recorder, now=now
            )
            settled, last = Settled(settled.erased + part.erased, settled.watches | part.watches), part.erased
        await self._runner.scrub()
        return settled
