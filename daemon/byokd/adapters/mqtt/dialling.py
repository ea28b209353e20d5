"""Opening a socket to the broker so that a cancellation at any moment leaves nothing behind."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


_ALERTS = {
    "CERTIFICATE_EXPIRED": "the broker says that our certificate (certificate_file) has expired",
    "CERTIFICATE_REVOKED": "the broker says that our certificate (certificate_file) was revoked",
    "CERTIFICATE_REQUIRED": "the broker wants a certificate of ours (certificate_file)",
    "UNKNOWN_CA": "the broker does not know the authority of our certificate (certificate_file)",
}
"""What a broker says of our certificate; OpenSSL puts other words before these, in each version others."""


def words(error: OSError) -> str:
    """Say what happened to a socket."""
    if isinstance(error, ssl.SSLError):
        alert = (error.reason or "").partition("_ALERT_")[2]
        return f"TLS: {_ALERTS.get(alert) or error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Give a context that trusts the authorities of that file, or of the system. Reads files: not for the event loop.

    Raises:
        OSError: the file cannot be read, or holds no certificate (ssl.SSLError).
    """
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


def show(context: ssl.SSLContext, certificate_file: Path) -> None:
    """Have a context show the certificate of that file, with its key, to who asks for one. Reads the file.

    Raises:
        OSError: the file cannot be read, or holds no certificate with its key, unencrypted (ssl.SSLError).
    """
    context.load_cert_chain(certificate_file, password=_nothing)


def _nothing() -> str:
    """Stand for the passphrase of an encrypted key: without this, OpenSSL would ask for it at the terminal."""
    return ""


async def dial(address: Address, context: ssl.SSLContext | None) -> socket.socket:
    """Connect, and shake hands when there is a context; give a non-blocking socket that the caller owns.

    paho connects in a thread, which cannot be cancelled: its socket would outlive a time-out, connect when the broker
    comes back, and end in a false "offline" Will. Here everything ends with the caller.

    Raises:
        OSError: no name, no route, refused, or TLS trouble (ssl.SSLError).
    """
    connection = await _connect(address)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return connection
        connection = context.wrap_socket(connection, server_hostname=address.host, do_handshake_on_connect=False)
        await _shake_hands(connection)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    trouble: OSError = OSError(f"{address.host} has no address")
    for family, kind, protocol, _, place in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(0)
            await loop.sock_connect(connection, place)
        except OSError as error:
            connection.close()
            trouble = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise trouble


async def _shake_hands(connection: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(connection, loop.add_reader, loop.remove_reader)
        except ssl.SSLWantWriteError:
            await _ready(connection, loop.add_writer, loop.remove_writer)
        else:
            return


async def _ready(
    connection: socket.socket,
    watch: Callable[[int, Callable[[], None]], None],
    unwatch: Callable[[int], bool],
) -> None:
    """Wait until the socket can be read, or written, whichever is watched."""
    ready = asyncio.Event()
    number = connection.fileno()
    watch(number, ready.set)
    try:
        await ready.wait()
    finally:
        unwatch(number)
