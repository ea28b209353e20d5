"""A webhook: remembers what it is sent, and answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Got:
    method: str
    headers: Mapping[str, str]
    query: str
    body: Any

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.body if isinstance(self.body, list) else [self.body]


Answer = Callable[[Got], web.Response]


def agree(got: Got) -> web.Response:
    """What a good receiver says to both handshakes."""
    if got.method == "OPTIONS":
        return web.Response(headers={"WebHook-Allowed-Origin": got.headers["WebHook-Request-Origin"]})
    return web.json_response({"validationResponse": got.body[0]["data"]["validationCode"]})


class Receiver:
    def __init__(self) -> None:
        self.url = ""
        self.handshakes: list[Got] = []
        self.deliveries: list[Got] = []
        self.handshake: Answer = agree
        self.statuses: list[int] = []
        """What the next deliveries are answered with; 200 after the last."""
        self.open = asyncio.Event()
        self.open.set()
        """Answers wait for this."""
        self._changed = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def start(cls, context: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        receiver = cls()
        app = web.Application()
        app.router.add_route("*", "/events", receiver._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        scheme = "http" if context is None else "https"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/events"
        try:
            yield receiver
        finally:
            await runner.cleanup()

    async def got(self, count: int) -> list[Got]:
        """The first `count` deliveries, once they are there."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries[:count]

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The first `count` events, in the order of their arrival."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self._events()) >= count)
        return self._events()[:count]

    def _events(self) -> list[dict[str, Any]]:
        return [event for one in self.deliveries for event in one.events]

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        got = Got(request.method, request.headers.copy(), request.query_string, body)
        if got.method == "OPTIONS" or got.headers.get("aeg-event-type") == "SubscriptionValidation":
            self.handshakes.append(got)
            return self.handshake(got)
        status = self.statuses.pop(0) if self.statuses else 200
        async with self._changed:
            self.deliveries.append(got)
            self._changed.notify_all()
        await self.open.wait()
        return web.Response(status=status, headers={"Location": self.url} if status in (302, 307) else {})
