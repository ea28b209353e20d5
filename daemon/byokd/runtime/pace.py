"""How fast one vault is asked: a bound on checks at once, and backoff while it fails or throttles."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from byokd.domain.answers import OWN_LIMIT, Evidence, NoAnswer, ProbeAnswer
from byokd.domain.identifiers import WatchId
from byokd.domain.vocabulary import Reason
from byokd.records import Failing

OUR_TROUBLE = frozenset({Reason.TOKEN_UNAVAILABLE})
"""Reasons that say nothing of the vault: its pace stays as it is.

Its checks go on at their usual intervals, and cost no vault a call: the identity has a backoff of its own, for all.
"""


def is_of_the_vault(reason: Reason, evidence: Iterable[Evidence]) -> bool:
    """Whether a lack of an answer says something of the vault, and is no trouble or thrift of our own."""
    return reason not in OUR_TROUBLE and all(one.code != OWN_LIMIT for one in evidence)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the answers of one check say of the vault itself, whatever they say of the key.

    Attributes:
        answered: it said something of a key.
        silence: why it did not; None when it did, or when it was not asked because of trouble of our own.
        retry_after: how long it asks to be left alone.
    """

    answered: bool
    silence: Reason | None = None
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, answers: Iterable[ProbeAnswer]) -> Self:
        """Weigh what unwrapping gave: an answer to one of them shows that the vault is well."""
        silences = []
        for answer in answers:
            if not isinstance(answer, NoAnswer):
                return cls(answered=True)
            if is_of_the_vault(answer.reason, [answer.evidence]):
                silences.append(answer)
        waits = [answer.retry_after for answer in silences if answer.retry_after is not None]
        return cls(
            answered=False,
            silence=silences[0].reason if silences else None,
            retry_after=max(waits, default=None),
        )


@dataclass(frozen=True, slots=True)
class PaceBounds:
    """The settings that a pace follows."""

    concurrency: int
    backoff_first: timedelta
    backoff_most: timedelta


@dataclass(slots=True)
class Pace:
    """One vault's. Times are seconds of the monotonic clock.

    `failed_at` is when it last failed: an answer to what was begun before is no news.
    `waiting` is a heap of the watches that are due while it is full: how urgent, a ticket, which.
    """

    bounds: PaceBounds
    running: int = 0
    backoff: timedelta | None = None
    next_try: float = 0.0
    failed_at: float = 0.0
    silence: Reason | None = None
    waiting: list[tuple[float, int, WatchId]] = field(default_factory=list)

    @property
    def failing(self) -> bool:
        """Whether the vault failed or throttled when it was last asked."""
        return self.backoff is not None

    @property
    def free(self) -> int:
        """How many further checks may start: none at the bound, or while one probes a failing vault."""
        return (1 if self.failing else self.bounds.concurrency) - self.running

    def full(self) -> bool:
        """Whether no further check may start."""
        return self.free <= 0

    def failed(self, now: float, reason: Reason | None, *, retry_after: timedelta | None = None) -> None:
        """Note that the vault did not answer, and why if that is known; the wait doubles, once per try.

        `retry_after` makes a wait longer, up to the bound, and none shorter.
        """
        self.silence, self.failed_at = reason, now
        if self.backoff is None:
            self.backoff = self.bounds.backoff_first
        elif now >= self.next_try:
            self.backoff = min(self.backoff * 2, self.bounds.backoff_most)
        elif retry_after is None:
            return
        wait = min(max(self.backoff, retry_after or self.backoff), self.bounds.backoff_most)
        self.next_try = max(self.next_try, now + wait.total_seconds())

    def answered(self) -> None:
        """Note that the vault answered."""
        self.backoff = self.silence = None
        self.next_try = 0.0

    def stored(self, now: float, instant: datetime) -> Failing | None:
        """Give what a restart needs to go on alike; `now` and `instant` are the same moment. None while it answers."""
        if self.backoff is None or self.silence is None:
            return None
        return Failing(self.silence, self.backoff, instant + timedelta(seconds=self.next_try - now))

    def resume(self, failing: Failing, now: float, instant: datetime) -> None:
        """Go on where a process before this one stopped, neither sooner nor later than it would have.

        Under other settings by their bounds, and so too when the clock was set back meanwhile.
        """
        self.silence = failing.reason
        self.backoff = min(max(failing.backoff, self.bounds.backoff_first), self.bounds.backoff_most)
        left = min(failing.next_try_at - instant, self.bounds.backoff_most)
        self.next_try = now + max(0.0, left.total_seconds())
