"""A broker in a child process: rumqttd out of the iotcore wheel, speaking MQTT 5 on loopback.

Fit for a demo and for tests: it persists nothing, keeps at most 100 retained messages per subscriber, and lets a client
with wrong credentials wait instead of refusing it.
"""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from byokd.demo.processes import ChildFailedError, end

START_SECONDS = 10.0
"""For the child to listen. It takes about 0.1 s on an idle machine."""

_LOWEST_PORT, _HIGHEST_PORT = 20_000, 32_000
"""Below the ports that the system gives to outgoing connections, which could take the port while the broker is down."""

_ATTEMPTS = 5
_POLL_SECONDS = 0.02

_SETTINGS = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "{address}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 262144
max_inflight_count = 200
"""


class IotcoreBroker:
    """One broker that can be stopped and started again, always on the same port; it comes back empty."""

    def __init__(self, settings: Path) -> None:
        """Take where its settings are to be written; `start` starts it."""
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""

    async def start(self) -> None:
        """Start it, on a free port the first time.

        Raises:
            ChildFailedError: it did not start.
        """
        for _ in range(_ATTEMPTS):
            address = self.address or f"127.0.0.1:{_free_port()}"
            process = await self._launch(address)
            try:
                if await _listens(process, address):
                    self._process, self.address = process, address
                    return
            except BaseException:
                await end(process)
                raise
        raise ChildFailedError("the broker did not start: no port was free")

    async def stop(self) -> None:
        """End it; what it retained is gone."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)

    async def _launch(self, address: str) -> asyncio.subprocess.Process:
        await asyncio.to_thread(self._settings.write_text, _SETTINGS.format(address=address))
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            str(self._settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )


@asynccontextmanager
async def restartable_broker() -> AsyncIterator[IotcoreBroker]:
    """Start a broker on a free port, and end it on leaving, or with this process.

    Raises:
        ChildFailedError: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="byokd-broker-") as directory:
        broker = IotcoreBroker(Path(directory) / "rumqttd.toml")
        try:
            await broker.start()
            yield broker
        finally:
            await broker.stop()


@asynccontextmanager
async def iotcore_broker() -> AsyncIterator[str]:
    """As `restartable_broker`; give its `host:port`."""
    async with restartable_broker() as broker:
        yield broker.address


async def _listens(process: asyncio.subprocess.Process, address: str) -> bool:
    """Wait until it listens; false when it ended, because somebody else took the port first."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except OSError:
                    await asyncio.sleep(_POLL_SECONDS)
                else:
                    writer.close()
                    return process.returncode is None
    except TimeoutError:
        raise ChildFailedError(f"the broker does not listen on {address} after {START_SECONDS:g} s") from None
    return False


def _free_port() -> int:
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _serve(settings: str) -> None:
    from iotcore import IotCoreBroker  # noqa: PLC0415 - only the child needs it, and the wheel is optional

    broker = IotCoreBroker(config_path=settings)
    try:
        broker.check_ports()
    except OSError:
        sys.exit(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    broker.run_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
