"""The marker that tells what a broker lost: brokers that do not hand it back, keep it, or let it be read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from bus.recovering import (
    CLOCK,
    MARKER,
    SOON,
    change,
    converged,
    create,
    told,
)
from bus.support import PREFIX, bus, commit, message, publisher, row, running
from byokd.adapters.sql import SqlStore
from byokd.ports import BusRefusedError, BusSession, BusUnavailableError, Clock
from byokd.records import Retained
from byokd.runtime.clock import SystemRandomness
from byokd.runtime.envelope import publisher_client_id
from byokd.runtime.health import Component, Health
from byokd.runtime.marker import Marker
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.outbox import Outbox
from byokd.runtime.publisher import Publisher
from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import subscriber
from parts.waiting import until

pytestmark = pytest.mark.real("mosquitto")


WRITE_ONLY = f"topic write {PREFIX}/#\n"
READABLE = f"topic readwrite {PREFIX}/#\n"
QUICK = {"marker_timeout": timedelta(milliseconds=300)}
"""Short, so that the test is; whoever reads is let in by a rule for its own user, without a password."""


@asynccontextmanager
async def write_only(directory: Path) -> AsyncIterator[tuple[Mosquitto, Path]]:
    """A broker that lets everybody write and only `reader` read."""
    rules = directory / "acl"
    rules.write_text(WRITE_ONLY + f"user reader\ntopic read {PREFIX}/#\n")
    async with mosquitto(directory / "mosquitto", f"acl_file {rules}") as broker:
        yield broker, rules


async def shown_of_the_bus(store: SqlStore, sending: Publisher) -> str:
    """What /healthz says of the bus, while it is not well."""
    health = Health(CLOCK)
    await Observer(store, clock=CLOCK, health=health, metrics=Metrics(), publisher=sending).observe()
    assert not health.is_well(Component.BUS)
    return health.conditions[Component.BUS].message


async def reconnected(sending: Publisher, broker: Mosquitto) -> None:
    await broker.kill()
    await until(lambda: not sending.status.link.connected)
    await broker.start()
    await until(lambda: sending.status.link.connected)


async def test_a_broker_that_hands_nothing_back_is_waited_for_once_and_named_once(
    tmp_path: Path, store: SqlStore
) -> None:
    with capture_logs() as logs:
        async with write_only(tmp_path) as (broker, _):
            sending = publisher(store, broker.address, marker_timeout=timedelta(seconds=1))
            loop, times = asyncio.get_running_loop(), []
            async with running(sending):
                for name in ("a", "b", "c"):
                    await create(store, name)
                    begun = loop.time()
                    assert await sending.drain(within=SOON)
                    times.append(loop.time() - begun)
                    assert sending.status.unmarked is not None
                    assert MARKER in sending.status.unmarked
                    assert MARKER in await shown_of_the_bus(store, sending)
                    await reconnected(sending, broker)
    assert times[0] >= 1
    assert max(times[1:]) < 1, times
    assert [log["topic"] for log in logs if log["event"] == "marker-refused"] == [MARKER]


async def test_a_broker_that_is_read_late_gets_the_last_event_of_each_account_and_nothing_is_overtaken(
    tmp_path: Path, store: SqlStore
) -> None:
    async with write_only(tmp_path) as (broker, rules):
        past = json.dumps({"store": await store.identity(), "number": 1})
        async with bus(broker.address).connect("past") as session:
            await session.publish(message(MARKER, past.encode(), retain=True))
        sending = publisher(store, broker.address, **QUICK)
        with capture_logs() as logs:
            async with running(sending):
                await create(store, "a", "b")
                await change(store, "a", "one")
                await change(store, "a", "two")
                assert await sending.drain(within=SOON)
                rules.write_text(READABLE)
                broker.reload()
                async with subscriber(broker.address, f"{PREFIX}/accounts/+/+/+/events") as heard:
                    with suppress(BusUnavailableError):  # the publisher comes back and takes over in its turn
                        async with bus(broker.address).connect(publisher_client_id(PREFIX)):
                            await until(lambda: any(log["event"] == "bus-lost" for log in logs))
                    await until(lambda: sending.status.unmarked is None)
                    assert await sending.drain(within=SOON)
                    await change(store, "a", "three")
                    assert await sending.drain(within=SOON)
                    await heard.until(lambda: ("a", 4) in told(heard))
                    assert sorted(told(heard)) == [("a", 3), ("a", 4), ("b", 1)]
                assert await converged(broker.address, store)
    said = [log["event"] for log in logs if log["event"].startswith("marker")]
    assert said == ["marker-refused", "marker-accepted"]


async def test_a_marker_that_can_be_read_and_not_kept_is_named_once(tmp_path: Path, store: SqlStore) -> None:
    async with mosquitto(tmp_path / "mosquitto", "retain_available false") as broker:
        sending = publisher(store, broker.address)
        with capture_logs() as logs:
            async with running(sending):
                for _ in range(3):
                    await commit(store, row("keys/a", retained=Retained.KEEP))
                    assert await sending.drain(within=SOON)
                    await until(lambda: sending.status.unmarked is not None)
                    await reconnected(sending, broker)
    assert [log["event"] for log in logs if log["event"].startswith("marker")] == ["marker-refused"]


async def test_a_refused_marker_is_tried_again_without_a_new_connection(tmp_path: Path, store: SqlStore) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {PREFIX}/service/#\ntopic readwrite {PREFIX}/accounts/#\n")
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            await create(store, "a")
            assert await sending.drain(within=SOON)
            await until(lambda: sending.status.unmarked is not None)
            since = sending.status.link.since
            rules.write_text(READABLE)
            broker.reload()
            await until(lambda: sending.status.unmarked is None)
            assert sending.status.link.since == since
            async with bus(broker.address).connect("reader") as session:
                marker = json.loads(await session.retained(MARKER) or b"{}")
        assert marker == {"store": await store.identity(), "number": 1}


@dataclass
class HandClock:
    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Refusing:
    """Stands for a session with a broker that refuses to be read; mosquitto is silent instead."""

    refuses = True

    async def retained(self, _: str) -> bytes | None:
        if self.refuses:
            raise BusRefusedError("Not authorized")
        return None


async def test_a_marker_that_may_not_be_read_is_asked_for_again(store: SqlStore) -> None:
    session = Refusing()
    place = Outbox(store, CLOCK, SystemRandomness())
    clock = HandClock()
    retry_after = timedelta(seconds=30)
    marker = Marker(place, cast("Clock", clock), prefix=PREFIX, retention=timedelta(hours=1), retry_after=retry_after)
    await create(store, "a")
    (row,) = await place.page(after=0)
    await place.mark([row.number])
    await marker.consult(cast("BusSession", session))
    assert marker.problem is not None
    assert not await marker.catch_up(cast("BusSession", session)), "not before its time"
    session.refuses = False
    clock.seconds += 30
    assert await marker.catch_up(cast("BusSession", session))
    assert marker.problem is None
    assert [row.number for row in await place.page(after=0)] == [row.number]
