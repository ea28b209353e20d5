"""Events: those that wait for the broker, the history of all, and the heads of its streams."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.chain import Heads
from byokd.records import OutboxRow


class EventStore(Protocol):
    """Events and their history. Each method is one transaction; see `Store`."""

    async def unpublished(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        """Give unpublished events with a number above `after`, in order."""
        ...

    async def mark_published(self, numbers: Sequence[int], *, now: datetime) -> None:
        """Note that the broker acknowledged these events."""
        ...

    async def contiguous(self) -> int:
        """Give the number up to which every event is published; 0 when none is."""
        ...

    async def resend(self, *, after: int | None, since: datetime) -> int:
        """Make events unpublished again that the broker has lost; give how many.

        `after` is the number of the last event that it is known to have. Of what came later, everything since that time
        is sent again, and of each account's older events only the last, which carries the whole state. Without such a
        number, or with one that was never given, the last event of every account, also of those deleted since: what
        a broker still retains of them must be emptied. What is sent again of one account never ends with an older
        event than it had before, as long as nobody publishes meanwhile.
        """
        ...

    async def forget(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` published events from before that time, oldest first; give how many were deleted.

        However old, these stay: unpublished events, the last event of each account that exists (its state may have to
        be sent again), the last event of all (its number tells what has been given), and what follows a kept event in
        its stream: the chain of a stream is only shortened from its beginning.
        """
        ...

    async def history(self, *, after: int, limit: int, stream: str | None = None) -> Sequence[OutboxRow]:
        """Give events with a number above `after`, published or not, in order: all, or those of one stream."""
        ...

    async def number_before(self, since: datetime) -> int:
        """Give the number after which the first event of that time or later comes; the last one's when none does."""
        ...

    async def heads(self) -> Heads:
        """Give the heads of all streams at this moment."""
        ...

    async def untold_since(self) -> datetime | None:
        """Give since when heads were not recorded: the time of the last record, or of the first event without one.

        None when nothing happened since.
        """
        ...

    async def record_heads(self, heads: Heads, *, now: datetime) -> None:
        """Write `audit-heads`."""
        ...
