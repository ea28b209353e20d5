"""The way out to Azure: few connections, one TLS context, nothing unbounded.

Proxies of the environment are not used and cookies are not kept. That redirects are not followed is said with each
request.
"""

import asyncio.sslproto
import ssl
from types import TracebackType
from typing import Self

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest

from byokd.adapters.keyvault.addresses import MappedResolver, Reach
from byokd.adapters.keyvault.connections import (
    ASKED_FOR,
    MAX_BATCH_BYTES,
    MAX_SENT_BYTES,
    BatchResponse,
    BoundedConnector,
    BoundedResponse,
)
from byokd.settings import NetworkSettings, VaultSettings

AzureTransport = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]
"""What clients of the Azure SDK send through."""

TLS_BUFFER_BYTES = 32 * 1024
"""Two TLS records (16 KiB each), instead of the 256 KiB that asyncio keeps for every open connection."""

_BACKSTOP_SECONDS = 60
"""Ends a request that nobody set a deadline for; the deadlines of checks and rewraps are far shorter."""

_TOKEN_CONNECTIONS = 8
"""To token endpoints, apart from the vaults' so that slow vaults cannot keep tokens waiting."""

_QUEUE_CONNECTIONS, _QUEUE_CONNECTIONS_OF_ONE = 64, 8
"""To storage accounts, and to one of them, so that one that hangs keeps no other waiting. A queue's messages are
deleted side by side."""


def shrink_tls_buffers() -> None:
    """Make TLS connections opened from now on, by the whole process, keep TLS_BUFFER_BYTES each for reading.

    asyncio has no setting for it, only this class attribute. 200 idle connections otherwise keep 50 MB.
    """
    asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES


class Outbound:
    """Four pools of connections that share one TLS context. Made inside the running loop; closed by `close`.

    Attributes:
        kept: for vaults; at most `vaults.connections` connections, open for `vaults.keepalive` after their last use.
        fresh: for vaults; every request opens a connection of its own, to an address that is looked up anew.
        tokens: for token endpoints; hand it to the identity adapter.
        queues: for Storage Queues, whose answers are longer.
    """

    kept: ClientSession
    fresh: ClientSession
    tokens: AzureTransport
    queues: AzureTransport

    def __init__(self, vaults: VaultSettings, network: NetworkSettings) -> None:
        context = ssl.create_default_context(cafile=None if network.ca_file is None else str(network.ca_file))
        context.set_alpn_protocols(["http/1.1"])
        reach = Reach.PRIVATE if network.private_addresses == "allow" else Reach.PUBLIC
        resolver = MappedResolver(network.connect_to, reach=reach)
        # Token endpoints are the operator's own, and apart from the vaults: their names wait for no vault's.
        own = MappedResolver(network.connect_to)
        keepalive = vaults.keepalive.total_seconds()
        self.kept = _session(
            BoundedConnector(resolver=resolver, ssl=context, limit=vaults.connections, keepalive_timeout=keepalive)
        )
        self.fresh = _session(
            BoundedConnector(
                resolver=resolver, ssl=context, limit=vaults.connections, force_close=True, use_dns_cache=False
            )
        )
        self._for_tokens = _session(BoundedConnector(resolver=own, ssl=context, limit=_TOKEN_CONNECTIONS))
        self._for_queues = _session(
            BoundedConnector(
                resolver=own,
                ssl=context,
                limit=_QUEUE_CONNECTIONS,
                limit_per_host=_QUEUE_CONNECTIONS_OF_ONE,
                most_sent=MAX_BATCH_BYTES + MAX_SENT_BYTES,
            ),
            BatchResponse,
        )
        self.queues = azure_transport(self._for_queues)
        self._resolvers = (resolver, own)
        self.tokens = azure_transport(self._for_tokens)

    async def close(self) -> None:
        """Close every connection. Requests under way fail."""
        for session in (self.kept, self.fresh, self._for_tokens, self._for_queues):
            await session.close()
        for resolver in self._resolvers:
            await resolver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def azure_transport(session: ClientSession) -> AzureTransport:
    """Give a session the shape that the Azure SDK wants. Closing the transport leaves the session open."""
    transport: AzureTransport = AioHttpTransport(
        session=session, session_owner=False, connection_timeout=_BACKSTOP_SECONDS, read_timeout=_BACKSTOP_SECONDS
    )
    return transport


def _session(connector: TCPConnector, response: type[BoundedResponse] = BoundedResponse) -> ClientSession:
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        headers=ASKED_FOR,
        auto_decompress=False,
        response_class=response,
        timeout=ClientTimeout(total=_BACKSTOP_SECONDS),
        trust_env=False,
    )
