"""The clock, randomness and ids of the machine."""

import asyncio
import secrets
import uuid
from datetime import UTC, datetime
from random import SystemRandom


class SystemClock:
    """The `Clock` of the machine; intervals are those of the event loop, so that a loop on virtual time is obeyed."""

    def now(self) -> datetime:
        """Give the present time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give the event loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class SystemRandomness:
    """The `Randomness` of the operating system."""

    def __init__(self) -> None:
        self._random = SystemRandom()

    def bytes(self, count: int) -> bytes:
        """Give bytes fit for keys."""
        return secrets.token_bytes(count)

    def uniform(self, low: float, high: float) -> float:
        """Give a number between `low` and `high`."""
        return self._random.uniform(low, high)


class UuidIds:
    """Random UUIDs (version 4)."""

    def new(self) -> str:
        """Give a new one."""
        return str(uuid.uuid4())
