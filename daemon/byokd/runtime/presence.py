"""Tells the bus that this daemon is there, on a connection of its own, so that its Will tells when it is not."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Never

import structlog

from byokd.ports import Bus, BusMessage, BusRefusedError, BusSession, BusUnavailableError, Clock, Ids, Randomness
from byokd.runtime.envelope import DaemonStatus, daemon_message, presence_client_id
from byokd.runtime.reconnecting import Link, LinkStatus
from byokd.runtime.refusals import HINT
from byokd.settings import MqttSettings

GOODBYE = timedelta(seconds=1)
"""How long saying "offline" may take; after that the broker finds out by itself and sends the Will."""

_log = structlog.get_logger()


class Presence:
    """Retained "online" after each CONNACK; retained "offline" as Will, and as goodbye when `run` is cancelled."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        randomness: Randomness,
        ids: Ids,
        settings: MqttSettings,
        *,
        instance: str,
        version: str,
    ) -> None:
        self._ids = ids
        self._prefix = settings.topic_prefix
        self._instance = instance
        self._version = version
        client_id = presence_client_id(self._prefix, instance)
        self._link = Link(bus, clock, randomness, settings, client_id=client_id)
        self._retry_after = settings.reconnect_most.total_seconds()
        self._problem: str | None = None
        self._silent = False

    @property
    def status(self) -> LinkStatus:
        """How the connection is now."""
        return self._link.status

    @property
    def problem(self) -> str | None:
        """Why nobody is told that this daemon is online, although the broker is connected; None when they are."""
        return self._problem

    def leave_silently(self) -> None:
        """Say no goodbye: another presence of this instance follows at once, at the same broker and topic."""
        self._silent = True

    async def run(self) -> Never:
        """Be present for ever. Cancelled, it says goodbye, for at most `GOODBYE`; a second cancellation skips that."""
        await self._link.hold(self._attend, will=lambda: self._message(DaemonStatus.OFFLINE))

    async def _attend(self, session: BusSession, lost: asyncio.Task[None]) -> None:
        try:
            await self._say(session, DaemonStatus.ONLINE)
            while self._problem is not None and not lost.done():
                await asyncio.wait({lost}, timeout=self._retry_after)
                if not lost.done():
                    await self._say(session, DaemonStatus.ONLINE)
            await asyncio.wait({lost})
        except asyncio.CancelledError:
            if self._silent:
                raise
            with contextlib.suppress(TimeoutError, BusUnavailableError):
                async with asyncio.timeout(GOODBYE.total_seconds()):
                    await self._say(session, DaemonStatus.OFFLINE)
            raise

    async def _say(self, session: BusSession, status: DaemonStatus) -> None:
        message = self._message(status)
        try:
            await session.publish(message)
        except BusRefusedError as refusal:
            if self._problem is None:
                _log.warning("presence-refused", topic=message.topic, reason=str(refusal), hint=HINT)
            self._problem = f"{message.topic}: {refusal}"
        else:
            self._problem = None

    def _message(self, status: DaemonStatus) -> BusMessage:
        return daemon_message(
            status, prefix=self._prefix, instance=self._instance, version=self._version, event_id=self._ids.new()
        )
