"""Queues that Event Grid delivers to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class QueueTrouble(StrEnum):
    """Why a queue cannot be used. None of it says anything of a key."""

    NO_TOKEN = "no-token"  # noqa: S105 - a kind, not a secret
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - as above
    NOT_PERMITTED = "not-permitted"
    NETWORK_BLOCKED = "network-blocked"
    MISSING = "missing"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed-out"
    FOREIGN_ANSWER = "foreign-answer"
    FAILED = "failed"


class QueueUnavailableError(Exception):
    """A queue cannot be used now.

    Attributes:
        trouble: why.
        code: the service's own word for it, or the kind of exception; never its text.
        retry_after: seconds that the service asks to wait.
    """

    def __init__(self, trouble: QueueTrouble, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(trouble if code is None else f"{trouble} ({code})")
        self.trouble = trouble
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that this process has for a while.

    Attributes:
        id: the queue's own, no part of what was written.
        receipt: what deletes it, until it is given to somebody again.
        text: as it was written; anybody who may write to the queue wrote it.
        tries: how often it was given out, this time included.
    """

    id: str
    receipt: str = field(repr=False)
    text: str = field(repr=False)
    tries: int


class EventQueue(Protocol):
    """One queue. Every method asks once; the caller bounds its time, and decides about asking again.

    Raises:
        QueueUnavailableError: from every method, whatever went wrong.
    """

    async def receive(self) -> Sequence[QueuedMessage]:
        """Take the next messages, at most a batch. Unless deleted, they are given out again after the time-out."""
        ...

    async def delete(self, message: QueuedMessage) -> None:
        """Delete a message for good. One that is gone, or given out again meanwhile, is no error."""
        ...

    async def set_aside(self, message: QueuedMessage) -> None:
        """Write it, as it is, to the queue for poison messages. It stays in its own until it is deleted there."""
        ...

    async def peek(self) -> None:
        """Look at the queue without taking anything."""
        ...
