"""Connections that have not sent a whole request yet: so many at once, and each for so long."""

import asyncio
from collections.abc import Callable
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class WaitingRoom:
    """Where a connection is until the head of its next request is there, and while what nobody reads comes in.

    Whoever connects and says nothing must not keep out those who do: when the room is full, who has been there for the
    longest has to go.
    """

    def __init__(self, *, most: int, seconds: float, turned_away: Callable[[], None]) -> None:
        """Take the bounds, and whom to tell of each connection that was closed for them."""
        self.most = most
        self._seconds = seconds
        self._turned_away = turned_away
        self._waiting: dict[PunctualProtocol, asyncio.TimerHandle] = {}

    def enter(self, protocol: "PunctualProtocol") -> None:
        """Let a connection wait for its next request."""
        self.leave(protocol)
        self._waiting[protocol] = asyncio.get_running_loop().call_later(self._seconds, self._turn_away, protocol)
        if len(self._waiting) > self.most:
            self._turn_away(next(iter(self._waiting)))

    def leave(self, protocol: "PunctualProtocol") -> None:
        """Let a connection go on: its request is there, or it is closed."""
        if (timer := self._waiting.pop(protocol, None)) is not None:
            timer.cancel()

    def _turn_away(self, protocol: "PunctualProtocol") -> None:
        self.leave(protocol)
        protocol.transport.abort()
        self._turned_away()


class PunctualProtocol(H11Protocol):
    """uvicorn's protocol, whose connections wait in a room for as long as no request is under way."""

    room: ClassVar[WaitingRoom]

    @classmethod
    def of(cls, room: WaitingRoom) -> "type[PunctualProtocol]":
        """Give the protocol of a listener with this room."""
        return type(cls.__name__, (cls,), {"room": room})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, which waits from now on."""
        super().connection_made(transport)
        self.room.enter(self)

    def handle_events(self) -> None:
        """Read what has come; with a request in it, the connection no longer waits."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self.room.leave(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self.room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It waits for nothing any more."""
        super().connection_lost(exc)
        self.room.leave(self)
