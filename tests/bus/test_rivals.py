"""Two daemons that were given one topic_prefix by mistake are told of each other, and by the mistake's name."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bus.support import PREFIX, bus, publisher, running
from byokd.adapters.sql import SqlStore, open_inline
from byokd.ports import BusTakenOverError, BusUnavailableError
from byokd.runtime.clock import SystemClock, UuidIds
from byokd.runtime.envelope import publisher_client_id
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.publisher import Publisher
from byokd.runtime.rivals import Rivals
from parts.mosquitto import mosquitto
from parts.waiting import until
from store.builders import auditor
from virtual.clock import VirtualClock

CONNACK = bytes.fromhex("2003000000")
SESSION_TAKEN_OVER = bytes.fromhex("e0018e")
NOT_SAID = bytes.fromhex("e0018b")


async def shown(store: SqlStore, sending: Publisher) -> tuple[str, str | None]:
    health = Health(SystemClock())
    await Observer(store, clock=SystemClock(), health=health, metrics=Metrics(), publisher=sending).observe()
    condition = health.conditions[Component.BUS]
    return condition.message, condition.hint


@pytest.mark.real("mosquitto")
async def test_both_say_that_there_is_another_whether_connected_or_not(tmp_path: Path, store: SqlStore) -> None:
    other = open_inline(UuidIds(), auditor())
    try:
        async with mosquitto(tmp_path / "mosquitto") as broker:
            daemons = [(one, publisher(one, broker.address)) for one in (store, other)]
            with capture_logs() as logs:
                async with running(*(sending for _, sending in daemons)):
                    await until(lambda: all(sending.status.rival for _, sending in daemons))
                    for one, sending in daemons:
                        message, hint = await shown(one, sending)
                        assert f"{PREFIX}/service/marker" in message
                        assert "another daemon publishes below our topic_prefix" in message
                        assert "topic_prefix of its own" in str(hint)
        assert [log["log_level"] for log in logs if log["event"] == "bus-rival"] == ["warning"] * 2
    finally:
        await other.close()


async def test_one_daemon_that_reconnects_is_no_rival_of_itself(tmp_path: Path, store: SqlStore) -> None:
    async with mosquitto(tmp_path / "mosquitto") as broker:
        for _ in range(3):
            sending = publisher(store, broker.address)
            async with running(sending):
                await cut_off(sending, broker.address)
                await cut_off(sending, broker.address)
            assert sending.status.rival is None


async def cut_off(sending: Publisher, address: str) -> None:
    await until(lambda: sending.status.link.connected)
    assert await sending.drain(within=timedelta(seconds=10))
    since = sending.status.link.since
    async with bus(address).connect(publisher_client_id(PREFIX)):
        await until(lambda: sending.status.link.since != since)


@pytest.mark.parametrize(("packet", "is_taken_over"), [(SESSION_TAKEN_OVER, True), (NOT_SAID, False)])
async def test_a_broker_that_says_so_is_believed_at_once(packet: bytes, is_taken_over: bool) -> None:  # noqa: FBT001
    """mosquitto 2.0 and rumqttd close without a word: only what MQTT 5 has a broker say can be played here."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK)
        await writer.drain()
        await begun.wait()
        writer.write(packet)
        await writer.drain()
        writer.close()

    async def be_twin(address: str) -> None:
        async with bus(address).connect("twin") as session:
            begun.set()
            await session.lost()

    begun = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(BusUnavailableError, match="the broker closed the connection") as ended:
            await be_twin(f"{host}:{port}")
    assert isinstance(ended.value, BusTakenOverError) == is_taken_over
    assert ("another client connected as twin" in str(ended.value)) == is_taken_over


async def test_a_publisher_whose_broker_says_so_has_a_rival(store: SqlStore) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK + SESSION_TAKEN_OVER)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        sending = publisher(store, f"{host}:{port}")
        async with running(sending):
            await until(lambda: sending.status.rival is not None)
    assert "another client connected as byokd-publisher-byokd-v1" in str(sending.status.rival)
    assert (await shown(store, sending))[1] is not None


@pytest.mark.looptime(start=0)
async def test_a_rival_that_is_not_met_again_is_forgotten_and_told_of_anew() -> None:
    clock = VirtualClock()
    rivals = Rivals(clock, reconnect_most=timedelta(seconds=30))
    with capture_logs() as logs:
        assert rivals.problem is None
        rivals.saw("first")
        await clock.sleep(119)
        rivals.saw("again")
        await clock.sleep(119)
        assert rivals.problem == "again"
        await clock.sleep(2)
        assert rivals.problem is None
        rivals.saw("anew")
    assert [log["problem"] for log in logs] == ["first", "anew"]
