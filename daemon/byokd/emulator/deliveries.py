"""Carries the events of one subscription to its endpoint: at least once, in no order, patiently."""

import asyncio
import heapq
import itertools
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from byokd.emulator.event_requests import WebhookClient
from byokd.emulator.grid_events import GridEvent
from byokd.emulator.subscriptions import Subscription
from byokd.emulator.vocabulary import EVENT_GRID, FaultKind, Operation
from byokd.emulator.world import World

MOST_WAITING: Final = 10_000
"""Events that may wait for one endpoint; those beyond are dropped and counted as `overflow` (chosen)."""
WAITS_SECONDS: Final = (10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200)
"""Before each further attempt; the last one again and again (documentation)."""
LEAST_WAIT_SECONDS: Final = {404: 300, 408: 120, 503: 30}
"""Longer first waits after some answers (documentation)."""
NEVER_AGAIN: Final = frozenset({400, 401, 403, 413})
"""Answers after which an event is dropped (documentation of webhooks)."""
_TAKEN: Final = range(200, 205)
_LIFE_SECONDS: Final = 86_400
_DEFAULT_LATENCY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that travel together; `attempt` counts from 0."""

    events: tuple[GridEvent, ...]
    attempt: int = 0


class Courier:
    """Delivers to one subscription. `take` never waits; `run` works until it is cancelled, or closed and done."""

    def __init__(self, world: World, client: WebhookClient, subscription: Subscription) -> None:
        self._world = world
        self._client = client
        self._subscription = subscription
        self._fresh: deque[GridEvent] = deque()
        self._again: list[tuple[float, int, Batch]] = []
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(subscription.parallel)
        self._closed = False

    def take(self, event: GridEvent) -> None:
        """Deliver this event, or drop it when too many wait."""
        if self._subscription.waiting >= MOST_WAITING:
            self._note(0, "overflow")
            return
        self._subscription.waiting += 1
        self._fresh.append(event)
        self._news.set()

    def close(self) -> None:
        """Take no more; `run` ends when everything has been delivered or dropped."""
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Deliver what was taken, at most `parallel` requests at once."""
        async with asyncio.TaskGroup() as under_way:
            while True:
                await self._slots.acquire()
                batch = await self._next()
                if batch is None:
                    return
                under_way.create_task(self._carry(batch), name=f"event-grid-{self._subscription.name}")

    async def _next(self) -> Batch | None:
        """What is due; None once there will be nothing any more."""
        loop, size = asyncio.get_running_loop(), self._subscription.batch_size
        while not (self._closed and self._subscription.waiting == 0):
            self._news.clear()
            if self._again and self._again[0][0] <= loop.time():
                return heapq.heappop(self._again)[2]
            if self._fresh:
                return Batch(tuple(self._fresh.popleft() for _ in range(min(size, len(self._fresh)))))
            until = self._again[0][0] if self._again else None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._news.wait()
        return None

    async def _carry(self, batch: Batch) -> None:
        copies = 1
        for fault in self._world.faults.strike(EVENT_GRID, Operation.DELIVER):
            if fault.kind is FaultKind.LATENCY:
                await asyncio.sleep(_DEFAULT_LATENCY_SECONDS if fault.seconds is None else fault.seconds)
            copies += fault.kind is FaultKind.DUPLICATE
        status = await self._client.deliver(self._subscription, batch.events, attempt=batch.attempt)
        for _ in range(copies - 1):
            again = await self._client.deliver(self._subscription, batch.events, attempt=batch.attempt)
            self._note(again, "duplicate")
        fate = self._fate(batch, status)
        self._note(status, fate)
        if fate == "retried":
            due = asyncio.get_running_loop().time() + self._wait(batch.attempt, status)
            heapq.heappush(self._again, (due, next(self._numbers), Batch(batch.events, batch.attempt + 1)))
        else:
            self._subscription.waiting -= len(batch.events)
        self._slots.release()
        self._news.set()

    def _fate(self, batch: Batch, status: int) -> str:
        if status in _TAKEN:
            return "delivered"
        spent = batch.attempt + 1 >= self._subscription.pace.attempts
        old = self._world.clock() - batch.events[0].time >= _LIFE_SECONDS
        return "dropped" if status in NEVER_AGAIN or spent or old else "retried"

    def _wait(self, attempt: int, status: int) -> float:
        """Seconds before the next attempt, with a little chance in them (documentation)."""
        planned = WAITS_SECONDS[min(attempt, len(WAITS_SECONDS) - 1)]
        least = LEAST_WAIT_SECONDS.get(status, 0)
        chance = random.uniform(1.0, 1.1)  # noqa: S311 - spreads retries, protects nothing
        return max(planned, least) * chance * self._subscription.pace.scale

    def _note(self, status: int, fate: str) -> None:
        self._world.calls.note(EVENT_GRID, Operation.DELIVER, status, fate)
