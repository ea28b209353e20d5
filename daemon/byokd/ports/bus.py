"""The message bus."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class BusUnavailableError(Exception):
    """There is no connection to the broker, or it was lost. The message says why; it holds no password."""


class BusTakenOverError(BusUnavailableError):
    """The broker ended the connection because somebody else connected with our client id."""


class BusRefusedError(Exception):
    """The broker refused one message (its acknowledgement carries a failure). The connection lives."""


@dataclass(frozen=True, slots=True)
class BusMessage:
    """A message: full topic, payload (empty to clear a retained message), and whether the broker retains it.

    `is_event` tells whether the payload is a CloudEvents event; it is sent with that content type.
    """

    topic: str
    payload: bytes
    retain: bool
    is_event: bool = True


class BusSilentError(BusRefusedError):
    """The broker took our subscription and our message, and does not hand the message back."""


class BusSession(Protocol):
    """One connection to the broker. It is never reused after a loss."""

    async def publish(self, message: BusMessage) -> None:
        """Return once the broker acknowledged the message as accepted. Concurrent calls keep their order.

        Raises:
            BusRefusedError: the acknowledgement carries a failure reason.
            BusUnavailableError: the connection was lost; whether the message arrived is unknown.
        """
        ...

    async def retained(self, topic: str) -> bytes | None:
        """Give the payload that the broker retains on a topic, which we may write and read; None when it has none.

        Subscribers of the topic see an empty JSON object.

        Raises:
            BusRefusedError: we may not read or not write there (BusSilentError: it took a while to find out).
            BusUnavailableError: the connection was lost.
        """
        ...

    async def lost(self) -> None:
        """Wait until the connection is lost."""
        ...


class Bus(Protocol):
    """The message bus: MQTT 5, QoS 1."""

    def connect(self, client_id: str, *, will: BusMessage | None = None) -> AbstractAsyncContextManager[BusSession]:
        """Open a new connection; leaving the context closes it and discards what was in flight.

        Raises:
            BusUnavailableError: no broker, wrong credentials, TLS trouble, or the connect deadline passed.
        """
        ...
