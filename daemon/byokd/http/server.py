"""uvicorn as one task among others: byokd owns the signals and the sockets."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from byokd.http.peers import PeerProtocol
from byokd.http.waiting import PunctualProtocol, WaitingRoom

SOCKET_MODE = 0o660
"""Owner and group may manage; nobody else."""

BACKLOG = 128


class AddressInUseError(Exception):
    """Somebody listens there already. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _Server(uvicorn.Server):
    """A server that leaves the signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpTask:
    """Serves one application on one listening socket until cancelled or stopped."""

    def __init__(self, application: ASGIApp, listener: socket.socket, *, room: WaitingRoom | None = None) -> None:
        """Take the application, a listening socket, and where connections wait that have sent no request yet.

        As many again may have one under way; beyond that others are told 503 before anything of them is read.
        """
        of_peers = PeerProtocol if listener.family is socket.AF_UNIX else "auto"
        config = uvicorn.Config(
            application,
            http=of_peers if room is None else PunctualProtocol.of(room),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            limit_concurrency=None if room is None else 2 * room.most,
            server_header=False,
        )
        self._server = _Server(config)
        self._listener = listener

    async def run(self) -> None:
        """Serve for ever."""
        await self._server.serve(sockets=[self._listener])

    async def stop(self) -> None:
        """Take no further requests; `run` ends."""
        self._server.should_exit = True


def listen_tcp(address: str, *, setting: str) -> socket.socket:
    """Bind a TCP address such as 127.0.0.1:9470 (port 0: a free one), which that setting names.

    Raises:
        AddressInUseError: it cannot be bound.
    """
    host, port = address.rpartition(":")[0].strip("[]"), int(address.rpartition(":")[2])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AddressInUseError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint=f"set {setting} to a free address of this machine",
        ) from None
    listener.listen(BACKLOG)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Bind a Unix socket, replacing one that nobody listens on any more.

    Raises:
        AddressInUseError: another daemon answers there, or the directory cannot be written.
    """
    if _answers(path):
        raise AddressInUseError(
            f"a daemon already listens on {path}", hint="stop it, or set service.socket to another path"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise AddressInUseError(
            f"cannot make the socket {path}: {error.strerror or error}",
            hint="make its directory, writable by the user that runs byokd; a path of at most 107 characters",
        ) from None
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
