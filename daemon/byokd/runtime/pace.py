"""How fast one vault is asked: a bound on checks at once, and backoff while it fails or throttles."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta

from byokd.domain.vocabulary import Reason

OUR_TROUBLE = frozenset({Reason.TOKEN_UNAVAILABLE})
"""Reasons that say nothing of the vault: its pace stays as it is."""


@dataclass(frozen=True, slots=True)
class PaceBounds:
    """The settings that a pace follows."""

    concurrency: int
    backoff_first: timedelta
    backoff_most: timedelta


@dataclass(slots=True)
class Pace:
    """One vault's. Times are seconds of the monotonic clock."""

    bounds: PaceBounds
    running: int = 0
    backoff: timedelta | None = None
    next_try: float = 0.0
    silence: Reason | None = None
    waiting: deque[int] = field(default_factory=deque)

    @property
    def failing(self) -> bool:
        """Whether the vault failed or throttled when it was last asked."""
        return self.backoff is not None

    def full(self) -> bool:
        """Whether no further check may start: at the bound, or while one probes a failing vault."""
        return self.running >= (1 if self.failing else self.bounds.concurrency)

    def failed(self, now: float, reason: Reason | None) -> None:
        """Note that the vault did not answer, and why if that is known; the wait doubles, once per try."""
        self.silence = reason
        if self.backoff is None:
            self.backoff = self.bounds.backoff_first
        elif now >= self.next_try:
            self.backoff = min(self.backoff * 2, self.bounds.backoff_most)
        else:
            return
        self.next_try = now + self.backoff.total_seconds()

    def answered(self) -> None:
        """Note that the vault answered."""
        self.backoff = self.silence = None
        self.next_try = 0.0
