"""A retained message by which a broker shows what it has lost.

A broker acknowledges before it is durable: after a crash it may come back empty, or as it was a while ago. So the
number up to which every event was acknowledged is kept with the broker itself, and compared after each connect.
"""

import json
from collections.abc import Callable
from datetime import timedelta

import structlog

from byokd.ports import BusMessage, BusRefusedError, BusSession, BusSilentError, BusUnavailableError, Clock
from byokd.runtime.outbox import Outbox

INTERVAL = timedelta(seconds=1)
"""The shortest time between two markers: what was sent since the last one may be sent twice."""

HINT = (
    "let byokd read and write this topic in the broker's access control list; "
    "until then nothing is sent again that the broker loses"
)

_log = structlog.get_logger()


class Marker:
    """Reads the marker after each connect, and moves it as events are acknowledged.

    Events wait until it was read: sent before, they would overtake those that the broker lost. Only a broker that was
    silent once is not waited for again. Should it speak after all, the events before it was asked may have been
    overtaken; so then only the last one of each account is sent again, which nothing can have overtaken.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        *,
        prefix: str,
        retention: timedelta,
        retry_after: timedelta,
        on_rival: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the collaborators; `on_rival` is told in words when another database's marker is found over ours."""
        self._outbox = outbox
        self._clock = clock
        self._topic = f"{prefix}/service/marker"
        self._retention = retention
        self._retry_after = retry_after.total_seconds()
        self._retry_at = 0.0
        self._store = ""
        self._written: int | None = None
        self._looked_at = -INTERVAL.total_seconds()
        self._problem: str | None = None
        self._silent = False
        self._unwritable = False
        self._late: list[bytes | None] = []
        self._stale = False
        self._on_rival = on_rival
        self._is_ours = False

    @property
    def problem(self) -> str | None:
        """Why the marker is of no use; None when it is, or has not been looked at."""
        return self._problem

    async def consult(self, session: BusSession) -> None:
        """Have everything sent again that the broker has lost, unless it was silent before.

        Raises:
            BusUnavailableError: the connection was lost.
        """
        self._late.clear()
        self._stale = False
        if self._silent:
            return
        try:
            payload = await session.retained(self._topic)
        except BusRefusedError as refusal:
            self._silent = isinstance(refusal, BusSilentError)
            self._refuse(refusal)
        else:
            await self._take(payload, self._retention)

    async def listen(self, session: BusSession) -> None:
        """Look again, beside the events, at a broker that was silent before. Returns at once for others."""
        if not self._silent:
            return
        try:
            self._late.append(await session.retained(self._topic))
        except (BusRefusedError, BusUnavailableError):
            return

    async def catch_up(self, session: BusSession) -> bool:
        """Act on what `listen` heard, or ask again what was refused; at a moment at which nothing is being sent.

        Returns:
            whether events were made to be sent again.

        Raises:
            BusUnavailableError: the connection was lost.
        """
        if self._late:
            self._silent = False
            return await self._take(self._late.pop(), timedelta(0))
        if self._problem is None or self._silent or self._clock.monotonic() < self._retry_at:
            return False
        if self._unwritable:
            self._stale = True
            return False
        try:
            payload = await session.retained(self._topic)
        except BusRefusedError as refusal:
            self._silent = isinstance(refusal, BusSilentError)
            self._refuse(refusal)
            return False
        return await self._take(payload, timedelta(0))

    def moved(self) -> None:
        """Tell that events were acknowledged."""
        self._stale = self._problem is None

    async def update(self, session: BusSession, *, at_once: bool) -> None:
        """Write the marker where it has moved; `at_once` also shortly after the last time.

        Raises:
            BusUnavailableError: the connection was lost.
        """
        now = self._clock.monotonic()
        if not self._stale or not (at_once or now - self._looked_at >= INTERVAL.total_seconds()):
            return
        self._looked_at = now
        self._stale = False
        number = await self._outbox.contiguous()
        if number == self._written:
            return
        payload = json.dumps({"store": self._store, "number": number}).encode()
        try:
            await session.publish(BusMessage(self._topic, payload, retain=True, is_event=False))
        except BusRefusedError as refusal:
            self._unwritable = True
            self._refuse(refusal)
        else:
            self._unwritable = False
            self._accept()
            self._written = number
            self._is_ours = True

    async def _take(self, payload: bytes | None, retention: timedelta) -> bool:
        self._store = await self._outbox.identity()
        found = number_of(payload, store=self._store)
        writer = _store_of(payload)
        if self._is_ours and writer not in (None, self._store):
            self._on_rival(f"{self._topic} was written by a daemon with another database since we wrote it")
        self._is_ours = writer == self._store
        if not self._unwritable:
            self._accept()
        count = await self._outbox.resend(after=found, retention=retention)
        if count:
            _log.info("resent", count=count, marker=found)
        self._written = found
        self._stale = True
        return bool(count)

    def _accept(self) -> None:
        if self._problem is not None:
            _log.info("marker-accepted", topic=self._topic)
        self._problem = None

    def _refuse(self, refusal: BusRefusedError) -> None:
        if self._problem is None:
            _log.warning("marker-refused", topic=self._topic, reason=str(refusal), hint=HINT)
        self._problem = f"{self._topic}: {refusal}"
        self._retry_at = self._clock.monotonic() + self._retry_after


def number_of(payload: bytes | None, *, store: str) -> int | None:
    """Read a marker; None when there is none, or not one of this store: numbers of another say nothing of ours."""
    marker = _read(payload)
    if marker.get("store") != store:
        return None
    number = marker.get("number")
    return number if type(number) is int and 0 <= number < 2**63 else None


def _store_of(payload: bytes | None) -> str | None:
    store = _read(payload).get("store")
    return store if isinstance(store, str) else None


def _read(payload: bytes | None) -> dict[str, object]:
    try:
        marker = json.loads(payload or b"")
    except (ValueError, RecursionError):
        return {}
    return marker if isinstance(marker, dict) else {}
