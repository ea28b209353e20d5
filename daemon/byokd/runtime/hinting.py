"""Signals from outside become hints: known vaults only, and no more of them than each source may ask for."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import blake2b
from math import ceil

from byokd.domain.identifiers import VaultHost, WatchId
from byokd.domain.signals import Signal
from byokd.ports import Clock
from byokd.runtime.metrics import Metrics
from byokd.runtime.scheduler import Scheduler
from byokd.settings import EventGridSettings
from byokd.settings.event_grid import SourceSettings

REMEMBERED = 10_000
"""Events of a source known by their digest, about 1 MB: what is delivered again is not followed again."""

_MINUTE = 60.0


class HintOutcome(StrEnum):
    """What became of a signal."""

    FOLLOWED = "followed"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"
    IGNORED = "ignored"
    REFUSED = "refused"


class BudgetSpentError(Exception):
    """A source asks for more than it may. `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("the source asks for more looks than it may")
        self.retry_after = retry_after


class WatchesUnknownError(Exception):
    """What is watched was not read yet: nobody can say whose keys a signal is about."""


class StoppingError(Exception):
    """The daemon is stopping: nobody would look."""


class Source:
    """One who delivers: what it may hint at, what it may still ask for, and what it has said already."""

    def __init__(self, name: str, settings: SourceSettings, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._rate = settings.hints_per_minute / _MINUTE
        self._left = float(settings.hints_per_minute)
        self._counted_at = clock.monotonic()
        self._told: OrderedDict[bytes, None] = OrderedDict()

    def may_hint_at(self, host: VaultHost) -> bool:
        """Whether a vault is one of its own."""
        return any(
            host == pattern or (pattern.startswith("*.") and host.partition(".")[2] == pattern[2:])
            for pattern in self.settings.vaults
        )

    def spend(self, looks: int) -> None:
        """Count looks that it asks for; what is more than it may ask for in a minute counts as that.

        Raises:
            BudgetSpentError: so many are not left; none is counted.
        """
        looks = min(looks, self.settings.hints_per_minute)
        now = self._clock.monotonic()
        self._left = min(float(self.settings.hints_per_minute), self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if self._left < looks:
            raise BudgetSpentError(ceil((looks - self._left) / self._rate))
        self._left -= looks

    def is_repeated(self, signal: Signal) -> bool:
        """Whether this event was followed before."""
        return bool(signal.id) and _digest(signal) in self._told

    def remember(self, signal: Signal) -> None:
        """Note that an event was followed."""
        self._told[_digest(signal)] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)


class Hints:
    """Has watches looked at that signals are about."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        clock: Clock,
        metrics: Metrics,
        settings: EventGridSettings,
        suffixes: Sequence[str],
    ) -> None:
        """Take the collaborators; `suffixes` are those that hosts of vaults may have."""
        self._scheduler = scheduler
        self._metrics = metrics
        self._suffixes = suffixes
        self._is_stopping = False
        self.sources = {name: Source(name, one, clock) for name, one in settings.sources.items()}
        self.webhooks = {name: one for name, one in self.sources.items() if one.settings.kind == "webhook"}
        self.queues = {name: one for name, one in self.sources.items() if one.settings.kind == "queue"}

    def stop(self) -> None:
        """Take nothing more: what was said would go with the process."""
        self._is_stopping = True

    @property
    def can_take(self) -> bool:
        """Whether it is known what signals are about, and somebody follows them."""
        return self._scheduler.knows_watches and not self._is_stopping

    def bequeath(self, heir: Scheduler) -> None:
        """Have watches looked at by who succeeds our scheduler: deliveries that began before a reload end with us."""
        self._scheduler = heir

    def take(self, source: Source, signals: Iterable[Signal], *, passed_over: int) -> None:
        """Follow what a source says; again the same is not followed again.

        Raises:
            WatchesUnknownError: the daemon has just started; nothing was taken: deliver it again later.
            StoppingError: it is stopping; likewise.
            BudgetSpentError: the rest was not taken, and what was is remembered: deliver it again later.
        """
        if self._is_stopping:
            raise StoppingError
        if not self.can_take:
            raise WatchesUnknownError
        self._count(source, HintOutcome.IGNORED, passed_over)
        left = deque(signals)
        while left:
            try:
                outcome = self._follow(source, left[0])
            except BudgetSpentError:
                self._count(source, HintOutcome.REFUSED, len(left))
                raise
            left.popleft()
            self._count(source, outcome, 1)

    def _follow(self, source: Source, signal: Signal) -> HintOutcome:
        if source.is_repeated(signal):
            return HintOutcome.REPEATED
        hosts = [host for host in self._hosts(signal) if source.may_hint_at(host)]
        if not hosts:
            return HintOutcome.FOREIGN
        watches: list[WatchId] = [watch for host in hosts for watch in self._scheduler.watches_of(host, key=signal.key)]
        # Only what makes a look of its own is charged, or a key that changes often would keep others from being heard.
        if looks := [watch for watch in watches if not self._scheduler.is_hinted(watch)]:
            source.spend(len(looks))
        for watch in watches:
            self._scheduler.hint(watch)
        source.remember(signal)
        return HintOutcome.FOLLOWED if watches else HintOutcome.UNKNOWN

    def _hosts(self, signal: Signal) -> Sequence[VaultHost]:
        if signal.is_host:
            known = signal.vault.partition(".")[2] in self._suffixes
            return [VaultHost(signal.vault)] if known else []
        return [VaultHost(f"{signal.vault}.{suffix}") for suffix in self._suffixes]

    def _count(self, source: Source, outcome: HintOutcome, number: int) -> None:
        if number:
            self._metrics.hints.labels(source.name, outcome).inc(number)


def _digest(signal: Signal) -> bytes:
    return blake2b(signal.id.encode(), digest_size=16).digest()
