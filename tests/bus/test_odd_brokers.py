"""Brokers that let us in and then do what no broker should: only what speaks the protocol by hand can play them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bus.support import bus, commit, publisher, row, running
from byokd.adapters.mqtt.channel import LARGEST_PACKET_BYTES
from byokd.adapters.sql import SqlStore
from byokd.ports import BusUnavailableError
from byokd.runtime.clock import SystemClock
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.publisher import Publisher
from parts.waiting import until

CONNACK = bytes.fromhex("2003000000")
PUBLISH = 0x30


class Odd:
    """Lets everybody in, says one thing more, and nothing after it."""

    def __init__(self, says: bytes = b"") -> None:
        self._says = says
        self.address = ""
        self.met = 0
        self.first_packet = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.first_packet = await reader.read(1000)
        self.met += 1
        writer.write(CONNACK + self._says)
        try:
            while await reader.read(1000):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def odd(broker: Odd) -> AsyncIterator[Odd]:
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        broker.address = f"{host}:{port}"
        yield broker


async def trouble(store: SqlStore, sending: Publisher) -> str | None:
    """What /healthz says of the bus while it is not well."""
    health = Health(SystemClock())
    await Observer(store, clock=SystemClock(), health=health, metrics=Metrics(), publisher=sending).observe()
    return None if health.is_well(Component.BUS) else health.conditions[Component.BUS].message


async def test_one_that_answers_nothing_is_trouble_also_while_it_is_connected(store: SqlStore) -> None:
    await commit(store, row("accounts/a"))
    quick = timedelta(milliseconds=100)
    async with odd(Odd()) as broker:
        sending = publisher(store, broker.address, publish_timeout=quick, reconnect_first=quick, reconnect_most=quick)
        with capture_logs() as logs:
            async with running(sending):
                await until(lambda: broker.met == 1 and sending.status.link.problem is not None)
                for met in (3, 5):
                    await until(lambda least=met: broker.met >= least and sending.status.link.connected)
                    found = await trouble(store, sending)
                    assert found is not None
                    assert "was not acknowledged" in found
    told = [log["event"] for log in logs]
    assert (told.count("bus-connected"), told.count("bus-lost")) == (1, 1)


async def test_one_that_sends_more_than_it_may_is_left_before_it_has_sent_it() -> None:
    size = 250_000_000
    length = bytes((size >> 7 * place & 0x7F) | (0x80 if place < 3 else 0) for place in range(4))

    async def wait_for_loss(address: str) -> None:
        async with asyncio.timeout(10), bus(address).connect("one") as session:
            await session.lost()

    async with odd(Odd(bytes((PUBLISH,)) + length + bytes(1000))) as broker:
        with pytest.raises(BusUnavailableError, match=f"the broker sends a packet of {size + 5} bytes"):
            await wait_for_loss(broker.address)
        # It was told before: a property of CONNECT, maximum packet size.
        assert b"\x27" + LARGEST_PACKET_BYTES.to_bytes(4, "big") in broker.first_packet
