"""Old events go, in batches, again and again."""

import asyncio
from datetime import datetime, timedelta
from typing import cast

import pytest

from byokd.ports import Store
from byokd.runtime.housekeeper import BATCH, INTERVAL, Housekeeper
from virtual.world import START, VirtualClock

pytestmark = pytest.mark.looptime(start=0)

RETENTION = timedelta(days=90)


class OldEvents:
    """A store of which only the number of its old events matters."""

    def __init__(self, old: int) -> None:
        self.old = old
        self.calls: list[tuple[datetime, int]] = []

    async def forget(self, *, before: datetime, limit: int) -> int:
        self.calls.append((before, limit))
        forgotten = min(self.old, limit)
        self.old -= forgotten
        return forgotten


async def _keep_house(events: OldEvents, lasting: timedelta) -> None:
    housekeeper = Housekeeper(cast("Store", events), clock=VirtualClock(), retention=RETENTION)
    running = asyncio.create_task(housekeeper.run(), name="housekeeper")
    await asyncio.sleep(lasting.total_seconds())
    assert not running.done()
    running.cancel()


async def test_old_events_are_forgotten_in_batches_until_none_is_left() -> None:
    events = OldEvents(2 * BATCH + 1)
    await _keep_house(events, timedelta(seconds=1))
    assert events.old == 0
    assert events.calls == [(START - RETENTION, BATCH)] * 3


async def test_it_looks_again_every_ten_minutes() -> None:
    assert timedelta(minutes=10) == INTERVAL
    events = OldEvents(0)
    await _keep_house(events, 2.5 * INTERVAL)
    assert [before - START + RETENTION for before, _ in events.calls] == [timedelta(0), INTERVAL, 2 * INTERVAL]
