"""What the bus's tests are made of."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import cast

from sqlalchemy import Connection

from byokd.adapters.mqtt.bus import MqttBus
from byokd.adapters.sql import SqlStore
from byokd.adapters.sql.chain import Recorder, append
from byokd.adapters.sql.columns import encode_document
from byokd.adapters.sql.rows import Values
from byokd.ports import BusMessage, Store, StoreUnavailableError
from byokd.records import OutboxRow, Retained
from byokd.runtime.clock import SystemClock, SystemRandomness
from byokd.runtime.presence import Presence
from byokd.runtime.publisher import Publisher
from byokd.settings import MqttSettings
from store.builders import auditor

PREFIX = "byokd/v1"
TIME = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def settings(address: str, *, scheme: str = "mqtt", **changes: object) -> MqttSettings:
    """Settings of which only the waits are short."""
    quick = {
        "reconnect_first": timedelta(milliseconds=20),
        "reconnect_most": timedelta(milliseconds=200),
        "topic_prefix": PREFIX,
    }
    return MqttSettings(url=f"{scheme}://{address}", **{**quick, **changes})


def bus(address: str, **changes: object) -> MqttBus:
    return MqttBus(settings(address, **changes))


def message(topic: str = "some/events", payload: bytes = b"{}", *, retain: bool = False) -> BusMessage:
    return BusMessage(topic, payload, retain)


_numbers = count(1)


def row(stream: str = "accounts/a", *, retained: Retained = Retained.SET, **data: str | int | None) -> OutboxRow:
    number = next(_numbers)
    return OutboxRow(number, f"id-{number}", stream, "byokd.account.updated", TIME, encode_document(data), retained)


@dataclass(frozen=True, slots=True)
class _Given:
    id: str

    def new(self) -> str:
        return self.id


async def commit(store: SqlStore, *drafts: OutboxRow) -> None:
    """Write events as they are, without the accounts they would belong to."""

    def write(connection: Connection) -> None:
        for draft in drafts:
            values: Values = {
                "stream": draft.stream,
                "type": draft.type,
                "time": draft.time,
                "data": dict(draft.data),
                "retained": str(draft.retained),
            }
            append(connection, [values], Recorder(_Given(draft.id), auditor()))

    await store._runner.write(write)


async def left(store: SqlStore) -> list[str]:
    """Give the ids of the unpublished events."""
    return [waiting.id for waiting in await store.unpublished(after=0, limit=100_000)]


class UnreliableStore:
    """The real store behind a switch that makes it unusable."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.usable = True
        self.refusals = 0

    async def unpublished(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        self._check()
        return await self._store.unpublished(after=after, limit=limit)

    async def mark_published(self, numbers: Sequence[int], *, now: datetime) -> None:
        self._check()
        await self._store.mark_published(numbers, now=now)

    async def identity(self) -> str:
        self._check()
        return await self._store.identity()

    async def contiguous(self) -> int:
        self._check()
        return await self._store.contiguous()

    async def resend(self, *, after: int | None, since: datetime) -> int:
        self._check()
        return await self._store.resend(after=after, since=since)

    def _check(self) -> None:
        if not self.usable:
            self.refusals += 1
            raise StoreUnavailableError("the disk is full", hint="make room")


def publisher(
    store: object, address: str, *, on_published: Callable[[int], None] = lambda _: None, **changes: object
) -> Publisher:
    wanted = settings(address, **changes)
    return Publisher(
        cast("Store", store), MqttBus(wanted), SystemClock(), SystemRandomness(), wanted, on_published=on_published
    )


@asynccontextmanager
async def running(*runners: Publisher | Presence) -> AsyncIterator[None]:
    """Run them until the end of the block."""
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
