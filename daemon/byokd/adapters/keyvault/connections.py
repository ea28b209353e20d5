"""What aiohttp leaves unbounded: idle connections, and whatever a server sends."""

import asyncio
from functools import partial
from typing import Any

from aiohttp import ClientPayloadError, ClientRequest, ClientResponse, ClientTimeout, TCPConnector, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

MAX_BODY_BYTES = 64 * 1024
"""An answer of Key Vault or of a token endpoint has a few kilobytes; one beyond this is cut off and unreadable."""

MAX_SENT_BYTES = 4 * MAX_BODY_BYTES
"""What a server may send between two requests, whatever it is: interim answers, headers, chunks and what frames them,
answers that nobody asked for. Beyond it the connection is cut."""

ASKED_FOR = {hdrs.ACCEPT_ENCODING: "identity"}
"""Headers of all requests: answers are short, and what is not compressed cannot grow."""


MAX_BATCH_BYTES = 32 * 6 * MAX_BODY_BYTES + MAX_BODY_BYTES
"""A batch of a Storage Queue: 32 messages of 64 KiB at most, of which each character may take six as XML. So an answer
of the service is never too long, whoever wrote the messages."""


class BoundedResponse(ClientResponse):
    """An answer of at most `most_bytes` (MAX_BODY_BYTES), not compressed.

    A longer one costs that much and its connection, and raises ClientPayloadError. So does a compressed one: it was not
    asked for, and is not looked into.
    """

    most_bytes = MAX_BODY_BYTES

    async def start(self, connection: Connection) -> ClientResponse:
        """Read the head."""
        started = await super().start(connection)
        if self.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in ("", "identity"):
            raise ClientPayloadError("the answer is compressed")
        return started

    async def read(self) -> bytes:
        """Read the body, once."""
        if self._body is None:
            try:
                self._body = await self._bounded()
            except BaseException:
                self.close()
                raise
        return await super().read()

    async def _bounded(self) -> bytes:
        body = bytearray()
        while chunk := await self.content.readany():
            body += chunk
            if len(body) > self.most_bytes:
                raise ClientPayloadError("the answer is too long")
        return bytes(body)


class BatchResponse(BoundedResponse):
    """As above, of at most MAX_BATCH_BYTES."""

    most_bytes = MAX_BATCH_BYTES


class _BoundedHandler(ResponseHandler):
    """Cuts the connection to a server that sends more than `most` bytes between two requests.

    aiohttp takes in interim answers, framing, and what comes on an idle connection without any bound.
    """

    _sent = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, *, most: int) -> None:
        super().__init__(loop)
        self._most = most

    def set_response_params(self, **told: Any) -> None:  # noqa: ANN401 - aiohttp's own signature
        """Begin to count anew: a request follows."""
        self._sent = 0
        super().set_response_params(**told)

    def data_received(self, data: bytes) -> None:
        """Take what came, up to the bound."""
        self._sent += len(data)
        if self._sent <= self._most:
            super().data_received(data)
        elif self.transport is not None:
            # Ends the request under way; what was parsed and not yet read goes with the connection.
            error = ClientPayloadError("the server sends too much")
            self.set_exception(error)
            if self._payload is not None:
                self._payload.set_exception(error)
            self._buffer.clear()
            self.abort()


class BoundedConnector(TCPConnector):
    """A pool whose limit counts idle connections too (aiohttp's own counts only those in use).

    At the bound a new connection closes the one that has been idle longest; when all are in use, the request waits.
    What a server sends between two requests is bounded by `most_sent` (MAX_SENT_BYTES).
    """

    def __init__(self, *, most_sent: int = MAX_SENT_BYTES, **told: Any) -> None:  # noqa: ANN401 - aiohttp's own signature
        super().__init__(**told)
        handler = partial(_BoundedHandler, loop=asyncio.get_running_loop(), most=most_sent)
        self._factory = handler  # type: ignore[assignment]

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> ResponseHandler:
        self._make_room()
        return await super()._create_connection(req, traces, timeout)

    def _make_room(self) -> None:
        # The place of the new connection is among the acquired ones already.
        idle = sum(map(len, self._conns.values()))
        for key in list(self._conns):
            while idle and len(self._acquired) + idle > self._limit and self._conns[key]:
                self._conns[key].popleft()[0].close()
                idle -= 1
            if not self._conns[key]:
                del self._conns[key]
