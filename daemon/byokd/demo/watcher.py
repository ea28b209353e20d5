"""An independent subscriber: what the demo believes is what arrives here, not what the daemon says."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiomqtt

_RECONNECT_SECONDS = 0.02
_POLL_SECONDS = 0.1


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
    def id(self) -> str:
        """The event's id, by which repetitions are told; empty as `type`."""
        return "" if self.event is None else str(self.event.get("id", ""))

    @property
    def data(self) -> dict[str, Any]:
        """The event's data."""
        return {} if self.event is None else dict(self.event.get("data", {}))


@dataclass(slots=True)
class Watcher:
    """Remembers every message, and the retained state of every account by name."""

    prefix: str
    broker: str
    client_id: str
    heard: list[Heard] = field(default_factory=list)
    states: dict[str, Heard] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _client: aiomqtt.Client | None = None
    _connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Listen for ever, and connect again after each loss.

        Raises:
            aiomqtt.MqttError: the first attempt to connect failed.
        """
        while True:
            try:
                await self._listen_once()
            except aiomqtt.MqttError:
                if self._client is None:
                    raise
            self._connected.clear()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        address = urlsplit(self.broker)
        async with aiomqtt.Client(
            address.hostname or "127.0.0.1",
            address.port or 1883,
            identifier=self.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
        ) as client:
            await client.subscribe(f"{self.prefix}/#", qos=1)
            self._client = client
            self._connected.set()
            async for message in client.messages:
                self.take(str(message.topic), message.payload)

    async def connected(self) -> None:
        """Wait until the subscription is there."""
        await self._connected.wait()

    async def disconnected(self) -> None:
        """Wait until the loss of the connection was noticed."""
        while self._connected.is_set():  # noqa: ASYNC110 - an event cannot be waited for to be cleared
            await asyncio.sleep(_RECONNECT_SECONDS)

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

    async def until_true(self, condition: Callable[[], Awaitable[bool]], *, seconds: float) -> float | None:
        """As `until`, for what somebody else has to be asked about again and again."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while not await condition():  # noqa: ASYNC110 - the condition is another program's
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return None
        return time.monotonic() - started

    async def clear_retained(self) -> None:
        """Empty every retained message that was heard: a broker that belongs to others is left as it was found."""
        if self._client is None:
            return
        topics = {heard.topic for heard in self.heard if not heard.topic.endswith("/events")}
        for topic in sorted(topics | self.notes):
            await self._client.publish(topic, b"", qos=1, retain=True)

    def take(self, topic: str, payload: object) -> None:
        """Take a message in. The daemon's own note to itself is no news."""
        if topic == f"{self.prefix}/service/marker":
            self.notes.add(topic)
            return
        heard = Heard(time.monotonic(), topic, json.loads(payload) if isinstance(payload, bytes) and payload else None)
        self.heard.append(heard)
        if topic.startswith(f"{self.prefix}/accounts/") and topic.endswith("/state"):
            self.states[topic.split("/")[-2]] = heard
        self._news.set()


class BrokerUnusableError(Exception):
    """The demo cannot talk to the broker."""


@asynccontextmanager
async def watching(broker: str, *, prefix: str, client_id: str) -> AsyncIterator[Watcher]:
    """Subscribe to everything below a prefix, with a connection of its own that is made anew when it is lost.

    Raises:
        BrokerUnusableError: there is no MQTT 5 broker.
    """
    watcher = Watcher(prefix, broker, client_id)
    listening = asyncio.create_task(watcher.listen(), name="demo-watcher")
    connected = asyncio.create_task(watcher.connected(), name="demo-watcher-connects")
    try:
        await asyncio.wait({listening, connected}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            raise BrokerUnusableError(f"no MQTT 5 broker at {broker}: {listening.exception()}")
        yield watcher
    finally:
        connected.cancel()
        while not listening.done():  # its library waits by `asyncio.wait_for`, which may swallow a cancellation
            listening.cancel()
            await asyncio.wait({listening}, timeout=_RECONNECT_SECONDS)


async def retained(broker: str, prefix: str, *, enough: Callable[[Watcher], bool], seconds: float) -> Watcher:
    """Look, as a newcomer, at what the broker retains below a prefix, until it is enough or the time is over."""
    async with watching(broker, prefix=prefix, client_id=f"byokd-newcomer-{secrets.token_hex(4)}") as newcomer:
        await newcomer.until(lambda: enough(newcomer), seconds=seconds)
        return newcomer
