"""A retained message by which a broker shows what it has lost.

A broker acknowledges before it is durable: after a crash it may come back empty, or as it was a while ago. So the
number up to which every event was acknowledged is kept with the broker itself, and compared after each connect.
"""

import json
from datetime import timedelta

import structlog

from byokd.ports import BusMessage, BusRefusedError, BusSession, Clock
from byokd.runtime.outbox import Outbox

INTERVAL = timedelta(seconds=1)
"""The shortest time between two markers: what was sent since the last one may be sent twice."""

_HINT = (
    "let byokd read and write this topic in the broker's access control list; "
    "until then nothing is sent again that the broker loses"
)

_log = structlog.get_logger()


class Marker:
    """Reads the marker after each connect, and moves it as events are acknowledged. Never in the way of events."""

    def __init__(self, outbox: Outbox, clock: Clock, *, prefix: str, retention: timedelta) -> None:
        self._outbox = outbox
        self._clock = clock
        self._topic = f"{prefix}/service/marker"
        self._retention = retention
        self._written = 0
        self._looked_at = -INTERVAL.total_seconds()
        self._refused = False
        self._stale = False

    async def consult(self, session: BusSession) -> None:
        """Have everything sent again that the broker has lost.

        Raises:
            BusUnavailableError: the connection was lost.
        """
        try:
            found = number_of(await session.retained(self._topic))
        except BusRefusedError as refusal:
            self._refuse(refusal)
            self._stale = False
            return
        self._refused = False
        count = await self._outbox.resend(after=found, retention=self._retention)
        if count:
            _log.info("resent", count=count, marker=found)
        self._written = found or 0
        self._stale = True

    def moved(self) -> None:
        """Tell that events were acknowledged."""
        self._stale = not self._refused

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
        payload = json.dumps({"number": number}).encode()
        try:
            await session.publish(BusMessage(self._topic, payload, retain=True, is_event=False))
        except BusRefusedError as refusal:
            self._refuse(refusal)
        else:
            self._written = number

    def _refuse(self, refusal: BusRefusedError) -> None:
        if not self._refused:
            _log.warning("marker-refused", topic=self._topic, reason=str(refusal), hint=_HINT)
        self._refused = True


def number_of(payload: bytes | None) -> int | None:
    """Read a marker; None when there is none, or not one of ours."""
    try:
        marker = json.loads(payload or b"")
    except (ValueError, RecursionError):
        return None
    number = marker.get("number") if isinstance(marker, dict) else None
    return number if type(number) is int and 0 <= number < 2**63 else None
