"""The socket that paho is given. PUBLISH and PUBACK pass paho by; everything else goes through it.

The full path of paho costs some 40 us more of processor time for a message and its acknowledgement, see
docs/decisions/20261123-publish-past-paho.md. It reads byte by byte, makes objects of properties that are not there,
keeps the message for a repetition that a new connection per loss never asks for, and writes each packet by itself. Here
what came is read at once, and what was published in one turn of the event loop is written at once. Left out: QoS 0 and
2, topic aliases, repetition, and the properties of a PUBACK.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Never

_PUBLISH_QOS_1 = 0x32
_PUBACK = 0x40
_READ_BYTES = 65_536

LARGEST_PACKET_BYTES = 65_536
"""What a broker may send us. It has acknowledgements to send, and the marker, of some hundred bytes."""

FIRST_ID, LAST_ID = 0x8000, 0xFFFF
"""Packet identifiers of what is published here. paho counts its few SUBSCRIBEs and UNSUBSCRIBEs up from 1."""


class Channel:
    """Behaves to paho like the non-blocking socket that it holds. What it holds unwritten, its callers bound."""

    def __init__(
        self,
        opened: socket.socket,
        *,
        on_puback: Callable[[int, int], None],
        on_unreadable: Callable[[OSError], None],
        on_unwritable: Callable[[OSError], None],
    ) -> None:
        """Take the socket, and who is told.

        Args:
            opened: a non-blocking socket; it is closed here.
            on_puback: takes the packet identifier and the reason code of a PUBACK.
            on_unreadable: takes the error that is raised to paho next.
            on_unwritable: takes the error that writing ended with; to close is the caller's.
        """
        self._socket = opened
        self._on_puback = on_puback
        self._on_unreadable = on_unreadable
        self._on_unwritable = on_unwritable
        self._loop = asyncio.get_running_loop()
        self._unwritten = bytearray()
        self._unparsed = bytearray()
        self._for_paho = bytearray()
        self._is_writing = False
        self._is_closed = False

    def publish(self, packet: bytes) -> None:
        """Send a packet, with whatever else is sent in this turn of the loop."""
        self._unwritten += packet
        if not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._write)

    def send(self, packet: bytes | bytearray) -> int:
        """Send one of paho's packets in the same way; paho never has to wait, and learns of trouble by reading."""
        self.publish(bytes(packet))
        return len(packet)

    def recv(self, most: int) -> bytes:
        """Give paho what it is to read. Raises OSError as a socket does; BlockingIOError when there is nothing."""
        if not self._for_paho:
            data = self._read()
            if not data:
                return b""
            self._unparsed += data
            self._parse()
            if not self._for_paho:
                raise BlockingIOError
        given = bytes(self._for_paho[:most])
        del self._for_paho[:most]
        return given

    def pending(self) -> int:
        """Give how much can be read though the socket may not be readable: aiomqtt goes on reading then."""
        within = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) and not self._is_closed else 0
        return len(self._for_paho) + within

    def fileno(self) -> int:
        """Give the number of the socket; -1 once it is closed."""
        return self._socket.fileno()

    def setblocking(self, blocking: bool) -> None:  # noqa: FBT001 - a socket's signature
        """Stay as the socket was opened: non-blocking."""

    def shutdown(self) -> None:
        """End the connection; paho reads its end, or fails to write. Raises OSError."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; of what is unwritten it gets what it takes at once: a goodbye."""
        if not self._is_closed:
            self._is_closed = True
            with contextlib.suppress(OSError):
                self._flush()
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _read(self) -> bytes:
        try:
            return self._socket.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            self._on_unreadable(error)
            raise

    def _write(self) -> None:
        if self._is_closed:
            return
        try:
            self._is_writing = not self._flush()
        except OSError as error:
            self._on_unwritable(error)
            return
        if self._is_writing:
            self._loop.add_writer(self._socket.fileno(), self._on_room)

    def _on_room(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._write()

    def _flush(self) -> bool:
        """Write what the socket takes; tell whether that was all."""
        while self._unwritten:
            try:
                written = self._socket.send(self._unwritten)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return False
            del self._unwritten[:written]
        return True

    def _parse(self) -> None:
        """Take out every whole packet that came: ours are told of, paho's are kept for it."""
        data, start, end = self._unparsed, 0, len(self._unparsed)
        while end - start >= 2:  # noqa: PLR2004 - a packet has at least two bytes
            body = _body(data, start)
            if body is not None and body[1] - start > LARGEST_PACKET_BYTES:
                self._refuse_packet(body[1] - start)
            if body is None or body[1] > end:
                break
            first, after = body
            if data[start] == _PUBACK and after - first >= 2:  # noqa: PLR2004 - the packet identifier
                reason = data[first + 2] if after - first > 2 else 0  # noqa: PLR2004 - as above
                self._on_puback(data[first] << 8 | data[first + 1], reason)
            else:
                self._for_paho += data[start:after]
            start = after
        del data[:start]

    def _refuse_packet(self, size: int) -> Never:
        """End the connection rather than wait for so much: whoever sends it chooses how much memory it takes."""
        error = ConnectionAbortedError(f"the broker sends a packet of {size} bytes")
        self._on_unreadable(error)
        raise error


def publish_packet(topic: str, payload: bytes, *, packet_id: int, retain: bool, properties: bytes) -> bytes:
    """Give a PUBLISH of QoS 1. `properties` are packed, with their length before them."""
    name = topic.encode()
    length = 2 + len(name) + 2 + len(properties) + len(payload)
    header = bytearray((_PUBLISH_QOS_1 | retain,))
    while length > 0x7F:  # noqa: PLR2004 - seven bits in each byte
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return b"".join((header, len(name).to_bytes(2, "big"), name, packet_id.to_bytes(2, "big"), properties, payload))


def _body(data: bytearray, start: int) -> tuple[int, int] | None:
    """Give where the body of a packet begins and where it ends; None while its length has not come whole.

    A length of more than four bytes is no length: the packet ends with the data, and paho says so.
    """
    length = 0
    for place in range(4):
        position = start + 1 + place
        if position >= len(data):
            return None
        length |= (data[position] & 0x7F) << 7 * place
        if data[position] < 0x80:  # noqa: PLR2004 - the last byte of the length
            return position + 1, position + 1 + length
    return len(data), len(data)
