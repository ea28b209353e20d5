"""One MQTT connection on aiomqtt, with the traps of aiomqtt closed.

aiomqtt binds paho-mqtt's socket, timers and callbacks to the event loop, and that is what it is used for here. Its
`publish` is not used: it reports a refused message as sent, and waits out its time limit when the connection drops.
What is published goes past paho, see `channel`. Its `connect` is not used: cancelled, it leaves a thread that connects
later. Three private names are reached:

* `aiomqtt.Client._client`, the paho client, used by its public methods and callbacks;
* `aiomqtt.Client._disconnected`, the only place that tells of an exception in aiomqtt's reader or writer;
* `paho.mqtt.client.Client._create_socket`, so that paho takes the socket that was opened for it.
"""

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from byokd.adapters.mqtt.channel import FIRST_ID, LARGEST_PACKET_BYTES, LAST_ID, Channel, publish_packet
from byokd.adapters.mqtt.dialling import Address, words
from byokd.ports import BusMessage, BusRefusedError, BusSilentError, BusTakenOverError, BusUnavailableError

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

_PACKET_OVERHEAD_BYTES = 100
"""More than header, packet identifier and properties of one PUBLISH take together."""

_PROBE = b"{}"
"""Not empty: rumqttd drops what is retained also over an empty message that is not to be retained."""

_UNLIMITED_BYTES = 2**31

_NO_PROPERTIES = b"\x00"
_SESSION_TAKEN_OVER = 0x8E
_ACCEPTED = ReasonCode(PacketTypes.PUBACK, identifier=0)

_MAX_RECEIVE_MAXIMUM = 65_535
"""What MQTT 5 assumes when CONNACK names none; who publishes has a window of its own."""

# Whatever matters of what the libraries log is raised in words; they would repeat it at every attempt.
_library_log = logging.getLogger("byokd.adapters.mqtt.library")
_library_log.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, repr=False)
class Terms:
    """What a connection is made with. Times in seconds; `expiry` is that of messages that are not retained."""

    client_id: str
    username: str | None
    password: str | None
    keepalive: int
    publish_timeout: float
    marker_timeout: float
    will: BusMessage | None
    expiry: int | None = None


@dataclass(slots=True)
class _Arrival:
    """What came on a topic: what is retained, and then our own message."""

    probe: asyncio.Future[None]
    retained: bytes | None = None


