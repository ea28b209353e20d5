"""Where a host name leads, and where none may lead.

What is checked here is what is connected to: a name is resolved once for each connection (or taken from aiohttp's short
cache of what was checked), so a name that leads elsewhere a moment later gains nothing.
"""

import asyncio
import socket
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, cast

from aiohttp import ClientConnectionError
from aiohttp.abc import AbstractResolver, ResolveResult

from byokd.adapters.keyvault.lookup_threads import LookupThreads

LOOKUP_THREADS: Final = 32
"""Names being looked up at once. One that hangs holds a thread for as long as the system's resolver tries (10 s by
default) and is asked again after a minute, so it takes some 190 of them to keep the others waiting."""

MOST_ADDRESSES: Final = 8
"""Addresses of one name that are tried."""

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NAT64: Final = IPv6Network("64:ff9b::/96")
_HOST_OF_MACHINES: Final = IPv4Address("168.63.129.16")
"""Azure's own, next to every virtual machine; it looks public."""

_Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]]


class AddressRefusedError(ClientConnectionError):
    """A host name leads only to addresses that may not be connected to."""


class Reach(StrEnum):
    """Which addresses the names of hosts may lead to."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Public and private ones. Never this machine, its link (where instance metadata is) or no single host."""
    ANY = "any"


def may_reach(address: str, reach: Reach) -> bool:
    """Whether an address may be connected to; by the IPv4 address inside, where an IPv6 one carries such."""
    if reach is Reach.ANY:
        return True
    ip = _inner(ip_address(address.partition("%")[0]))
    ours = ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip == _HOST_OF_MACHINES
    if ours or ip.is_multicast or ip.is_reserved:
        return False
    return reach is Reach.PRIVATE or ip.is_global


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


class MappedResolver(AbstractResolver):
    """Finds addresses: those of `connect_to` (host pattern to host:port, first match) or the system's.

    Only the address changes: the name in TLS, in the Host header and in the certificate check stays the one asked for.
    The operator's own `connect_to` may lead anywhere; other names as far as `reach`. Lookups have threads of their own,
    and one name is looked up once at a time, whoever asks: a name server that hangs holds up nobody else's work.
    """

    def __init__(self, connect_to: Mapping[str, str], *, reach: Reach = Reach.ANY) -> None:
        self._places = tuple((pattern.lower(), *_split(address)) for pattern, address in connect_to.items())
        self._reach = reach
        self._threads = LookupThreads(LOOKUP_THREADS)
        self._asked: dict[tuple[str, int, int], asyncio.Future[_Found]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give the addresses of a name, MOST_ADDRESSES at most.

        Raises:
            OSError: it does not resolve.
            AddressRefusedError: it does, to addresses that it may not lead to.
        """
        for pattern, mapped_host, mapped_port in self._places:
            if fnmatchcase(host.lower(), pattern):
                return await self._mapped(host, mapped_host, mapped_port, family)
        found = await self._looked_up(host, port, family)
        allowed = [result for result in found if may_reach(result["host"], self._reach)]
        if found and not allowed:
            raise AddressRefusedError(host)
        return allowed[:MOST_ADDRESSES]

    async def _mapped(
        self, host: str, mapped_host: str, mapped_port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        try:
            version = ip_address(mapped_host).version
        except ValueError:
            return await self._looked_up(mapped_host, mapped_port, family)
        return [_result(host, mapped_host, mapped_port, _FAMILIES[version])]

    async def _looked_up(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        place = (host, port, family)
        asked = self._asked.get(place)
        if asked is None:
            ask = partial(
                socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
            asked = cast("asyncio.Future[_Found]", asyncio.get_running_loop().run_in_executor(self._threads, ask))
            self._asked[place] = asked
            asked.add_done_callback(partial(self._answered, place))
        # Whoever stops waiting leaves the lookup to the others.
        found = await asyncio.shield(asked)
        return [_result(host, _numeric(address), address[1], kind) for kind, _, _, _, address in found]

    def _answered(self, place: tuple[str, int, int], asked: asyncio.Future[_Found]) -> None:
        del self._asked[place]
        if not asked.cancelled():
            asked.exception()  # somebody may have waited for it, or nobody any more

    async def close(self) -> None:
        """Begin no further lookup. Those under way cannot be broken off; nobody waits for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _result(name: str, address: str, port: int, family: socket.AddressFamily) -> ResolveResult:
    return ResolveResult(
        hostname=name, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=_NUMERIC
    )


def _numeric(address: tuple[Any, ...]) -> str:
    """Write an address with its zone, which only those of one link have."""
    return f"{address[0]}%{address[3]}" if len(address) > 2 and address[3] else str(address[0])  # noqa: PLR2004


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
