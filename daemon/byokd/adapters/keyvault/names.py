"""Whether a vault is gone: asked of DNS itself when its name did not resolve.

The system's resolver (getaddrinfo) says the same of a name that does not exist, of an alias that leads nowhere, and of
a name that was asked of the wrong server. Only the first says that the vault is gone, and only when the server that
says so knows other vaults.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Final

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver

from byokd.domain.identifiers import VaultHost
from byokd.ports import Clock
from byokd.settings import NetworkSettings

ONE_QUESTION: Final = timedelta(seconds=1)
"""For one server to answer one question; one that does not has no say."""

ALL_QUESTIONS: Final = timedelta(seconds=2)
"""For all of it: well within the deadline of a check."""

WITNESS_AGE: Final = timedelta(hours=1)
"""A vault whose answer is older than this is no witness."""

MOST_WITNESSES: Final = 8
"""Names remembered per suffix: those that answered last. Suffixes are bounded by the settings."""

_MOST_SERVERS: Final = 3
_DNS_PORT: Final = 53
_SYSTEM: Final = "/etc/resolv.conf"
_ASKED_WITNESSES: Final = 2


class _Said(Enum):
    """What a server says of a name."""

    NO_SUCH_NAME = auto()
    ADDRESS = auto()
    ALIAS_OR_NOTHING = auto()
    NO_ANSWER = auto()


class VaultNames:
    """Remembers which vaults answered lately, and asks DNS whether another one is gone.

    Hosts that `network.connect_to` leads elsewhere are not resolved, so they are neither witnesses nor ever gone.
    """

    def __init__(self, network: NetworkSettings, clock: Clock) -> None:
        self._routed = tuple(pattern.lower() for pattern in network.connect_to)
        self._servers = tuple(map(_server, network.nameservers))
        self._clock = clock
        self._witnesses: dict[str, OrderedDict[VaultHost, float]] = {}

    def answered(self, host: VaultHost) -> None:
        """Note that a vault of that name answered, in its own form and over verified TLS."""
        if self._is_routed(host):
            return
        known = self._witnesses.setdefault(_suffix(host), OrderedDict())
        known[host] = self._clock.monotonic()
        known.move_to_end(host)
        if len(known) > MOST_WITNESSES:
            known.popitem(last=False)

    async def is_gone(self, host: VaultHost) -> bool:
        """Tell whether DNS denies the name and knows another vault; False when anything is unclear. Bounded in time.

        Every server that answers must say NXDOMAIN without an alias, and give an address to a witness.
        """
        witnesses = self._witnesses_beside(host)
        if self._is_routed(host) or not witnesses:
            return False
        try:
            async with asyncio.timeout(ALL_QUESTIONS.total_seconds()):
                return await self._all_deny(host, witnesses)
        except TimeoutError:
            return False

    async def _all_deny(self, host: VaultHost, witnesses: Sequence[VaultHost]) -> bool:
        servers = self._servers or _system_servers()
        said = await asyncio.gather(*(_ask(server, host) for server in servers))
        denying = [server for server, word in zip(servers, said, strict=True) if word is _Said.NO_SUCH_NAME]
        if not denying or set(said) - {_Said.NO_SUCH_NAME, _Said.NO_ANSWER}:
            return False
        return all(await asyncio.gather(*(_knows_one(server, witnesses) for server in denying)))

    def _witnesses_beside(self, host: VaultHost) -> list[VaultHost]:
        """Those of the same suffix that answered lately, the last one first."""
        since = self._clock.monotonic() - WITNESS_AGE.total_seconds()
        known = self._witnesses.get(_suffix(host), OrderedDict[VaultHost, float]())
        return [name for name, at in reversed(known.items()) if name != host and at >= since][:_ASKED_WITNESSES]

    def _is_routed(self, host: VaultHost) -> bool:
        return any(fnmatchcase(host, pattern) for pattern in self._routed)


async def _knows_one(server: tuple[str, int], witnesses: Sequence[VaultHost]) -> bool:
    return _Said.ADDRESS in await asyncio.gather(*(_ask(server, witness) for witness in witnesses))


async def _ask(server: tuple[str, int], host: VaultHost) -> _Said:
    """Ask one server, by UDP, by TCP when the answer is too long. Its full name: no search domain is tried."""
    address, port = server
    question = dns.message.make_query(f"{host}.", dns.rdatatype.A)
    try:
        answer, _ = await dns.asyncquery.udp_with_fallback(
            question, address, timeout=ONE_QUESTION.total_seconds(), port=port
        )
    except (dns.exception.DNSException, OSError, EOFError):
        return _Said.NO_ANSWER
    kinds = {records.rdtype for records in answer.answer}
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return _Said.ALIAS_OR_NOTHING if kinds else _Said.NO_SUCH_NAME
    if answer.rcode() == dns.rcode.NOERROR:
        return _Said.ADDRESS if dns.rdatatype.A in kinds else _Said.ALIAS_OR_NOTHING
    return _Said.NO_ANSWER


def _system_servers() -> tuple[tuple[str, int], ...]:
    """Give the servers of the system, as they are set now."""
    try:
        system = dns.resolver.Resolver(_SYSTEM)
    except dns.exception.DNSException:
        return ()
    return tuple((str(server), _DNS_PORT) for server in system.nameservers[:_MOST_SERVERS])


def _server(setting: str) -> tuple[str, int]:
    """Read `address` or `address:port`; IPv6 addresses with a port stand in brackets."""
    if setting.startswith("["):
        address, _, port = setting[1:].partition("]")
        return address, int(port.removeprefix(":") or _DNS_PORT)
    if setting.count(":") == 1:
        address, _, port = setting.partition(":")
        return address, int(port)
    return setting, _DNS_PORT


def _suffix(host: VaultHost) -> str:
    return host.partition(".")[2]
