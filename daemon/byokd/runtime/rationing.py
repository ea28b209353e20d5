"""Spends of each vault's limit only our share: a token bucket per vault, around the KeyService.

The limit is Key Vault's documented one, per vault and 10 s: 4000 of everything, but that operations with private keys
weigh more by their size and in an HSM. It is shared with whatever else the customer does with the vault.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from byokd.domain.answers import OWN_LIMIT, Evidence, KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import KeyIdentifier, VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import Clock, KeyService, KeyTarget
from byokd.runtime.metrics import Metrics
from byokd.runtime.waking import Bell

_Answer = TypeVar("_Answer")

WINDOW: Final = timedelta(seconds=10)
LIMIT: Final = 4000
"""Units that a vault grants in WINDOW; one is a GET, or one operation with an RSA 2048 key in software."""

BURST: Final = 0.1
"""Part of our share that may be spent at once. What comes after flows at the rate of the rest, so that no 10 s hold
more than the share. A restart grants one burst anew."""

_SOFTWARE: Final = {2048: 1, 3072: 4, 4096: 8}
DEAREST: Final = 16
"""An operation with a key of which nothing is known yet counts as with the dearest one: RSA 4096 in an HSM."""

MOST_KNOWN: Final = 50_000
"""Key versions whose weight is remembered, some 300 bytes each. Of those forgotten the size is read off what they
wrapped, and they count as in an HSM until the next GET."""


class Priority(StrEnum):
    """What a call is for, the most urgent first."""

    CONFIRMATION = "confirmation"
    CHECK = "check"
    USE = "use"
    REWRAP = "rewrap"
    VERIFICATION = "verification"


HEAD_START: Final = {
    Priority.CONFIRMATION: 3600.0,
    Priority.CHECK: 4.0,
    Priority.USE: 2.0,
    Priority.REWRAP: 0.0,
    Priority.VERIFICATION: -4.0,
}
"""Seconds by which a call goes before those that came sooner.

Somebody waits for a use, and nobody for a rewrap. A check goes before both, unless they have waited for most of a
check's deadline: a vault with more keys than its limit lets us check would else never have one moved or used.
"""


@dataclass(slots=True)
class Patience:
    """How long the caller can wait (monotonic), and how long it was made to, over all calls of one piece of work."""

    until: float = math.inf
    waited: float = 0.0


PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)
"""The present caller's: its deadline is set outside of the KeyService, which does not know of it."""


def own_limit(operation: str) -> NoAnswer:
    """Give the answer of a call that was not made, or got too little time, because of our own limit."""
    return NoAnswer(Reason.THROTTLED, Evidence(operation, code=OWN_LIMIT))


@dataclass(slots=True, eq=False)
class _Waiter:
    units: int
    gone: bool = False
    bell: Bell = field(default_factory=Bell)


@dataclass(slots=True)
class _Bucket:
    """One vault's: units at hand at some moment, and who waits for more, the most urgent first."""

    units: float
    at: float
    waiting: list[tuple[float, int, _Waiter]] = field(default_factory=list)

    def first(self) -> _Waiter | None:
        while self.waiting and self.waiting[0][2].gone:
            heapq.heappop(self.waiting)
        return self.waiting[0][2] if self.waiting else None


