"""A DNS server on loopback that answers as told, over UDP."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum, auto

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class Answers(Enum):
    """What a server can say of a name."""

    NXDOMAIN = auto()
    ADDRESS = auto()
    ALIASED = auto()
    """An alias and its address, as every vault has."""
    DANGLING = auto()
    """An alias whose target does not exist: NXDOMAIN too, by the rules."""
    NODATA = auto()
    SERVFAIL = auto()
    REFUSED = auto()
    GARBAGE = auto()
    SILENCE = auto()


class DnsServer(asyncio.DatagramProtocol):
    """Answers each name as `names` says, unknown ones with NXDOMAIN; remembers what it was asked."""

    def __init__(self, names: Mapping[str, Answers]) -> None:
        self.names = dict(names)
        self.asked: list[str] = []
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def start(cls, names: Mapping[str, Answers]) -> AsyncIterator["DnsServer"]:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(lambda: cls(names), local_addr=("127.0.0.1", 0))
        server.address = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
        try:
            yield server
        finally:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        name = question.question[0].name
        host = str(name).rstrip(".")
        self.asked.append(host)
        said = self.names.get(host, Answers.NXDOMAIN)
        if said is Answers.SILENCE:
            return
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        target = f"data-{host}."
        if said in (Answers.ALIASED, Answers.DANGLING):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        if said is Answers.ADDRESS:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
        if said is Answers.ALIASED:
            answer.answer.append(dns.rrset.from_text(target, 60, "IN", "A", "192.0.2.1"))
        codes = {Answers.NXDOMAIN: dns.rcode.NXDOMAIN, Answers.DANGLING: dns.rcode.NXDOMAIN}
        codes |= {Answers.SERVFAIL: dns.rcode.SERVFAIL, Answers.REFUSED: dns.rcode.REFUSED}
        answer.set_rcode(codes.get(said, dns.rcode.NOERROR))
        self._transport.sendto(b"\x00" if said is Answers.GARBAGE else answer.to_wire(), addr)
