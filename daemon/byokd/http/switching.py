"""Exchanging the application that is served, without closing what it listens on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from starlette.types import ASGIApp, Receive, Scope, Send

RELOAD_PATH = "/reload"
"""The one request that may be under way while the application is exchanged: it asked for that."""

_READING = {"GET", "HEAD"}


class RequestsUnderWayError(Exception):
    """Requests that change something did not end in time."""


class Switchable:
    """An application that can be exchanged for another.

    Requests that only read go on with the application that they began with; those that change something belong to one
    only, and none is lost: during the exchange new ones wait.
    """

    def __init__(self, application: ASGIApp) -> None:
        """Take the first application."""
        self._application = application
        self._open = asyncio.Event()
        self._open.set()
        self._under_way = 0
        self._idle = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in _READING or scope["path"] == RELOAD_PATH:
            await self._application(scope, receive, send)
            return
        await self._open.wait()
        self._under_way += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._under_way -= 1
            self._idle.set()

    @asynccontextmanager
    async def held(self, *, within: timedelta) -> AsyncIterator[None]:
        """Keep requests that change something waiting, once those under way have ended.

        Raises:
            RequestsUnderWayError: they have not, within that time; all goes on as before.
        """
        self._open.clear()
        try:
            await self._emptied(within)
            yield
        finally:
            self._open.set()

    def exchange(self, application: ASGIApp) -> None:
        """Serve another application from the next request on."""
        self._application = application

    async def _emptied(self, within: timedelta) -> None:
        try:
            async with asyncio.timeout(within.total_seconds()):
                while self._under_way:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            raise RequestsUnderWayError(f"{self._under_way} requests are under way") from None