class Connection:
    """A `BusSession`, from CONNECT to the loss of its socket. Opened and closed once, in one event loop."""

    def __init__(self, address: Address, terms: Terms) -> None:
        self._address = address
        self._terms = terms
        client = aiomqtt.Client(
            address.host,
            address.port,
            identifier=terms.client_id,
            username=terms.username,
            password=terms.password,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=None if terms.will is None else _will(terms.will),
            max_inflight_messages=_MAX_RECEIVE_MAXIMUM,
            logger=_library_log,
        )
        self._paho = client._client  # noqa: SLF001 - see the module's docstring
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_subscribe = self._on_answer
        self._paho.on_unsubscribe = self._on_answer
        self._paho.on_message = self._on_message
        # The channel always takes what paho writes: paho writes at once, and watches for nothing.
        self._paho.on_socket_register_write = None
        self._paho.on_socket_unregister_write = None
        client._disconnected.add_done_callback(self._on_broken)  # noqa: SLF001 - see the module's docstring
        loop = self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[str] = loop.create_future()
        self._waiting: dict[int, tuple[asyncio.Future[ReasonCode | None], float]] = {}
        self._overdue: asyncio.TimerHandle | None = None
        self._arrivals: dict[str, _Arrival] = {}
        self._channel: Channel | None = None
        self._last_id = FIRST_ID - 1
        self._taken_over = False
        self._room = asyncio.Semaphore(_MAX_RECEIVE_MAXIMUM)
        self._largest_packet = _UNLIMITED_BYTES
        self._retains = True
        self._lasting = _described(PacketTypes.PUBLISH).pack()  # type: ignore[no-untyped-call]
        self._passing = _described(PacketTypes.PUBLISH, expiry=terms.expiry).pack()  # type: ignore[no-untyped-call]

    async def open(self, opened: socket.socket) -> None:
        """Take the socket, send CONNECT and wait for the broker's CONNACK.

        Raises:
            BusUnavailableError: the broker refused, or closed the socket.
            ValueError, struct.error: no packet can be made of the terms.
        """
        channel = self._channel = Channel(
            opened,
            on_puback=self._on_puback,
            on_unreadable=self._on_unreadable,
            on_unwritable=self._on_unwritable,
        )
        self._paho._create_socket = lambda: channel  # type: ignore[method-assign]  # noqa: SLF001 - as above
        bounds = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        bounds.MaximumPacketSize = LARGEST_PACKET_BYTES
        place, keepalive = (self._address.host, self._address.port), self._terms.keepalive
        try:
            self._paho.connect(*place, keepalive, clean_start=True, properties=bounds)
        except Exception:
            # aiomqtt watches the socket from the next turn on: closed before, its number may be another's by then.
            await asyncio.sleep(0)
            raise
        answers: set[asyncio.Future[Any]] = {self._accepted, self._over}
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            raise self.loss()

    async def publish(self, message: BusMessage) -> None:
        """Send with QoS 1, in the order of the calls, and wait for the PUBACK; see `BusSession`."""
        self._check(message)
        async with self._room:
            reason = await self._acknowledgement(self._send(message))
        if reason is None:
            raise self.loss()
        if reason.is_failure:
            raise BusRefusedError(str(reason))

    async def retained(self, topic: str) -> bytes | None:
        """Read what is retained; see `BusSession`.

        A broker sends what it retains when we subscribe, and nothing when it has nothing. What we then publish comes
        back behind it: no time limit is needed to tell that there was nothing. Only a broker that lets us subscribe and
        then delivers nothing needs one. It counts from the acknowledgement of what we published, so that a broker that
        is merely slow has the time of every other message.
        """
        arrival = self._arrivals[topic] = _Arrival(self._loop.create_future())
        try:
            await self._agree(self._paho.subscribe(topic, 1))
            await self.publish(BusMessage(topic, _PROBE, retain=False, is_event=False))
            answers: set[asyncio.Future[Any]] = {arrival.probe, self._over}
            await asyncio.wait(answers, timeout=self._terms.marker_timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._arrivals[topic]
        if not self._over.done():
            await self._agree(self._paho.unsubscribe(topic))
        if self._over.done():
            raise self.loss()
        if not arrival.probe.done():
            raise BusSilentError(f"the broker did not let us read within {self._terms.marker_timeout:g} s")
        return arrival.retained

    def _send(self, message: BusMessage) -> int:
        if self._over.done() or self._channel is None:
            raise self.loss()
        described = self._lasting if message.retain else self._passing
        properties = described if message.payload and message.is_event else _NO_PROPERTIES
        packet_id = self._last_id = self._free_id()
        self._channel.publish(
            publish_packet(
                message.topic, message.payload, packet_id=packet_id, retain=message.retain, properties=properties
            )
        )
        return packet_id

    def _free_id(self) -> int:
        number = self._last_id
        while (number := number + 1 if number < LAST_ID else FIRST_ID) in self._waiting:
            pass
        return number

    async def _agree(self, asked: tuple[MQTTErrorCode, int | None]) -> None:
        """Wait for SUBACK or UNSUBACK."""
        code, mid = asked
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            self.give_up("a subscription could not be queued")
            raise self.loss()
        reason = await self._acknowledgement(mid)
        if reason is None:
            raise self.loss()
        if reason.is_failure:
            raise BusRefusedError(str(reason))

    async def _acknowledgement(self, mid: int) -> ReasonCode | None:
        """Wait for the broker's answer; give its reason, or nothing when the connection was lost."""
        acknowledged: asyncio.Future[ReasonCode | None] = self._loop.create_future()
        due = self._loop.time() + self._terms.publish_timeout
        self._waiting[mid] = acknowledged, due
        if self._overdue is None:
            self._overdue = self._loop.call_at(due, self._on_due)
        try:
            return await acknowledged
        finally:
            del self._waiting[mid]

    def _on_due(self) -> None:
        """Give up where the oldest answer is overdue. One timer for all: setting one costs more than sending."""
        self._overdue = None
        due = next((due for _, due in self._waiting.values()), None)
        if due is not None and due <= self._loop.time():
            self.give_up(f"a message was not acknowledged within {self._terms.publish_timeout:g} s")
        elif due is not None and not self._over.done():
            self._overdue = self._loop.call_at(due, self._on_due)

    async def lost(self) -> None:
        """Wait until the connection is over."""
        await asyncio.wait({self._over})

    def loss(self) -> BusUnavailableError:
        """Tell why the connection is over. Before that it is a defect to ask."""
        kind = BusTakenOverError if self._taken_over else BusUnavailableError
        return kind(f"{self._address}: {self._over.result()}")

    @property
    def is_over(self) -> bool:
        """Whether the connection is lost, given up or closed."""
        return self._over.done()

    def close(self) -> None:
        """Say goodbye, so that no Will is sent, and close at once; what was in flight is discarded."""
        self._end("closed by us")
        self._paho.disconnect()
        self.give_up("closed by us")

    def give_up(self, reason: str) -> None:
        """Close without goodbye. Everything that waits ends with that reason."""
        self._end(reason)
        if self._paho.socket() is not None and self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.shutdown()
            # Saying goodbye, to nobody, is paho's public way to drop its socket with all watchers and timers.
            self._paho.disconnect()

    def _check(self, message: BusMessage) -> None:
        # A broker closes the connection over a packet that CONNACK forbade, and would do so after each reconnect.
        size = len(message.payload) + len(message.topic.encode()) + _PACKET_OVERHEAD_BYTES
        if size > self._largest_packet:
            raise BusRefusedError(f"the broker takes no more than {self._largest_packet} bytes")
        if message.retain and not self._retains:
            raise BusRefusedError("the broker does not retain messages")

    def _end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)
        if self._overdue is not None:
            self._overdue.cancel()
        for waiting, _ in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)

    def _on_connect(
        self,
        _client: object,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._end(f"the broker refused the connection: {reason}")
        elif getattr(properties, "MaximumQoS", 1) < 1:
            self._end("the broker does not acknowledge messages (its maximum QoS is 0)")
        elif not self._accepted.done():
            self._largest_packet = getattr(properties, "MaximumPacketSize", _UNLIMITED_BYTES)
            self._retains = bool(getattr(properties, "RetainAvailable", 1))
            self._room = asyncio.Semaphore(getattr(properties, "ReceiveMaximum", _MAX_RECEIVE_MAXIMUM))
            self._accepted.set_result(None)

    def _on_disconnect(
        self,
        _client: object,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server and not self._over.done():
            self._taken_over = reason.value == _SESSION_TAKEN_OVER
            who = f": another client connected as {self._terms.client_id}" if self._taken_over else ""
            self._end(f"the broker closed the connection: {reason}{who}")
        else:
            self._end("the connection broke")

    def _on_puback(self, packet_id: int, code: int) -> None:
        self._answered(packet_id, ReasonCode(PacketTypes.PUBACK, identifier=code) if code else _ACCEPTED)

    def _answered(self, mid: int, reason: ReasonCode) -> None:
        waiting, _ = self._waiting.get(mid, (None, 0.0))
        if waiting is not None and not waiting.done():
            waiting.set_result(reason)

    def _on_answer(
        self,
        _client: object,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._answered(mid, reasons[0])

    def _on_message(
        self,
        _client: object,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        message: MQTTMessage,
    ) -> None:
        arrival = self._arrivals.get(message.topic)
        if arrival is None or arrival.probe.done():
            return
        if message.retain:
            arrival.retained = bytes(message.payload) or None
        elif message.payload == _PROBE:
            arrival.probe.set_result(None)

    def _on_unreadable(self, error: OSError) -> None:
        # Only the reason: paho sees the error too, and ends the connection.
        self._end(f"the connection broke: {words(error)}")

    def _on_unwritable(self, error: OSError) -> None:
        # What the broker said before it closed tells more.
        with contextlib.suppress(Exception):
            self._paho.loop_read()
        self.give_up(f"the connection broke: {words(error)}")

    def _on_broken(self, broken: asyncio.Future[None]) -> None:
        if not broken.cancelled() and broken.exception() is not None:
            self.give_up("what the broker sent could not be read")


def _described(packet: int, *, expiry: int | None = None) -> Properties:
    """Give what every event says of its payload."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = CONTENT_TYPE
    properties.PayloadFormatIndicator = 1
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    return properties


def _will(message: BusMessage) -> aiomqtt.Will:
    properties = _described(PacketTypes.WILLMESSAGE) if message.payload else None
    return aiomqtt.Will(message.topic, message.payload, qos=1, retain=message.retain, properties=properties)
