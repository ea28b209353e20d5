"""What the service manager is told, and when."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.vocabulary import State
from byokd.records import Census
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.service_manager import Reporter, Watchdog
from virtual.world import VirtualClock

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.asyncio]

CENSUS = Census(
    accounts={State.ACCESSIBLE: 9, State.INACCESSIBLE: 3},
    watches=5,
    vaults=4,
    denied_versions=1,
    suspected_versions=0,
    unverified_versions=0,
    unpublished=0,
    oldest_unpublished=None,
    rewraps_waiting=0,
)


class Ears:
    """Hears everything with the second at which it was said."""

    watchdog_interval: timedelta | None = None

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *words: self.heard.append((asyncio.get_running_loop().time(), " ".join([name, *words])))


async def during(seconds: float, body: Callable[[], object]) -> None:
    running = asyncio.ensure_future(body())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_signs_of_life_come_at_once_and_at_a_third_of_the_interval() -> None:
    ears = Ears()
    await during(25, Watchdog(ears, VirtualClock(), interval=timedelta(seconds=30)).run)
    assert ears.heard == [(0, "alive"), (10, "alive"), (20, "alive")]


async def test_ready_is_said_first_and_the_sentence_when_it_changes() -> None:
    ears, clock = Ears(), VirtualClock()
    health = Health(clock)
    observer = Observer(None, clock=clock, health=health, metrics=Metrics(), publisher=None)
    asyncio.get_running_loop().call_later(7, setattr, observer, "census", CENSUS)
    asyncio.get_running_loop().call_later(12, lambda: health.trouble(Component.STORE, "the disk is full"))
    await during(60, Reporter(ears, clock, health=health, observer=observer).run)
    assert ears.heard == [
        (0, "ready"),
        (0, "status started"),
        (10, "status 5 watches, 12 accounts, 3 Inaccessible"),
        (15, "status 5 watches, 12 accounts, 3 Inaccessible; store: the disk is full"),
    ]