class Rations:
    """The buckets of all vaults, for all ways to them. Full ones with nobody waiting are forgotten."""

    def __init__(self, share: float, *, clock: Clock, metrics: Metrics) -> None:
        """Take the share of the documented limit that may be spent (0: no limit), the clock and the metrics."""
        self.share = share
        self._clock = clock
        self._metrics = metrics
        ours = share * LIMIT
        self._burst = ours * BURST
        self._rate = ours * (1 - BURST) / WINDOW.total_seconds()
        self._buckets: dict[VaultHost, _Bucket] = {}
        self._tickets = 0
        self._swept_at = clock.monotonic()
        self._weights: OrderedDict[KeyIdentifier, int] = OrderedDict()

    def __len__(self) -> int:
        """Give how many buckets there are."""
        return len(self._buckets)

    def with_share(self, share: float) -> "Rations":
        """Give these, or, when the share is another one, new ones."""
        return self if share == self.share else Rations(share, clock=self._clock, metrics=self._metrics)

    def of(self, keys: KeyService, priority: Priority) -> "RationedKeys":
        """Give a key service whose calls are made within the limit."""
        return RationedKeys(keys, self, priority)

    async def take(self, host: VaultHost, units: int, priority: Priority) -> bool:
        """Wait until a call of this weight may be made; false when the caller could not wait that long."""
        if self.share == 0:
            return True
        now = self._clock.monotonic()
        self._forget_full(now)
        bucket = self._buckets.get(host)
        if bucket is None:
            bucket = self._buckets[host] = _Bucket(self._burst, now)
        self._refill(bucket, now)
        if bucket.first() is None and bucket.units >= units:
            bucket.units -= units
            return True
        patience, granted = PATIENCE.get() or Patience(), False
        try:
            if now + self._seconds_until(bucket, units) < patience.until:
                granted = await self._wait(bucket, units, priority, patience.until)
        finally:
            # Noted also when the caller's own deadline cuts the wait off.
            waited = self._clock.monotonic() - now
            patience.waited += waited
            self._metrics.vault_wait_seconds.labels(priority).observe(waited)
            if not granted:
                self._metrics.vault_waits_given_up.labels(priority).inc()
        return granted

    def weight(self, key: KeyIdentifier, *, wrapped: bytes | None) -> int:
        """Give what an operation with this version costs; `wrapped`, what it is to unwrap, is as long as the key."""
        known = self._weights.get(key)
        if known is not None:
            self._weights.move_to_end(key)
            return known
        return DEAREST if wrapped is None else 2 * _SOFTWARE.get(len(wrapped) * 8, DEAREST // 2)

    def learn(self, key: KeyIdentifier, facts: KeyFacts) -> None:
        """Remember what GET told of a key."""
        in_hsm = facts.key_type.endswith("-HSM")
        self._weights[key.at(facts.version)] = _SOFTWARE.get(facts.bits, DEAREST // 2) * (2 if in_hsm else 1)
        if len(self._weights) > MOST_KNOWN:
            self._weights.popitem(last=False)

    async def _wait(self, bucket: _Bucket, units: int, priority: Priority, until: float) -> bool:
        waiter = _Waiter(units)
        self._tickets += 1
        place = self._clock.monotonic() - HEAD_START[priority]
        heapq.heappush(bucket.waiting, (place, self._tickets, waiter))
        try:
            while (now := self._clock.monotonic()) < until:
                self._refill(bucket, now)
                left = until - now
                if bucket.first() is waiter:
                    if bucket.units >= units:
                        bucket.units -= units
                        return True
                    left = min(left, (units - bucket.units) / self._rate)
                await waiter.bell.wait(None if left == math.inf else left)
            return False
        finally:
            waiter.gone = True
            if (following := bucket.first()) is not None:
                following.bell.ring()

    def _seconds_until(self, bucket: _Bucket, units: int) -> float:
        """Give the least time that a call of this weight has to wait, were it the most urgent one."""
        return max(0.0, (units - bucket.units) / self._rate)

    def _refill(self, bucket: _Bucket, now: float) -> None:
        bucket.units = min(self._burst, bucket.units + (now - bucket.at) * self._rate)
        bucket.at = now

    def _forget_full(self, now: float) -> None:
        """Forget, once per WINDOW, what is as if it had never been asked."""
        if now - self._swept_at < WINDOW.total_seconds():
            return
        self._swept_at = now
        for host, bucket in list(self._buckets.items()):
            self._refill(bucket, now)
            if bucket.units >= self._burst and bucket.first() is None:
                del self._buckets[host]


class RationedKeys:
    """A key service that makes its calls within a vault's ration; see the port.

    A call that cannot be made before its caller's deadline is not made: `NoAnswer` with the code OWN_LIMIT, which says
    nothing of the vault.
    """

    def __init__(self, keys: KeyService, rations: Rations, priority: Priority) -> None:
        self._keys = keys
        self._rations = rations
        self._priority = priority

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """See `KeyService.get`."""
        answer = await self._within(target, 1, "get", lambda: self._keys.get(target))
        if isinstance(answer, KeyFacts):
            self._rations.learn(target.key, answer)
        return answer

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """See `KeyService.wrap`."""
        units = self._rations.weight(target.key, wrapped=None)
        return await self._within(target, units, "wrapKey", lambda: self._keys.wrap(target, plaintext))

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """See `KeyService.unwrap`."""
        units = self._rations.weight(target.key, wrapped=wrapped)
        return await self._within(target, units, "unwrapKey", lambda: self._keys.unwrap(target, wrapped))

    async def _within(
        self, target: KeyTarget, units: int, operation: str, call: Callable[[], Awaitable[_Answer]]
    ) -> _Answer | NoAnswer:
        if not await self._rations.take(target.key.host, units, self._priority):
            return own_limit(operation)
        return await call()
