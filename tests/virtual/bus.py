"""A bus in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.ports import BusMessage, BusUnavailableError

PREFIX = "byokd/v1"


class MemoryBus:
    """A broker that accepts everything, keeps what is retained, and notes when what came."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, BusMessage]] = []
        self.retained: dict[str, bytes] = {}
        self.down = False
        self._lost: set[asyncio.Event] = set()

    def drop(self) -> None:
        """Break every connection and take no new one until `back`."""
        self.down = True
        for lost in self._lost:
            lost.set()

    def back(self) -> None:
        self.down = False

    @asynccontextmanager
    async def connect(
        self,
        client_id: str,
        *,
        will: BusMessage | None = None,  # noqa: ARG002 - nobody here watches for absence
    ) -> AsyncIterator["MemorySession"]:
        if self.down:
            raise BusUnavailableError(f"no broker for {client_id}")
        lost = asyncio.Event()
        self._lost.add(lost)
        try:
            yield MemorySession(self, lost)
        finally:
            self._lost.discard(lost)

    def told(self, account: AccountId) -> list[dict[str, Any]]:
        """The events of an account as they came, with the virtual second at which they did."""
        topic = f"{PREFIX}/{account.topic}/events"
        return self._events(topic)

    def told_of_key(self, key: KeyIdentifier) -> list[dict[str, Any]]:
        return self._events(f"{PREFIX}/{key.topic}/events")

    def _events(self, topic: str) -> list[dict[str, Any]]:
        return [{**json.loads(message.payload), "at": at} for at, message in self.messages if message.topic == topic]


class MemorySession:
    def __init__(self, bus: MemoryBus, lost: asyncio.Event) -> None:
        self._bus = bus
        self._lost = lost

    async def publish(self, message: BusMessage) -> None:
        await asyncio.sleep(0)
        if self._lost.is_set():
            raise BusUnavailableError("the connection was lost")
        self._bus.messages.append((asyncio.get_running_loop().time(), message))
        if message.retain and message.payload:
            self._bus.retained[message.topic] = message.payload
        elif message.retain:
            self._bus.retained.pop(message.topic, None)

    async def retained(self, topic: str) -> bytes | None:
        await asyncio.sleep(0)
        if self._lost.is_set():
            raise BusUnavailableError("the connection was lost")
        return self._bus.retained.get(topic)

    async def lost(self) -> None:
        await self._lost.wait()
