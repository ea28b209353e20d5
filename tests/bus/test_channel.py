"""What passes paho by: the bytes are those that paho would send, and what comes is taken apart wherever it is cut."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from byokd.adapters.mqtt.channel import FIRST_ID, LAST_ID, Channel, publish_packet
from parts.waiting import until

OURS = 0x40


class Collecting:
    """A socket to paho that only keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def send(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


def sent_by_paho(topic: str, payload: bytes, *, packet_id: int, retain: bool, properties: Properties | None) -> bytes:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    collecting = client._sock = Collecting()  # type: ignore[assignment]
    client._send_publish(packet_id, topic.encode(), payload, qos=1, retain=retain, properties=properties)
    client.loop_write()
    return collecting.written


@given(
    topic=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=200),
    payload=st.binary(max_size=300) | st.integers(0, 20_000).map(bytes),
    packet_id=st.integers(FIRST_ID, LAST_ID),
    retain=st.booleans(),
    expiry=st.none() | st.integers(1, 2**32 - 1),
)
def test_a_publish_is_what_paho_would_send(
    *, topic: str, payload: bytes, packet_id: int, retain: bool, expiry: int | None
) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/cloudevents+json"
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    packed = properties.pack()  # type: ignore[no-untyped-call]
    expected = sent_by_paho(topic, payload, packet_id=packet_id, retain=retain, properties=properties)
    assert publish_packet(topic, payload, packet_id=packet_id, retain=retain, properties=packed) == expected


class Heard:
    """A channel, its other end, and what it told."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, int]] = []
        self.breaks = 0
        ours, self.other = socket.socketpair()
        ours.settimeout(0)
        self.channel = Channel(ours, on_puback=self._puback, on_unreadable=self._broke, on_unwritable=self._broke)

    def read(self) -> bytes:
        """Read as paho does, a little at a time, until there is nothing."""
        found = b""
        try:
            while data := self.channel.recv(3):
                found += data
        except BlockingIOError:
            pass
        return found

    def _puback(self, packet_id: int, reason: int) -> None:
        self.acknowledged.append((packet_id, reason))

    def _broke(self, _error: OSError) -> None:
        self.breaks += 1


@asynccontextmanager
async def opened() -> AsyncIterator[Heard]:
    heard = Heard()
    try:
        yield heard
    finally:
        heard.channel.close()
        heard.other.close()


def packet(kind: int, body: bytes) -> bytes:
    length, header = len(body), bytearray([kind])
    while length > 0x7F:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*header, length]) + body


acknowledgements = st.tuples(st.integers(1, 0xFFFF), st.sampled_from([None, 0, 0x10, 0x87, 0x97]))
others = st.builds(
    packet, st.integers(0, 0xFF).filter(lambda kind: kind != OURS), st.binary(max_size=40) | st.just(bytes(20_000))
)


def puback(packet_id: int, reason: int | None) -> bytes:
    return packet(OURS, packet_id.to_bytes(2, "big") + (b"" if reason is None else bytes([reason, 0])))


@given(what=st.lists(acknowledgements | others, max_size=12), data=st.data())
def test_what_comes_is_taken_apart_wherever_it_is_cut(
    what: list[tuple[int, int | None] | bytes], data: st.DataObject
) -> None:
    stream = b"".join(part if isinstance(part, bytes) else puback(*part) for part in what)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))

    async def check() -> bytes:
        async with opened() as heard:
            read = b""
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                heard.other.sendall(stream[start:end])
                read += heard.read()
            assert heard.acknowledged == [(part[0], part[1] or 0) for part in what if isinstance(part, tuple)]
            return read

    assert asyncio.run(check()) == b"".join(part for part in what if isinstance(part, bytes))


@pytest.mark.parametrize("malformed", [b"\x40\x80\x80\x80\x80\x01", b"\x30\xff\xff\xff\xff\x7f"])
async def test_a_length_that_is_none_is_left_to_paho(malformed: bytes) -> None:
    async with opened() as heard:
        heard.other.sendall(malformed)
        assert heard.read() == malformed
        assert heard.acknowledged == []


async def test_the_end_of_the_connection_is_passed_on() -> None:
    async with opened() as heard:
        heard.other.close()
        assert heard.channel.recv(1) == b""


async def test_what_a_full_socket_does_not_take_follows_in_order() -> None:
    async with opened() as heard:
        sent = [bytes([number]) * 50_000 for number in range(40)]
        for number, part in enumerate(sent):
            if number % 3:
                heard.channel.publish(part)
            else:
                assert heard.channel.send(part) == len(part)
        heard.other.settimeout(0)
        wanted, got = b"".join(sent), bytearray()
        loop = asyncio.get_running_loop()
        while len(got) < len(wanted):
            got += await asyncio.wait_for(loop.sock_recv(heard.other, 65_536), 10)
        assert got == wanted
        assert heard.breaks == 0


async def test_a_break_is_told_once_it_is_written_to() -> None:
    async with opened() as heard:
        heard.channel.shutdown()
        heard.channel.publish(b"x")
        await until(lambda: heard.breaks == 1)


async def test_what_was_just_sent_goes_out_before_closing() -> None:
    async with opened() as heard:
        assert heard.channel.send(b"goodbye") == 7
        heard.channel.close()
        assert heard.other.recv(100) == b"goodbye"
