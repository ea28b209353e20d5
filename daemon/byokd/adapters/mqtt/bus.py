"""The `Bus` port on MQTT 5."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from byokd.adapters.mqtt.connection import Connection, Terms
from byokd.adapters.mqtt.dialling import Address, dial, show, trust, words
from byokd.ports import BusMessage, BusSession, BusUnavailableError
from byokd.settings import MqttSettings, connecting

_PORT = 1883
_TLS_PORT = 8883


class MqttBus:
    """Makes connections; holds none. The files of the settings are read for each, so that they may be replaced."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        url = urlsplit(settings.url)
        tls = url.scheme == "mqtts"
        self._address = Address(url.hostname or "", url.port or (_TLS_PORT if tls else _PORT), tls=tls)

    @asynccontextmanager
    async def connect(self, client_id: str, *, will: BusMessage | None = None) -> AsyncIterator[BusSession]:
        """Open a new connection; see `Bus`.

        A connection that was lost is reported once more when the context is left without an exception, because only
        that error tells why.
        """
        connection = await self._open(client_id, will)
        try:
            yield connection
            if connection.is_over:
                raise connection.loss()
        finally:
            connection.close()

    async def _open(self, client_id: str, will: BusMessage | None) -> Connection:
        seconds = self._settings.connect_timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                context, password = await asyncio.to_thread(self._read_files)
                return await self._connected(client_id, will, context, password)
        except TimeoutError:
            raise BusUnavailableError(f"{self._address}: no answer to CONNECT within {seconds:g} s") from None
        except ssl.SSLCertVerificationError as error:
            authorities = self._settings.ca_file or "the system's authorities"
            raise BusUnavailableError(
                f"{self._address}: its certificate is not vouched for by {authorities}: {error.verify_message}"
            ) from None
        except OSError as error:
            raise BusUnavailableError(f"{self._address}: {words(error)}") from None
        except (ValueError, struct.error) as error:
            # Not its text: it may show a piece of what could not be written.
            why = "something is too long" if isinstance(error, struct.error) else type(error).__name__
            raise BusUnavailableError(
                f"{self._address}: no CONNECT can be made of what stands under [mqtt]: {why}"
            ) from None

    async def _connected(
        self, client_id: str, will: BusMessage | None, context: ssl.SSLContext | None, password: str | None
    ) -> Connection:
        expiry = self._settings.message_expiry
        terms = Terms(
            client_id=client_id,
            username=self._settings.username,
            password=password,
            keepalive=max(1, int(self._settings.keepalive.total_seconds())),
            publish_timeout=self._settings.publish_timeout.total_seconds(),
            marker_timeout=self._settings.marker_timeout.total_seconds(),
            will=will,
            expiry=None if expiry is None else max(1, int(expiry.total_seconds())),
        )
        connection = Connection(self._address, terms)
        opened = await dial(self._address, context)
        try:
            await connection.open(opened)
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_files(self) -> tuple[ssl.SSLContext | None, str | None]:
        settings = self._settings
        password = None
        reading = settings.ca_file
        try:
            context = trust(settings.ca_file) if self._address.tls else None
            if context is not None and settings.certificate_file is not None:
                reading = settings.certificate_file
                show(context, settings.certificate_file)
            if context is not None and settings.alpn is not None:
                context.set_alpn_protocols([settings.alpn])
            if settings.password_file is not None:
                reading = settings.password_file
                password = connecting.password(settings.password_file.read_bytes())
        except OSError as error:
            raise BusUnavailableError(f"cannot read {reading}: {words(error)}") from None
        except connecting.NoPasswordError as error:
            raise BusUnavailableError(f"cannot use {reading}: it {error}") from None
        return context, password
