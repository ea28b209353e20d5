"""A connection to the bus that is made anew whenever it is lost; shared by the publisher and the presence."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Never

import structlog
from tenacity import RetryCallState

from byokd.ports import (
    Bus,
    BusMessage,
    BusRefusedError,
    BusSession,
    BusTakenOverError,
    BusUnavailableError,
    Clock,
    Randomness,
)
from byokd.runtime.retrying import retrying
from byokd.settings import MqttSettings

SessionBody = Callable[[BusSession, asyncio.Task[None]], Awaitable[None]]
"""What is done with a connection: given the session and a task that is done when it is lost, returns or raises
BusUnavailableError soon after the loss."""

MOST_REASONS = 8
"""How many reasons of one outage the log tells: a broken-off connection, a refused one, a wrong password."""

_HINT = (
    "see that the broker runs, that url, username, password_file, certificate_file and ca_file under [mqtt] are "
    "right, and that no other daemon has our topic_prefix and instance"
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How a link is.

    Attributes:
        since: when it became connected or disconnected.
        problem: the last reason why there is no connection; None before the first attempt, and once the broker has
            answered anything: one that lets us in and then says nothing is as good as none.
    """

    connected: bool
    since: datetime
    problem: str | None


class Link:
    """Connects, hands the connection to a body, and connects again after a loss, with growing waits.

    Trouble is logged once when it begins, once more for each other reason that it comes to have, and once when it ends,
    however many attempts lie between.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        randomness: Randomness,
        settings: MqttSettings,
        *,
        client_id: str,
        on_taken_over: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the collaborators; `on_taken_over` is told in words when somebody else connected with our client id."""
        self._bus = bus
        self._clock = clock
        self._randomness = randomness
        self._settings = settings
        self._client_id = client_id
        self._on_taken_over = on_taken_over
        self._status = LinkStatus(connected=False, since=clock.now(), problem=None)
        self._connected_at = math.inf
        self._told: set[str] = set()

    @property
    def status(self) -> LinkStatus:
        """How the link is now."""
        return self._status

    async def hold(self, body: SessionBody, *, will: Callable[[], BusMessage] | None = None) -> Never:
        """Run the body on one connection after the other, for ever. `will` is asked for each connection."""
        first, most = self._settings.reconnect_first, self._settings.reconnect_most
        while True:
            attempts = retrying(
                self._clock,
                self._randomness,
                first=first,
                most=most,
                on=(BusUnavailableError,),
                before_sleep=self._failed,
            )
            async for attempt in attempts:
                with attempt:
                    await self._once(body, will)

    async def _once(self, body: SessionBody, will: Callable[[], BusMessage] | None) -> None:
        """Hold one connection. Returns, after a wait, when it lasted long enough for the waits to start small again.

        Otherwise a broker that accepts and drops us at once, or a second daemon of our name, would be asked without
        growing waits.
        """
        self._connected_at = math.inf
        try:
            await self._converse(body, will)
        except BusUnavailableError as problem:
            lasted = self._clock.monotonic() - self._connected_at
            if lasted < self._settings.reconnect_most.total_seconds():
                raise
            self._lost(problem)
            await self._clock.sleep(self._randomness.uniform(0, self._settings.reconnect_first.total_seconds()))

    async def _converse(self, body: SessionBody, will: Callable[[], BusMessage] | None) -> Never:
        async with self._bus.connect(self._client_id, will=None if will is None else will()) as session:
            self._connected()
            try:
                await _until_lost(session if self._status.problem is None else _Heard(session, self._answered), body)
            finally:
                self._status = replace(self._status, connected=False, since=self._clock.now())
        raise BusUnavailableError("the connection was lost")

    def _connected(self) -> None:
        self._connected_at = self._clock.monotonic()
        self._status = replace(self._status, connected=True, since=self._clock.now())
        if self._status.problem is None:
            _log.info("bus-connected", client_id=self._client_id)

    def _answered(self) -> None:
        if self._status.problem is not None:
            self._status = replace(self._status, problem=None)
            self._told.clear()
            _log.info("bus-connected", client_id=self._client_id)

    def _failed(self, state: RetryCallState) -> None:
        problem = None if state.outcome is None else state.outcome.exception()
        self._lost(problem)

    def _lost(self, error: BaseException | None) -> None:
        problem = str(error)
        if isinstance(error, BusTakenOverError):
            self._on_taken_over(problem)
        if problem not in self._told and len(self._told) < MOST_REASONS:
            self._told.add(problem)
            _log.warning("bus-lost", client_id=self._client_id, problem=problem, hint=_HINT)
        self._status = replace(self._status, problem=problem)


class _Heard:
    """A session after a loss, whose first answer ends the trouble."""

    def __init__(self, session: BusSession, on_answer: Callable[[], None]) -> None:
        self._session = session
        self._on_answer = on_answer

    async def publish(self, message: BusMessage) -> None:
        with self._answer():
            await self._session.publish(message)

    async def retained(self, topic: str) -> bytes | None:
        with self._answer():
            return await self._session.retained(topic)

    async def lost(self) -> None:
        await self._session.lost()

    @contextmanager
    def _answer(self) -> Iterator[None]:
        try:
            yield
        except BusRefusedError:
            self._on_answer()
            raise
        self._on_answer()


async def _until_lost(session: BusSession, body: SessionBody) -> None:
    """Run the body beside a task that watches for the loss.

    Raises:
        BusUnavailableError: the body met the loss first.
    """
    met: BusUnavailableError | None = None
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(session.lost(), name="bus-loss")
        try:
            await body(session, lost)
        except BusUnavailableError as problem:
            met = problem
        finally:
            lost.cancel()
    if met is not None:
        raise met
