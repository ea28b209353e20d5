"""What a session does when the broker refuses, dies or hangs."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from paho.mqtt.client import Client as PahoClient

from bus.support import bus, message, settings
from byokd.adapters.mqtt.bus import MqttBus
from byokd.adapters.mqtt.connection import CONTENT_TYPE
from byokd.ports import BusRefusedError, BusUnavailableError
from parts.certificates import server_files
from parts.leftovers import open_sockets, other_tasks
from parts.mosquitto import Mosquitto, mosquitto, password_file
from parts.subscriber import subscriber
from parts.waiting import until

AT_ONCE_SECONDS = 5
"""Much less than the limits of the settings (10 and 15 s), much more than a busy machine needs."""

pytestmark = pytest.mark.real("mosquitto")


@asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < AT_ONCE_SECONDS


async def test_a_message_that_the_access_list_forbids_is_refused_and_the_session_lives(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write allowed/#\n")
    async with (
        mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker,
        bus(broker.address).connect("sender") as session,
    ):
        with pytest.raises(BusRefusedError, match="Not authorized"):
            await session.publish(message("forbidden/events"))
        await session.publish(message("allowed/events"))


@pytest.mark.parametrize("allowed", ["read", "write"])
async def test_what_is_retained_cannot_be_read_without_the_right(tmp_path: Path, allowed: str) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic {allowed} some/#\ntopic readwrite allowed/#\n")
    async with (
        mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker,
        bus(broker.address, publish_timeout=timedelta(seconds=1)).connect("sender") as session,
    ):
        with pytest.raises(BusRefusedError, match=r"Not authorized|did not let us read"):
            await session.retained("some/state")
        assert await session.retained("allowed/state") is None


async def test_a_message_larger_than_the_broker_takes_is_refused_without_sending_it(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path / "mosquitto", "max_packet_size 1000") as broker,
        bus(broker.address).connect("sender") as session,
    ):
        with pytest.raises(BusRefusedError, match="1000 bytes"):
            await session.publish(message(payload=b"x" * 1000))
        await session.publish(message())


async def test_a_retained_message_is_refused_where_none_are_kept(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path / "mosquitto", "retain_available false") as broker,
        bus(broker.address).connect("sender") as session,
    ):
        with pytest.raises(BusRefusedError, match="retain"):
            await session.publish(message(retain=True))
        await session.publish(message())


async def test_a_broker_that_takes_few_at_once_gets_all_in_order(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path / "mosquitto", "max_inflight_messages 3", "max_queued_messages 0") as broker,
        subscriber(broker.address) as heard,
        bus(broker.address).connect("sender") as session,
    ):
        await asyncio.gather(*(session.publish(message("some/events", b"%d" % one)) for one in range(200)))
        arrived = await heard.hears("some/events", times=200)
    assert [int(one.payload) for one in arrived] == list(range(200))


async def test_when_the_broker_is_killed_waiting_messages_end_at_once(killable: Mosquitto) -> None:
    async def scenario() -> None:
        async with bus(killable.address).connect("sender") as session:
            killable.hang()
            sending = [asyncio.create_task(session.publish(message(payload=b"x" * 500))) for _ in range(50)]
            await asyncio.sleep(0)
            await killable.kill()
            results.extend(await asyncio.gather(*sending, return_exceptions=True))
            await session.lost()

    results: list[object] = []
    sockets, tasks = open_sockets(), await other_tasks()
    async with at_once():
        with pytest.raises(BusUnavailableError, match="connection broke"):
            await scenario()
    assert len(results) == 50
    assert all(isinstance(result, BusUnavailableError) for result in results)
    assert (open_sockets(), await other_tasks()) == (sockets, tasks)


async def test_a_session_is_of_no_use_after_a_loss(killable: Mosquitto) -> None:
    async def scenario() -> None:
        async with bus(killable.address).connect("sender") as session:
            await killable.kill()
            await session.lost()
            await killable.start()
            with pytest.raises(BusUnavailableError):
                await session.publish(message())

    with pytest.raises(BusUnavailableError):
        await scenario()


async def test_a_broker_that_acknowledges_nothing_is_given_up(killable: Mosquitto) -> None:
    async def scenario() -> None:
        async with bus(killable.address, publish_timeout=timedelta(milliseconds=200)).connect("sender") as session:
            killable.hang()
            await session.publish(message())

    sockets, tasks = open_sockets(), await other_tasks()
    with pytest.raises(BusUnavailableError, match=r"not acknowledged within 0\.2 s"):
        await scenario()
    assert (open_sockets(), await other_tasks()) == (sockets, tasks)


async def test_a_message_behind_others_that_were_acknowledged_has_its_own_time(killable: Mosquitto) -> None:
    async def scenario() -> None:
        async with bus(killable.address, publish_timeout=timedelta(milliseconds=300)).connect("sender") as session:
            for _ in range(3):
                await session.publish(message())
            killable.hang()
            started.append(asyncio.get_running_loop().time())
            await session.publish(message())

    started: list[float] = []
    with pytest.raises(BusUnavailableError, match=r"not acknowledged within 0\.3 s"):
        await scenario()
    assert asyncio.get_running_loop().time() - started[0] >= 0.299


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_connect_that_was_given_up_leaves_nothing_and_no_will(killable: Mosquitto, how: str) -> None:
    will = message("sender/status", b"offline", retain=True)
    limit = timedelta(seconds=60) if how == "cancelled" else timedelta(milliseconds=300)
    async with subscriber(killable.address) as heard:
        sockets, tasks = open_sockets(), await other_tasks()
        killable.hang()
        connecting = asyncio.create_task(_connect(killable.address, will, limit))
        await until(lambda: open_sockets() != sockets)
        if how == "cancelled":
            connecting.cancel()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else BusUnavailableError):
            await connecting
        assert (open_sockets(), await other_tasks()) == (sockets, tasks)
        killable.wake()
        async with bus(killable.address).connect("other") as session:
            await session.publish(message("other/events"))
        await heard.hears("other/events")
        assert not heard.on("sender/status")


async def _connect(address: str, will: object, limit: timedelta) -> None:
    async with bus(address, connect_timeout=limit).connect("sender", will=will):  # type: ignore[arg-type]
        raise AssertionError("a hung broker cannot answer")


async def test_wrong_credentials_are_named_and_the_password_is_not(tmp_path: Path) -> None:
    passwords = await password_file(tmp_path, byokd="correct horse")
    secret = tmp_path / "secret"
    secret.write_text("battery staple\n")
    async with mosquitto(tmp_path / "m", "allow_anonymous false", f"password_file {passwords}") as broker, at_once():
        with pytest.raises(BusUnavailableError, match="refused the connection: Not authorized") as refused:
            async with bus(broker.address, username="byokd", password_file=secret).connect("sender"):
                pass
        assert "staple" not in str(refused.value)
        secret.write_text("correct horse\n")
        async with bus(broker.address, username="byokd", password_file=secret).connect("sender") as session:
            await session.publish(message())


async def test_tls_is_spoken_with_an_own_authority_and_no_other(tmp_path: Path) -> None:
    files, others = server_files(tmp_path / "own"), server_files(tmp_path / "other")
    lines = ("listener {port} 127.0.0.1", f"certfile {files.certificate}", f"keyfile {files.key}")
    async with mosquitto(tmp_path / "mosquitto", *lines) as broker:
        sockets = open_sockets()
        secure = {"scheme": "mqtts", "ca_file": files.authority}
        async with bus(broker.address, **secure).connect("sender") as session:
            payload = b"x" * 100_000
            await asyncio.gather(*(session.publish(message(payload=payload)) for _ in range(20)))
        with pytest.raises(BusUnavailableError, match=rf"not vouched for by {others.authority}"):
            async with bus(broker.address, scheme="mqtts", ca_file=others.authority).connect("sender"):
                pass
        with pytest.raises(BusUnavailableError, match="the system's authorities"):
            async with bus(broker.address, scheme="mqtts").connect("sender"):
                pass
        assert open_sockets() == sockets


async def test_a_certificate_of_our_own_is_shown_to_a_broker_that_wants_one(tmp_path: Path) -> None:
    files, others = server_files(tmp_path / "own"), server_files(tmp_path / "other")
    for one in (files, others):
        (one.key.parent / "client.pem").write_bytes(one.certificate.read_bytes() + one.key.read_bytes())
    lines = ("listener {port} 127.0.0.1", f"certfile {files.certificate}", f"keyfile {files.key}")
    wanted = (f"cafile {files.authority}", "require_certificate true", "use_identity_as_username true")
    async with mosquitto(tmp_path / "mosquitto", *lines, *wanted, "allow_anonymous false") as broker:
        secure = {"scheme": "mqtts", "ca_file": files.authority}
        own = tmp_path / "own/client.pem"
        async with bus(broker.address, **secure, certificate_file=own).connect("sender") as session:
            await session.publish(message())
        for wrong in ({}, {"certificate_file": tmp_path / "other/client.pem"}):
            with pytest.raises(BusUnavailableError):
                async with bus(broker.address, **secure, **wrong).connect("sender") as session:
                    await session.publish(message())
        with pytest.raises(BusUnavailableError, match=f"cannot read {files.certificate}: TLS"):
            async with bus(broker.address, **secure, certificate_file=files.certificate).connect("sender"):
                pass


async def test_tls_names_the_protocol_where_that_is_set(tmp_path: Path) -> None:
    """mosquitto takes no notice of it, so that a listener of our own has to."""
    files, named = server_files(tmp_path / "own"), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["http/1.1", "x-amzn-mqtt-ca"])

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        named.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for alpn in ("x-amzn-mqtt-ca", None):
            with pytest.raises(BusUnavailableError):
                async with bus(address, scheme="mqtts", ca_file=files.authority, alpn=alpn).connect("sender"):
                    pass
    assert named == ["x-amzn-mqtt-ca", None]


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for changes in ({"scheme": "mqtts", "ca_file": missing}, {"username": "byokd", "password_file": missing}):
        with pytest.raises(BusUnavailableError, match=rf"cannot read {missing}: No such file"):
            async with bus("127.0.0.1:1", **changes).connect("sender"):
                pass


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"keepalive": timedelta(days=1)}, "something is too long"),
        ({"username": "staple" * 11_000}, "something is too long"),
        ({"username": "staple\udcff"}, "UnicodeEncodeError"),
        ({"url": "mqtt://127.0.0..1"}, "UnicodeError"),
    ],
)
async def test_what_no_packet_can_be_made_of_is_trouble_of_the_bus(
    broker: str, caplog: pytest.LogCaptureFixture, changes: dict[str, object], why: str
) -> None:
    """The settings refuse it; should one be forgotten there, watching must not end over the bus."""
    unchecked = settings(broker).model_copy(update=changes)
    sockets = open_sockets()
    with pytest.raises(BusUnavailableError, match=rf"no CONNECT can be made of .* \[mqtt\]: {why}$") as refused:
        async with MqttBus(unchecked).connect("sender"):
            pass
    assert "staple" not in str(refused.value)
    assert not await other_tasks()
    assert open_sockets() == sockets
    assert not caplog.records


async def test_nobody_listening_is_said() -> None:
    with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1: Connection refused"):
        async with bus("127.0.0.1:1").connect("sender"):
            pass


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 1000, b"\x20\x03\x00\x00\xff", b"\x20\x05\x00\x77\x02\x11\x00", b""],
)
async def test_something_else_than_a_broker_is_given_up_at_once(answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        with suppress(ConnectionError):
            if answer:
                await reader.read()
        writer.close()
        answered.set()

    answered = asyncio.Event()
    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server, at_once():
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailableError):
            async with bus(f"127.0.0.1:{port}").connect("sender"):
                pass
        await answered.wait()


async def test_an_exception_in_the_library_ends_the_session(
    killable: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a defect of paho's")

    async def scenario() -> None:
        async with bus(killable.address).connect("sender") as session:
            monkeypatch.setattr(PahoClient, "loop_read", fail)
            await session.publish(message())

    sockets, tasks = open_sockets(), await other_tasks()
    async with at_once():
        with pytest.raises(BusUnavailableError, match="could not be read"):
            await scenario()
    assert (open_sockets(), await other_tasks()) == (sockets, tasks)


async def test_no_more_is_in_flight_than_the_broker_asked_for() -> None:
    """Scripted, because mosquitto asks for it and forgives it."""
    connack = bytes([0x20, 6, 0, 0, 3, 0x21, 0, 3])  # accepted, with Receive Maximum 3
    publish_size = 5 + len("t") + len(b"{}") + 2 + len("\x01\x01\x03\x00\x00") + len(CONTENT_TYPE)
    arrived = bytearray()
    three = asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(connack)
        while data := await reader.read(1000):
            arrived.extend(data)
            if len(arrived) >= 3 * publish_size:
                three.set()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server, at_once():
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with bus(address).connect("sender") as session:
            sending = [asyncio.create_task(session.publish(message("t"))) for _ in range(10)]
            await three.wait()
        await asyncio.gather(*sending, return_exceptions=True)
    assert arrived.count(CONTENT_TYPE.encode()) == 3
