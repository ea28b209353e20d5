"""An independent subscriber: what the demo believes is what arrives here, not what the daemon says."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiomqtt


@dataclass(frozen=True, slots=True)
class Heard:
    """One message: when it came (monotonic seconds), on which topic, and its event (None: emptied)."""

    at: float
    topic: str
    event: dict[str, Any] | None

    @property
    def type(self) -> str:
        """The CloudEvents type; empty for an emptied retained message."""
        return "" if self.event is None else str(self.event.get("type", ""))

    @property
    def data(self) -> dict[str, Any]:
        """The event's data."""
        return {} if self.event is None else dict(self.event.get("data", {}))


@dataclass(slots=True)
class Watcher:
    """Remembers every message, and the retained state of every account by name."""

    prefix: str
    client: aiomqtt.Client
    heard: list[Heard] = field(default_factory=list)
    states: dict[str, Heard] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def state(self, name: str) -> dict[str, Any]:
        """Give the present state of an account as the bus has it; empty when there is none."""
        return self.states[name].data if name in self.states else {}

    def events(self, *, since: int, event_type: str) -> list[Heard]:
        """Give the events of a type that came after a mark."""
        return [one for one in self.heard[since:] if one.type == event_type and one.topic.endswith("/events")]

    def mark(self) -> int:
        """Give a mark for `events`."""
        return len(self.heard)

    async def until(self, condition: Callable[[], bool], *, seconds: float) -> float | None:
        """Wait until a condition holds; give how long it took, or None when it did not come true in time."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        return time.monotonic() - started

    async def clear_retained(self) -> None:
        """Empty every retained message that was heard: a broker that belongs to others is left as it was found."""
        topics = {heard.topic for heard in self.heard if not heard.topic.endswith("/events")}
        for topic in sorted(topics | self.notes):
            await self.client.publish(topic, b"", qos=1, retain=True)

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message in. The daemon's own note to itself is no news."""
        if topic == f"{self.prefix}/service/marker":
            self.notes.add(topic)
            return
        heard = Heard(time.monotonic(), topic, json.loads(payload) if payload else None)
        self.heard.append(heard)
        if topic.startswith(f"{self.prefix}/accounts/") and topic.endswith("/state"):
            self.states[topic.split("/")[-2]] = heard
        self._news.set()


class BrokerUnusableError(Exception):
    """The demo cannot talk to the broker."""


@asynccontextmanager
async def watching(broker: str, *, prefix: str, client_id: str) -> AsyncIterator[Watcher]:
    """Subscribe to everything below a prefix, with a connection of its own.

    Raises:
        BrokerUnusableError: there is no MQTT 5 broker, or it was lost.
    """
    address = urlsplit(broker)
    client = aiomqtt.Client(
        address.hostname or "127.0.0.1",
        address.port or 1883,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(client)
        except aiomqtt.MqttError as error:
            raise BrokerUnusableError(f"no MQTT 5 broker at {broker}: {error}") from None
        watcher = Watcher(prefix, client)

        async def listen() -> None:
            async for message in client.messages:
                watcher.take(str(message.topic), message.payload)

        await client.subscribe(f"{prefix}/#", qos=1)
        listening = asyncio.create_task(listen(), name="demo-watcher")
        try:
            yield watcher
        finally:
            listening.cancel()
            await asyncio.wait({listening})
