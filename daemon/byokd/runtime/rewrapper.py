"""Moves account keys to the newest version: unwrap with the old, wrap with the new, prove it, commit."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from byokd.domain.answers import OWN_LIMIT
from byokd.domain.identifiers import WatchId
from byokd.domain.payload import PayloadInvalidError
from byokd.ports import (
    Clock,
    KeyTarget,
    SealBrokenError,
    ServiceKeyMissingError,
    StaleError,
    Store,
    StoreUnavailableError,
)
from byokd.records import Rewrapped, RewrapQueue, RewrapWork, SealedKey
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError, WrapUnprovenError, rebound
from byokd.runtime.damages import Damages, does_not_open
from byokd.runtime.metrics import Metrics
from byokd.runtime.pace import PaceBounds
from byokd.runtime.rewrap_paces import Pair, RewrapPaces
from byokd.runtime.waking import Bell
from byokd.settings import RewrapSettings

BATCH = 200
"""Work items of one watch read at once; what is not in the batch waits in the store."""

POLL = timedelta(seconds=5)
"""How often to look without being told: for retries that have become due and work left by a crash."""

_Finished = asyncio.Queue[tuple[Rewrapped, float] | None]
"""Rewraps of one batch to be committed, with the time at which each was begun; None at the end."""

_FAILURES = (VaultRefusedError, WrapUnprovenError, PayloadInvalidError, SealBrokenError, ServiceKeyMissingError)
_log = structlog.get_logger()


class Rewrapper:
    """Moves the keys of many watches side by side, each in a lane of its own.

    What there is to do is in the store, one item per account, so it resumes by itself. At the bound of all rewraps the
    lanes take turns; at a vault's bound, only that vault's wait. While a vault does not answer, or refuses a watch, one
    account is tried, with growing waits, for all of its accounts.
    """

    def __init__(
        self,
        store: Store,
        account_keys: AccountKeys,
        damages: Damages,
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
            damages: told of records that do not open.
            clock: for due times.
            settings: bounds and waits.
            metrics: counts.
            on_change: called after events were committed.
            on_retired: awaited for each watch that lost a wrapping version.
        """
        self._store = store
        self._account_keys = account_keys
        self._damages = damages
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._on_change = on_change
        self._on_retired = on_retired
        self._bell = Bell()
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._paces = RewrapPaces(
            PaceBounds(settings.vault_concurrency, settings.vault_backoff_first, settings.vault_backoff_most)
        )
        self._lanes: dict[WatchId, RewrapQueue] = {}
        self._turns: dict[WatchId, int] = {}

    def notify(self) -> None:
        """Tell that there may be work."""
        self._bell.ring()

    async def run(self) -> None:
        """Rewrap for ever; begins anew after trouble of the store."""
        # A lane that was broken off before its first step could not take itself out.
        self._lanes.clear()
        async with asyncio.TaskGroup() as lanes:
            while True:
                queues = await self._store.rewrap_queues(now=self._clock.now())
                self._paces.keep([*queues, *self._lanes.values()])
                seconds = self._open_lanes(lanes, queues)
                await self._settle_old()
                await self._bell.wait(seconds)

    def _open_lanes(self, lanes: asyncio.TaskGroup, queues: Sequence[RewrapQueue]) -> float:
        """Open a lane for each queue that may go on now; give the seconds after which to look again."""
        self._turns = {queue.watch: self._turns.get(queue.watch, 0) for queue in queues}
        now, seconds = self._clock.monotonic(), POLL.total_seconds()
        for queue in sorted(queues, key=lambda queue: self._turns[queue.watch]):
            pair = self._paces.of(queue)
            if queue.watch in self._lanes or len(self._lanes) >= self._settings.concurrency:
                continue
            if now < pair.next_try:
                seconds = min(seconds, pair.next_try - now)
            elif not (pair.vault.failing and any(lane.host == queue.host for lane in self._lanes.values())):
                self._turns[queue.watch] += 1
                self._lanes[queue.watch] = queue
                lanes.create_task(self._lane(queue, pair), name=f"rewrap-{queue.watch}")
        return seconds

    async def _lane(self, queue: RewrapQueue, pair: Pair) -> None:
        """Do a batch of one watch, or one account of it to see whether the rest can go on."""
        limit = 1 if pair.failing else BATCH
        try:
            work = deque(await self._store.rewrap_work(limit=limit, now=self._clock.now(), watch=queue.watch))
            done = bool(work)
            finished: _Finished = asyncio.Queue()
            async with asyncio.TaskGroup() as committing:
                committing.create_task(self._commit_from(finished, pair), name=f"rewrap-{queue.watch}-commit")
                async with asyncio.TaskGroup() as workers:
                    for number in range(min(self._settings.vault_concurrency, len(work))):
                        name = f"rewrap-{queue.watch}-{number}"
                        workers.create_task(self._work_off(work, pair, finished), name=name)
                finished.put_nowait(None)
        finally:
            del self._lanes[queue.watch]
        if done:
            self._bell.ring()

    async def _work_off(self, work: deque[RewrapWork], pair: Pair, finished: _Finished) -> None:
        while work:
            async with pair.slots, self._slots:
                if work:
                    await self._rewrap(work.popleft(), pair, finished)
            if pair.failing:
                work.clear()

    async def _rewrap(self, work: RewrapWork, pair: Pair, finished: _Finished) -> None:
        begun = self._clock.monotonic()
        try:
            sealed = await self._move(work)
        except Exception as error:  # noqa: BLE001 - one customer's odd answer must not stop the rewraps of all others
            await self._went_wrong(work, error, pair, begun=begun)
        else:
            finished.put_nowait((Rewrapped(work, sealed), begun))

    async def _commit_from(self, finished: _Finished, pair: Pair) -> None:
        """Commit what a batch finishes, until its end. What is finished during a commit goes together in the next."""
        goes_on = True
        while goes_on:
            first = await finished.get()
            group = [first, *(finished.get_nowait() for _ in range(finished.qsize()))]
            done = [one for one in group if one is not None]
            goes_on = len(done) == len(group)
            if done:
                await self._commit(done, pair)

    async def _commit(self, done: Sequence[tuple[Rewrapped, float]], pair: Pair) -> None:
        try:
            moved = await self._store.commit_rewraps([rewrapped for rewrapped, _ in done], now=self._clock.now())
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - as above; alone, each shows whether it is the one
            if len(done) > 1:
                for one in done:
                    await self._commit([one], pair)
            elif not isinstance(error, StaleError):
                await self._went_wrong(done[0][0].work, error, pair, begun=done[0][1])
            return
        for rewrapped, begun in done:
            work = rewrapped.work
            # The others or their target changed meanwhile: the next batch has what is left to do.
            if work.account.id in moved:
                pair.went_well(begun)
                self._metrics.rewraps.labels("done").inc()
                _log.info("account-key-rewrapped", account=str(work.account.id), key=str(work.target))
                if work.account.damage is not None:
                    _log.info("account-repaired", account=str(work.account.id))
        self._on_change()

    async def _went_wrong(self, work: RewrapWork, error: Exception, pair: Pair, *, begun: float) -> None:
        pair.went_wrong(error, begun=begun, now=self._clock.monotonic())
        if isinstance(error, VaultRefusedError) and error.answer.evidence.code == OWN_LIMIT:
            return  # it was not tried: it stays where it is in the queue, and nobody has to hear of it
        await self._failed(work, error)
        self._on_change()

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
        why = str(error) if isinstance(error, _FAILURES) else "an error of byokd's own; its log tells more"
        if not isinstance(error, _FAILURES):
            _log.error("rewrap-broken-off", account=str(work.account.id), exc_info=error)
        wait = min(self._settings.retry_first * 2 ** min(work.attempts, 20), self._settings.retry_most)
        now = self._clock.now()
        self._metrics.rewraps.labels("failed").inc()
        _log.warning("rewrap-failed", account=str(work.account.id), attempt=work.attempts + 1, why=why)
        try:
            await self._store.rewrap_failed(work, why, now=now, retry_at=now + wait)
        except StaleError:
            return  # the account changed meanwhile
        if does_not_open(error):
            await self._damages.look_into(work.wrapped)

    async def _settle_old(self) -> None:
        now = self._clock.now()
        settled = await self._store.settle(before=now - self._settings.settle, now=now)
        for watch in settled.watches:
            await self._on_retired(watch)
        if settled.watches:
            self._on_change()
