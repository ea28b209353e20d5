"""Waiting for what cannot tell by itself that it has come."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 15
POLL_SECONDS = 0.01


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition is another program's
            await asyncio.sleep(POLL_SECONDS)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - as above
            await asyncio.sleep(5 * POLL_SECONDS)
