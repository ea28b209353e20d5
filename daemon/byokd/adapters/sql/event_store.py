"""The EventStore port: each method hands one transaction to a runner."""

from collections.abc import Sequence
from datetime import datetime

from byokd.adapters.sql import history, outbox
from byokd.adapters.sql.part import StorePart
from byokd.domain.chain import Heads
from byokd.records import OutboxRow


class SqlEventStore(StorePart):
    """Events, in an SQL database. Obligations and errors of each method: see `EventStore`."""

    async def unpublished(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        """See `EventStore.unpublished`."""
        return await self._runner.read(outbox.unpublished, after=after, limit=limit)

    async def mark_published(self, numbers: Sequence[int], *, now: datetime) -> None:
        """See `EventStore.mark_published`."""
        await self._runner.write(outbox.mark_published, numbers, now=now)

    async def contiguous(self) -> int:
        """See `EventStore.contiguous`."""
        return await self._runner.read(outbox.contiguous)

    async def resend(self, *, after: int | None, since: datetime) -> int:
        """See `EventStore.resend`."""
        return await self._runner.write(outbox.resend, after=after, since=since)

    async def forget(self, *, before: datetime, limit: int) -> int:
        """See `EventStore.forget`."""
        return await self._runner.write(outbox.forget, before=before, limit=limit, recorder=self._recorder)

    async def history(self, *, after: int, limit: int, stream: str | None = None) -> Sequence[OutboxRow]:
        """See `EventStore.history`."""
        return await self._runner.read(history.history, after=after, limit=limit, stream=stream)

    async def number_before(self, since: datetime) -> int:
        """See `EventStore.number_before`."""
        return await self._runner.read(history.number_before, since)

    async def heads(self) -> Heads:
        """See `EventStore.heads`."""
        return await self._runner.read(history.heads)

    async def untold_since(self) -> datetime | None:
        """See `EventStore.untold_since`."""
        return await self._runner.read(history.untold_since)

    async def record_heads(self, heads: Heads, *, now: datetime) -> None:
        """See `EventStore.record_heads`."""
        await self._runner.write(history.record_heads, heads, recorder=self._recorder, now=now)
