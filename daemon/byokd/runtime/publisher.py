"""Sends committed events to the bus, in order per stream, until each is acknowledged."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Never

import structlog

from byokd.ports import Bus, BusMessage, BusRefusedError, BusSession, BusUnavailableError, Clock, Randomness, Store
from byokd.records import OutboxRow
from byokd.runtime.envelope import messages, publisher_client_id
from byokd.runtime.marker import Marker
from byokd.runtime.outbox import Outbox
from byokd.runtime.reconnecting import Link, LinkStatus
from byokd.runtime.refusals import HINT, Refusals
from byokd.runtime.rivals import Rivals
from byokd.runtime.waking import Bell
from byokd.settings import MqttSettings

POLL = timedelta(seconds=1)
"""How often to look without being told: for events of another process, or committed before a crash."""

_REFUSED_HINT = f"{HINT}; the event is kept and tried again"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """How publishing goes.

    Attributes:
        link: the connection.
        store_problem: why events cannot be read or marked; None when they can.
        refused: reasons by topic; each holds back its own stream only.
        unmarked: why it cannot be known what the broker has lost; None when it can.
        rival: by what another daemon below our topic_prefix was noticed of late; None when none was.
    """

    link: LinkStatus
    store_problem: str | None
    refused: Mapping[str, str]
    unmarked: str | None
    rival: str | None = None


@dataclass(frozen=True, slots=True)
class Republished:
    """What came of a wish to send all states again.

    Attributes:
        count: events that are sent again, beside those that waited already; None when it was not begun.
        is_sent: whether all of them were acknowledged.
        came: events that were acknowledged meanwhile, also those that waited already.
    """

    count: int | None
    is_sent: bool
    came: int = field(default=0, compare=False)


@dataclass(slots=True, eq=False)
class _Wish:
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    count: int | None = None


class Publisher:
    """Reads unpublished events, sends them, marks what was acknowledged. Keeps nothing that the store does not have.

    Each stream has at most one message on its way, so that a refused or lost one is never overtaken by a later one of
    its stream; streams go side by side, `window` messages at once.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        randomness: Randomness,
        settings: MqttSettings,
        *,
        on_published: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take the collaborators; `on_published` is told how many events were acknowledged and marked."""
        self._prefix = settings.topic_prefix
        self._window = settings.window
        self._on_published = on_published
        self._rivals = Rivals(clock, reconnect_most=settings.reconnect_most)
        client_id, saw = publisher_client_id(self._prefix), self._rivals.saw
        self._link = Link(bus, clock, randomness, settings, client_id=client_id, on_taken_over=saw)
        self._outbox = Outbox(store, clock, randomness)
        self._marker = Marker(
            self._outbox,
            clock,
            prefix=self._prefix,
            retention=settings.outbox_retention,
            retry_after=settings.reconnect_most,
            on_rival=saw,
        )
        self._refusals = Refusals(clock, randomness, settings)
        self._bell = Bell()
        self._drains: list[asyncio.Future[None]] = []
        self._wishes: list[_Wish] = []
        self._after = 0
        self._came = 0

    @property
    def status(self) -> PublisherStatus:
        """How publishing goes now."""
        store, refused, unmarked = self._outbox.problem, self._refusals.by_topic, self._marker.problem
        return PublisherStatus(self._link.status, store, refused, unmarked, self._rivals.problem)

    def notify(self) -> None:
        """Tell that events were committed."""
        self._bell.ring()

    async def run(self) -> Never:
        """Publish for ever."""
        await self._link.hold(self._pump)

    async def drain(self, *, within: timedelta) -> bool:
        """Wait until all that was committed before the call is published; tell whether that came within the time.

        `run` must be running.
        """
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._drained()
        except TimeoutError:
            return False
        return True

    async def republish(self, *, within: timedelta) -> Republished:
        """Send the last event of every account again, and so its state, or that it has none; wait until that is done.

        It is begun only while the broker is connected; where that does not come within the time, it never is. Once
        begun, it is finished whatever the caller does: the events are unpublished again in the store. `run` must be
        running.
        """
        wish, before = _Wish(), self._came
        self._wishes.append(wish)
        self._bell.ring()
        try:
            async with asyncio.timeout(within.total_seconds()):
                await wish.begun.wait()
                await self._drained()
        except TimeoutError:
            return Republished(wish.count, is_sent=False, came=self._came - before)
        finally:
            if wish in self._wishes:
                self._wishes.remove(wish)
        return Republished(wish.count, is_sent=True, came=self._came - before)

    async def _drained(self) -> None:
        drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drains.append(drained)
        self._bell.ring()
        try:
            await drained
        finally:
            self._drains.remove(drained)

    async def _pump(self, session: BusSession, lost: asyncio.Task[None]) -> None:
        lost.add_done_callback(lambda _: self._bell.ring())
        self._refusals.hurry()
        await self._marker.consult(session)
        listening = asyncio.create_task(self._marker.listen(session), name="marker-listen")
        listening.add_done_callback(lambda _: self._bell.ring())
        try:
            while not lost.done():
                if await self._marker.catch_up(session):
                    self._after = 0
                await self._begin_again()
                await self._publish(session)
                await self._bell.wait(POLL.total_seconds())
        finally:
            listening.cancel()
            await asyncio.wait({listening})
        if not listening.cancelled():
            listening.result()

    async def _begin_again(self) -> None:
        """Begin what `republish` asks for. Here, between two scans: in one, an event could overtake an older one."""
        wishes, self._wishes = self._wishes, []
        if wishes:
            for wish in wishes:
                wish.count = 0
            count = await self._outbox.resend(after=None, retention=timedelta(0))
            self._after = 0  # what is sent again lies before where a refused stream has the scan go on
            _log.info("republishing", count=count)
            for wish in wishes:
                wish.count = count
                wish.begun.set()

    async def _publish(self, session: BusSession) -> None:
        """Publish what there is, and tell those who wait for it."""
        drains = tuple(self._drains)
        await self._scan(session)
        await self._marker.update(session, at_once=bool(drains))
        if not self._refusals:
            for drained in drains:
                if not drained.done():
                    drained.set_result(None)

    async def _scan(self, session: BusSession) -> None:
        """Send what is unpublished, page by page.

        A stream that was passed over stays so until a scan starts from the beginning again; otherwise its later events
        would overtake the earlier ones.
        """
        retry = self._refusals.due()
        begin = not self._refusals.full
        if retry or not self._refusals:
            self._after = 0
        if retry or begin:
            await self._send_pages(session, retry, begin=begin)
        if not begin or self._refusals.full:
            self._after = 0

    async def _send_pages(self, session: BusSession, retry: set[str], *, begin: bool) -> None:
        """Send page by page. While one is sent, the one before it is marked and the next one is read."""
        loss: BusUnavailableError | None = None
        marking: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as beside:
            rows = await self._outbox.page(after=self._after)
            while rows:
                ahead = beside.create_task(self._outbox.page(after=rows[-1].number), name="publish-read")
                acknowledged, loss = await self._send(session, self._lanes(rows, retry, begin=begin), retry)
                if marking is not None:
                    await marking
                    loss = loss or await self._show_progress(session)
                marking = beside.create_task(self._mark(acknowledged), name="publish-mark")
                if loss is not None:
                    break
                self._after = rows[-1].number
                if begin and self._refusals.full:
                    break
                # Nothing ahead: perhaps there is by now.
                rows = await ahead or await self._outbox.page(after=self._after)
        if loss is not None:
            raise loss

    async def _show_progress(self, session: BusSession) -> BusUnavailableError | None:
        """Move the marker within a long backlog too: a broker that dies meanwhile need not get all of it again."""
        try:
            await self._marker.update(session, at_once=False)
        except BusUnavailableError as loss:
            return loss
        return None

    async def _mark(self, numbers: Sequence[int]) -> None:
        if numbers:
            await self._outbox.mark(numbers)
            self._marker.moved()
            self._came += len(numbers)
            self._on_published(len(numbers))

    def _lanes(self, rows: Sequence[OutboxRow], retry: set[str], *, begin: bool) -> deque[list[OutboxRow]]:
        """Give the rows to send now, by stream, those of the oldest first."""
        lanes: dict[str, list[OutboxRow]] = {}
        for row in rows:
            if row.stream in retry or (begin and row.stream not in self._refusals):
                lanes.setdefault(row.stream, []).append(row)
        return deque(lanes.values())

    async def _send(
        self, session: BusSession, lanes: deque[list[OutboxRow]], retry: set[str]
    ) -> tuple[Sequence[int], BusUnavailableError | None]:
        """Send the lanes side by side; give what was acknowledged, and the loss of the connection if that ended it."""
        acknowledged: list[int] = []
        losses: list[BusUnavailableError] = []

        async def worker() -> None:
            while lanes:
                try:
                    await self._send_lane(session, lanes.popleft(), retry, acknowledged)
                except BusUnavailableError as loss:
                    lanes.clear()
                    losses.append(loss)

        async with asyncio.TaskGroup() as workers:
            for number in range(min(self._window, len(lanes))):
                workers.create_task(worker(), name=f"publish-{number}")
        return acknowledged, losses[0] if losses else None

    async def _send_lane(
        self, session: BusSession, rows: Sequence[OutboxRow], retry: set[str], acknowledged: list[int]
    ) -> None:
        """Send events of one stream, one after the other, until the broker refuses one."""
        for row in rows:
            parts = messages(row, prefix=self._prefix)
            for position in range(self._refusals.accepted_messages(row), len(parts)):
                try:
                    await session.publish(parts[position])
                except BusRefusedError as refusal:
                    retry.discard(row.stream)
                    self._refused(row, parts[position], position, str(refusal))
                    return
            if self._refusals.accept(row.stream):
                _log.info("message-accepted", stream=row.stream)
            acknowledged.append(row.number)

    def _refused(self, row: OutboxRow, message: BusMessage, position: int, reason: str) -> None:
        news = self._refusals.refuse(row, topic=message.topic, accepted_messages=position, reason=reason)
        if news:
            _log.warning("message-refused", topic=message.topic, event_id=row.id, reason=reason, hint=_REFUSED_HINT)
