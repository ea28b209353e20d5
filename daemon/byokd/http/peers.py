"""Who is at the other end of the Unix socket: read from the kernel when a connection is accepted."""

import array
import asyncio
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

_CREDENTIALS: Final = struct.Struct("iII")
_SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h, since Linux 4.13; Python does not name it."""

_MOST_BYTES: Final = 1024
"""What Python can receive of an option: 256 groups. Of who is in more, the first group counts alone."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was then."""

    uid: int
    groups: frozenset[int]


def peer_of(connection: Any) -> Peer:  # noqa: ANN401 - a socket, or what asyncio shows of one
    """Read the credentials that the kernel noted when the peer connected."""
    _, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    groups = array.array("I")
    with suppress(OSError):
        groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES))
    return Peer(uid, frozenset({gid, *groups}))


def may_manage(peer: Peer, *, own_uid: int, group: int | None) -> bool:
    """Whether a peer may use the socket: root, the daemon's own user, or a member of the socket's group.

    As the file's mode says; but a mode is changed by one careless chmod, and a connection once made outlives it.
    """
    return peer.uid in {0, own_uid} or group in peer.groups


class PeerProtocol(H11Protocol):
    """uvicorn's protocol, for peers that may manage; `request.state.peer_uid` tells which user it is."""

    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it without a word."""
        connection = transport.get_extra_info("socket")
        peer = peer_of(connection)
        if may_manage(peer, own_uid=os.geteuid(), group=_group_of(connection.getsockname())):
            self.app_state = {**self.app_state, "peer_uid": peer.uid}
            super().connection_made(transport)
            return
        self._refused = True
        _log.warning("peer-refused", uid=peer.uid)
        transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is to be wound up of a connection that was never taken."""
        if not self._refused:
            super().connection_lost(exc)


def _group_of(path: str) -> int | None:
    """Give the group of the socket's file, as it is now; None when the file is gone."""
    try:
        return Path(path).stat().st_gid
    except OSError:
        return None


def peer_uid(request: Request) -> int:
    """Give the user who sent a request over the Unix socket."""
    return int(request.state.peer_uid)
