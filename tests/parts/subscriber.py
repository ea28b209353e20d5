"""An independent subscriber, on plain aiomqtt."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiomqtt

PATIENCE_SECONDS = 15
"""How long to wait for news: as long as some come, the machine may be only slow."""

MOST_SECONDS = 90
"""How long to wait in all: what comes may not be what is waited for."""


@dataclass(frozen=True, slots=True)
class Heard:
    topic: str
    payload: bytes
    retained: bool
    properties: dict[str, Any]
    event: dict[str, Any]


@dataclass(slots=True)
class Subscriber:
    heard: list[Heard] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def on(self, topic: str) -> list[Heard]:
        return [message for message in self.heard if message.topic == topic]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(MOST_SECONDS):
            while not condition():
                self._news.clear()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._news.wait()

    async def hears(self, topic: str, *, times: int = 1) -> list[Heard]:
        await self.until(lambda: len(self.on(topic)) >= times)
        return self.on(topic)

    async def listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload
            assert isinstance(payload, bytes)
            properties = {} if message.properties is None else dict(message.properties.json())
            self.heard.append(Heard(str(message.topic), payload, bool(message.retain), properties, _event(payload)))
            self._news.set()


@asynccontextmanager
async def subscriber(
    address: str, pattern: str = "#", *, username: str | None = None, password: str | None = None
) -> AsyncIterator[Subscriber]:
    """Subscribe; retained messages that are there already arrive first, marked as such."""
    host, _, port = address.rpartition(":")
    client = aiomqtt.Client(host, int(port), username=username, password=password, protocol=aiomqtt.ProtocolVersion.V5)
    one = Subscriber()
    async with client:
        await client.subscribe(pattern, qos=1)
        listening = asyncio.create_task(one.listen(client), name="subscriber")
        try:
            yield one
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _event(payload: bytes) -> dict[str, Any]:
    try:
        event = json.loads(payload)
    except ValueError:
        return {}
    return dict(event) if isinstance(event, dict) else {}
