"""A Storage Queue on virtual time, with trouble on demand: what is received is hidden for a while, counted, and deleted
only by its newest receipt."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from byokd.ports.queues import QueuedMessage, QueueTrouble, QueueUnavailableError

Mishap = Literal["before", "after", "hang"] | None
"""A call fails and did nothing; fails and did it; never answers; or works."""


@dataclass(slots=True)
class Kept:
    text: str
    visible_at: float = 0.0
    tries: int = 0
    receipt: str = ""


@dataclass
class SimulatedQueue:
    batch: int = 16
    visibility: float = 60.0
    seconds: float = 0.02
    mishaps: Iterator[Mishap] = field(default_factory=lambda: iter(()))
    trouble: QueueUnavailableError | None = None
    aside_trouble: QueueUnavailableError | None = None
    messages: dict[str, Kept] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)
    deleted: list[tuple[float, str]] = field(default_factory=list)
    received: list[tuple[float, int]] = field(default_factory=list)
    peeks: int = 0
    receiving: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    def write(self, text: str) -> str:
        name = f"message-{next(self._numbers)}"
        self.messages[name] = Kept(text)
        return name

    async def receive(self) -> Sequence[QueuedMessage]:
        self.receiving += 1
        assert self.receiving == 1, "two at once read one queue"
        try:
            return await self._receive()
        finally:
            self.receiving -= 1

    async def _receive(self) -> Sequence[QueuedMessage]:
        mishap = await self._begin()
        got = []
        for name, kept in self.messages.items():
            if kept.visible_at <= now() and len(got) < self.batch:
                kept.visible_at, kept.tries = now() + self.visibility, kept.tries + 1
                kept.receipt = f"{name}-{kept.tries}"
                got.append(QueuedMessage(name, kept.receipt, kept.text, kept.tries))
        self.received.append((now(), len(got)))
        self._end(mishap)
        return got

    async def delete(self, message: QueuedMessage) -> None:
        mishap = await self._begin()
        kept = self.messages.get(message.id)
        if kept is not None and kept.receipt == message.receipt:
            del self.messages[message.id]
            self.on_delete(message)
            self.deleted.append((now(), message.id))
        self._end(mishap)

    async def set_aside(self, message: QueuedMessage) -> None:
        mishap = await self._begin()
        if self.aside_trouble is not None:
            raise self.aside_trouble
        self.aside.append(message.text)
        self._end(mishap)

    async def peek(self) -> None:
        self.peeks += 1
        self._end(await self._begin())

    def on_delete(self, message: QueuedMessage) -> None:
        """For tests that look at what is deleted."""

    async def _begin(self) -> Mishap:
        mishap = next(self.mishaps, None)
        await asyncio.sleep(self.seconds)
        if mishap == "hang":
            await asyncio.Event().wait()
        if self.trouble is not None:
            raise self.trouble
        if mishap == "before":
            raise QueueUnavailableError(QueueTrouble.FAILED, code="InternalError")
        return mishap

    def _end(self, mishap: Mishap) -> None:
        if mishap == "after":
            raise QueueUnavailableError(QueueTrouble.UNREACHABLE, code="ServerDisconnectedError")


def now() -> float:
    return asyncio.get_running_loop().time()
