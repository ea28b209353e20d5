"""Moves account keys to the newest version: unwrap with the old, wrap with the new, prove it, commit."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from byokd.domain.identifiers import WatchId
from byokd.domain.payload import PayloadInvalidError
from byokd.ports import Clock, KeyTarget, SealBrokenError, ServiceKeyMissingError, StaleError, Store
from byokd.records import RewrapWork, SealedKey
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError, WrapUnprovenError, rebound
from byokd.runtime.metrics import Metrics
from byokd.runtime.waking import Bell
from byokd.settings import RewrapSettings

BATCH = 200
"""Work items read at once; what is not in the batch waits in the store."""

POLL = timedelta(seconds=5)
"""How often to look without being told: for retries that have become due and work left by a crash."""

_FAILURES = (VaultRefusedError, WrapUnprovenError, PayloadInvalidError, SealBrokenError, ServiceKeyMissingError)
_log = structlog.get_logger()


class Rewrapper:
    """Holds nothing: what there is to do is in the store, one item per account, so it resumes by itself."""

    def __init__(
        self,
        store: Store,
        account_keys: AccountKeys,
        *,
        clock: Clock,
        settings: RewrapSettings,
        metrics: Metrics,
        on_change: Callable[[], None],
        on_retired: Callable[[WatchId], Awaitable[None]],
    ) -> None:
        """Take the collaborators.

        Args:
            store: where the work is.
            account_keys: does it.
            clock: for due times.
            settings: bounds and waits.
            metrics: counts.
            on_change: called after events were committed.
            on_retired: awaited for each watch that lost a wrapping version.
        """
        self._store = store
        self._account_keys = account_keys
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._on_change = on_change
        self._on_retired = on_retired
        self._bell = Bell()

    def notify(self) -> None:
        """Tell that there may be work."""
        self._bell.ring()

    async def run(self) -> None:
        """Rewrap for ever."""
        while True:
            batch = await self._store.rewrap_work(limit=BATCH, now=self._clock.now())
            await self._work_through(list(batch))
            await self._settle_old()
            if len(batch) < BATCH:
                await self._bell.wait(POLL.total_seconds())

    async def _work_through(self, batch: list[RewrapWork]) -> None:
        """Do a batch, at most `concurrency` at once."""

        async def worker() -> None:
            while batch:
                await self._rewrap(batch.pop(0))
                self._on_change()

        async with asyncio.TaskGroup() as workers:
            for number in range(min(self._settings.concurrency, len(batch))):
                workers.create_task(worker(), name=f"rewrap-{number}")

    async def _rewrap(self, work: RewrapWork) -> None:
        try:
            sealed = await self._move(work)
            await self._store.commit_rewrap(work, sealed, now=self._clock.now())
        except StaleError:
            return  # the account or its target changed meanwhile: the next batch has what is left to do
        except _FAILURES as error:
            await self._failed(work, error)
        else:
            self._metrics.rewraps.labels("done").inc()
            _log.info("account-key-rewrapped", account=str(work.account.id), key=str(work.target))

    async def _move(self, work: RewrapWork) -> SealedKey:
        customer_key = work.account.spec.customer_key
        if customer_key is None or work.wrapped.key_identifier is None:
            raise AssertionError("only keys under a customer key are rewrapped")
        identity, tenant = customer_key.identity, work.account.spec.tenant
        payload = await self._account_keys.open(work.wrapped, KeyTarget(identity, tenant, work.wrapped.key_identifier))
        account = work.account.id
        return await self._account_keys.place(
            rebound(payload, account), account, KeyTarget(identity, tenant, work.target)
        )

    async def _failed(self, work: RewrapWork, error: Exception) -> None:
        wait = min(self._settings.retry_first * 2 ** min(work.attempts, 20), self._settings.retry_most)
        now = self._clock.now()
        self._metrics.rewraps.labels("failed").inc()
        _log.warning("rewrap-failed", account=str(work.account.id), attempt=work.attempts + 1, why=str(error))
        try:
            await self._store.rewrap_failed(work, str(error), now=now, retry_at=now + wait)
        except StaleError:
            return  # as above

    async def _settle_old(self) -> None:
        now = self._clock.now()
        settled = await self._store.settle(before=now - self._settings.settle, now=now)
        for watch in settled.watches:
            await self._on_retired(watch)
        if settled.watches:
            self._on_change()
