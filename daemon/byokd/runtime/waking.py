"""Waiting for whichever comes first: being told, or a time."""

import asyncio
from contextlib import suppress


class Bell:
    """Rung by whoever has news, waited for by one task. Rings while nobody waits are kept as one."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiting task, or the next one to wait."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Return when rung or after that time (None: only when rung). A cancelled wait leaves a ring for the next."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()
