"""What aiohttp leaves unbounded or unmapped: idle connections, the length of answers, and where a host name leads."""

import socket
from collections.abc import Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address

from aiohttp import ClientPayloadError, ClientRequest, ClientResponse, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.resolver import ThreadedResolver
from aiohttp.tracing import Trace

MAX_BODY_BYTES = 64 * 1024
"""An answer of Key Vault or of a token endpoint has a few kilobytes; one beyond this is cut off and unreadable."""
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class BoundedResponse(ClientResponse):
    """An answer of at most MAX_BODY_BYTES, counted after decompression.

    A longer one costs that much and its connection, and raises ClientPayloadError.
    """

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
            if len(body) > MAX_BODY_BYTES:
                raise ClientPayloadError("the answer is too long")
        return bytes(body)


class BoundedConnector(TCPConnector):
    """A pool whose limit counts idle connections too (aiohttp's own counts only those in use).

    At the bound a new connection closes the one that has been idle longest; when all are in use, the request waits.
    """

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


class MappedResolver(AbstractResolver):
    """Finds addresses: those of `connect_to` (host pattern to host:port, first match) or the system's.

    Only the address changes: the name in TLS, in the Host header and in the certificate check stays the one asked for.
    """

    def __init__(self, connect_to: Mapping[str, str]) -> None:
        self._places = tuple((pattern.lower(), *_split(address)) for pattern, address in connect_to.items())
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give the addresses of a name.

        Raises:
            OSError: it does not resolve.
        """
        for pattern, mapped_host, mapped_port in self._places:
            if fnmatchcase(host.lower(), pattern):
                return await self._mapped(host, mapped_host, mapped_port, family)
        return await self._system.resolve(host, port, family)

    async def _mapped(
        self, host: str, mapped_host: str, mapped_port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        try:
            version = ip_address(mapped_host).version
        except ValueError:
            return await self._system.resolve(mapped_host, mapped_port, family)
        return [
            ResolveResult(
                hostname=host,
                host=mapped_host,
                port=mapped_port,
                family=_FAMILIES[version],
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        ]

    async def close(self) -> None:
        """Nothing to give back."""


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
