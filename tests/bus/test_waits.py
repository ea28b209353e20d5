"""Waits and what is said while waiting, on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Never, cast

import pytest
from structlog.testing import capture_logs

from bus.support import commit, message, row, settings
from byokd.adapters.sql import SqlStore
from byokd.ports import BusMessage, BusRefusedError, BusSession, BusUnavailableError, Store
from byokd.records import Retained
from byokd.runtime.clock import SystemClock, UuidIds
from byokd.runtime.publisher import Publisher
from byokd.runtime.reconnecting import Link
from byokd.runtime.refusals import MOST_STREAMS, Refusals
from byokd.runtime.retrying import backoff_seconds, retrying

pytestmark = pytest.mark.looptime(start=0)

FIRST, MOST = timedelta(seconds=1), timedelta(seconds=30)


class Longest:
    """Randomness without any: always the high end."""

    def bytes(self, count: int) -> bytes:
        return b"\0" * count

    def uniform(self, low: float, high: float) -> float:
        del low
        return high


class Shortest(Longest):
    def uniform(self, low: float, high: float) -> float:
        del high
        return low


class FleetingSession:
    """Real sockets do not keep virtual time: a session that refuses or accepts everything and is lost after a while."""

    def __init__(self, lasts: float, *, accepts: bool) -> None:
        self._lasts = lasts
        self._accepts = accepts
        self.published: list[float] = []

    async def publish(self, message: BusMessage) -> None:
        if message.is_event:
            self.published.append(asyncio.get_running_loop().time())
        if not self._accepts:
            raise BusRefusedError("no")

    async def retained(self, topic: str) -> bytes | None:
        if not self._accepts:
            raise BusRefusedError(f"no to {topic}")
        return None

    async def lost(self) -> None:
        await asyncio.sleep(self._lasts)


class FleetingBus:
    """Gives sessions that last so long, or none (None); notes when it was asked. The last session accepts messages."""

    def __init__(self, *lasting: float | None) -> None:
        self._lasting = list(lasting)
        self.asked: list[float] = []
        self.sessions: list[FleetingSession] = []

    @asynccontextmanager
    async def connect(self, client_id: str, *, will: BusMessage | None = None) -> AsyncIterator[BusSession]:
        del client_id, will
        self.asked.append(asyncio.get_running_loop().time())
        lasts = self._lasting.pop(0) if self._lasting else None
        if lasts is None:
            raise BusUnavailableError("no broker")
        self.sessions.append(FleetingSession(lasts, accepts=not self._lasting))
        yield self.sessions[-1]


async def wait_for_loss(session: BusSession, lost: asyncio.Task[None]) -> None:
    with suppress(BusRefusedError):
        await session.publish(message())
    await asyncio.wait({lost})


async def hold(link: Link, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await link.hold(wait_for_loss)


def link(bus: FleetingBus) -> Link:
    wanted = settings("127.0.0.1:1", reconnect_first=FIRST, reconnect_most=MOST)
    return Link(bus, SystemClock(), Longest(), wanted, client_id="one")


async def test_waits_double_up_to_the_longest_and_are_jittered_by_half() -> None:
    longest = [backoff_seconds(attempt, Longest(), first=FIRST, most=MOST) for attempt in range(1, 9)]
    assert longest == [1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff_seconds(3, Shortest(), first=FIRST, most=MOST) == 2
    assert backoff_seconds(10**9, Longest(), first=timedelta(days=9), most=MOST) == 30


async def test_what_is_worth_another_try_is_tried_until_it_works() -> None:
    async def fail_twice() -> str:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) < 3:
            raise BusUnavailableError("no broker")
        return "done"

    tries: list[float] = []
    attempts = retrying(SystemClock(), Longest(), first=FIRST, most=MOST, on=(BusUnavailableError,))
    assert await attempts(fail_twice) == "done"
    assert tries == [0, 1, 3]


async def test_anything_else_ends_the_trying_as_it_is() -> None:
    async def fail() -> Never:
        raise LookupError("a defect")

    attempts = retrying(SystemClock(), Longest(), first=FIRST, most=MOST, on=(BusUnavailableError,))
    with pytest.raises(LookupError, match="a defect"):
        await attempts(fail)


async def test_a_broker_that_is_away_is_asked_less_and_less_often_and_it_is_said_once() -> None:
    bus = FleetingBus(None, None, None, 1000)
    with capture_logs() as logs:
        await hold(link(bus), 500)
    assert bus.asked == [0, 1, 3, 7]
    assert [log["event"] for log in logs] == ["bus-lost", "bus-connected"]
    assert logs[0]["problem"] == "no broker"
    assert logs[0]["hint"]


async def test_connections_that_break_soon_make_the_waits_grow_all_the_same() -> None:
    bus = FleetingBus(*[1.0] * 100)
    await hold(link(bus), 120)
    assert bus.asked == [0, 2, 5, 10, 19, 36, 67, 98]


async def test_after_a_lasting_connection_the_waits_start_small_again() -> None:
    bus = FleetingBus(None, None, None, None, 100.0, None, 1000.0)
    await hold(link(bus), 500)
    assert bus.asked == [0, 1, 3, 7, 15, 116, 117]


async def test_the_status_tells_since_when_and_why() -> None:
    one = link(FleetingBus(None, 1000))
    assert (one.status.connected, one.status.problem) == (False, None)
    await hold(one, 0.5)
    assert (one.status.connected, one.status.problem) == (False, "no broker")
    holding = asyncio.create_task(one.hold(wait_for_loss))
    await asyncio.sleep(10)
    assert (one.status.connected, one.status.problem) == (True, None)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert not one.status.connected


async def test_a_refused_stream_is_tried_less_and_less_often_and_at_once_after_a_reconnect() -> None:
    wanted = settings("127.0.0.1:1", reconnect_first=FIRST, reconnect_most=MOST)
    refusals = Refusals(SystemClock(), Longest(), wanted)
    refused = row("accounts/a")
    tries = []
    while asyncio.get_running_loop().time() < 40:
        if not tries or refusals.due():
            tries.append(asyncio.get_running_loop().time())
            news = refusals.refuse(refused, topic="t", accepted_messages=1, reason="no")
            assert news == (len(tries) == 1)
        await asyncio.sleep(1)
    assert tries == [0, 1, 3, 7, 15, 31]
    assert refusals.accepted_messages(refused) == 1
    assert refusals.accepted_messages(row("accounts/a")) == 0
    refusals.hurry()
    assert refusals.due() == {"accounts/a"}
    assert refusals.accept("accounts/a")
    assert not refusals.accept("accounts/a")


async def test_a_refused_event_is_sent_at_once_on_a_new_connection(store: SqlStore) -> None:
    await commit(store, row(retained=Retained.KEEP))
    bus = FleetingBus(100.0, 1000.0)
    wanted = settings("127.0.0.1:1", reconnect_first=FIRST, reconnect_most=timedelta(hours=1))
    sending = Publisher(cast("Store", store), bus, SystemClock(), Longest(), wanted)
    with suppress(TimeoutError):
        async with asyncio.timeout(200):
            await sending.run()
    refusing, accepting = bus.sessions
    assert refusing.published == [0, 1, 3, 7, 15, 31, 63]
    assert accepting.published == [101]


async def test_refused_streams_are_bounded() -> None:
    refusals = Refusals(SystemClock(), Longest(), settings("127.0.0.1:1"))
    for number in range(MOST_STREAMS):
        assert not refusals.full
        refusals.refuse(row(f"accounts/{number}"), topic=str(number), accepted_messages=0, reason="no")
    assert refusals.full


def test_ids_are_uuids_in_lower_case_and_never_the_same() -> None:
    ids = UuidIds()
    given = {ids.new() for _ in range(100)}
    assert len(given) == 100
    assert all(len(one) == 36 and one == one.lower() for one in given)
