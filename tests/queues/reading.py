"""A reader over a simulated queue, with real hints; who would look is only noted."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from structlog.testing import capture_logs

from byokd.domain.identifiers import VaultHost, WatchId
from byokd.runtime.health import Component, Condition, Health
from byokd.runtime.hinting import Hints
from byokd.runtime.metrics import Metrics
from byokd.runtime.queue_reader import QueueReader
from byokd.runtime.queue_standings import QueueStandings
from byokd.runtime.scheduler import Scheduler
from byokd.settings import EventGridSettings
from queues.platform import source
from queues.simulated import SimulatedQueue, now
from virtual.world import SeededRandomness, VirtualClock

NAME = "customers"


@dataclass
class Looking:
    """Stands for the scheduler: the key `kN` of any vault is watch N, all others nobody's."""

    hinted: dict[int, list[float]] = field(default_factory=dict)
    broken: bool = False
    knows_watches: bool = True

    def watches_of(self, host: VaultHost, *, key: str | None) -> Sequence[WatchId]:
        if self.broken and key == "broken":
            raise KeyError("a defect")
        number = (key or "").removeprefix("k")
        return [WatchId(int(number))] if host.startswith("contoso.") and number.isdigit() else []

    def is_hinted(self, _: WatchId) -> bool:
        return False

    def hint(self, watch: WatchId) -> None:
        self.hinted.setdefault(watch, []).append(now())


@dataclass
class Desk:
    """Everything around one reader."""

    reader: QueueReader
    queue: SimulatedQueue
    looking: Looking
    health: Health
    metrics: Metrics
    logs: list[Any]

    @property
    def condition(self) -> Condition:
        return self.health.conditions[Component.EVENT_QUEUES]

    def fates(self) -> dict[str, float]:
        return self._numbers("byokd_queue_messages", "outcome")

    def failures(self) -> dict[str, float]:
        return self._numbers("byokd_queue_failures", "why")

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.logs if line["event"] == event]

    def _numbers(self, family: str, label: str) -> dict[str, float]:
        return {
            sample.labels[label]: sample.value
            for found in self.metrics.registry.collect()
            if found.name == family
            for sample in found.samples
            if sample.name.endswith("_total") and sample.labels["source"] == NAME
        }


@asynccontextmanager
async def reading(queue: SimulatedQueue, *, run: bool = True, **settings: Any) -> AsyncIterator[Desk]:  # noqa: ANN401
    """Read a queue until the end of the block, with these settings of the source."""
    visibility = timedelta(seconds=queue.visibility)
    one = source(**{"batch": queue.batch, "visibility_timeout": visibility, **settings})
    clock, metrics = VirtualClock(), Metrics()
    health, looking = Health(clock), Looking()
    grid = EventGridSettings(sources={NAME: one})
    hints = Hints(
        cast("Scheduler", looking), clock=clock, metrics=metrics, settings=grid, suffixes=("vault.azure.net",)
    )
    reader = QueueReader(
        hints.queues[NAME],
        queue,
        hints,
        standings=QueueStandings(health, metrics),
        clock=clock,
        randomness=SeededRandomness(0),
        metrics=metrics,
    )
    with capture_logs() as logs:
        task = asyncio.create_task(reader.run()) if run else None
        try:
            yield Desk(reader, queue, looking, health, metrics, logs)
            assert task is None or not task.done() or task.exception() is None
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
