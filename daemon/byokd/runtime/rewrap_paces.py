"""How fast account keys are moved, vault by vault and watch by watch: one customer's trouble is not another's."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import VaultHost, WatchId
from byokd.domain.vocabulary import RefusalKind
from byokd.ports import SealBrokenError, ServiceKeyMissingError
from byokd.records import RewrapQueue
from byokd.runtime.account_keys import PayloadInvalidError, VaultRefusedError
from byokd.runtime.pace import Pace, PaceBounds, is_of_the_vault

_OF_THE_ACCOUNT = (PayloadInvalidError, SealBrokenError, ServiceKeyMissingError)


@dataclass(slots=True)
class Pair:
    """What one rewrap goes by: the pace of its vault, which may not answer, and of its watch, which may be refused."""

    vault: Pace
    watch: Pace
    slots: asyncio.Semaphore

    @property
    def failing(self) -> bool:
        """Whether only one account is to be tried, for all of them."""
        return self.vault.failing or self.watch.failing

    @property
    def next_try(self) -> float:
        """When one may be tried (monotonic)."""
        return max(self.vault.next_try, self.watch.next_try)

    def went_well(self, begun: float) -> None:
        """Note a rewrap that was begun at that time."""
        for pace in (self.vault, self.watch):
            if begun >= pace.next_try:
                pace.answered()

    def went_wrong(self, error: Exception, *, begun: float, now: float) -> None:
        """Note a failure. What was begun before the last one brings no news: one try doubles the wait only once."""
        silence = _silence(error)
        if silence is not None and is_of_the_vault(silence.reason, [silence.evidence]):
            if begun >= self.vault.next_try:
                self.vault.failed(now, silence.reason, retry_after=silence.retry_after)
            return
        reason = None if silence is None else silence.reason
        if isinstance(error, VaultRefusedError) and begun >= self.vault.next_try and reason is None:
            self.vault.answered()
        if not _is_of_the_account(error) and begun >= self.watch.next_try:
            self.watch.failed(now, reason)


class RewrapPaces:
    """Of the vaults and watches that have something to move; forgotten with the last of it."""

    def __init__(self, bounds: PaceBounds) -> None:
        """Take the settings."""
        self._bounds = bounds
        self._vaults: dict[VaultHost, tuple[Pace, asyncio.Semaphore]] = {}
        self._watches: dict[WatchId, Pace] = {}

    def of(self, queue: RewrapQueue) -> Pair:
        """Give the paces of a queue."""
        if queue.host not in self._vaults:
            self._vaults[queue.host] = Pace(self._bounds), asyncio.Semaphore(self._bounds.concurrency)
        vault, slots = self._vaults[queue.host]
        return Pair(vault, self._watches.setdefault(queue.watch, Pace(self._bounds)), slots)

    def keep(self, queues: Collection[RewrapQueue]) -> None:
        """Forget all but these. A version that was denied and is usable again is so begun at once."""
        watches, hosts = {queue.watch for queue in queues}, {queue.host for queue in queues}
        for watch in self._watches.keys() - watches:
            del self._watches[watch]
        for host in self._vaults.keys() - hosts:
            del self._vaults[host]


def _silence(error: Exception) -> NoAnswer | None:
    if isinstance(error, VaultRefusedError) and isinstance(error.answer, NoAnswer):
        return error.answer
    return None


def _is_of_the_account(error: Exception) -> bool:
    """Whether it says nothing of the other accounts of the watch: a damaged record, or a wrap that nothing opens."""
    if isinstance(error, VaultRefusedError) and isinstance(error.answer, Refused):
        return error.answer.kind is RefusalKind.BAD_REQUEST
    return isinstance(error, _OF_THE_ACCOUNT)
