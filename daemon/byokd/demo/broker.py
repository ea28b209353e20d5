"""A broker in a child process: rumqttd out of the iotcore wheel, speaking MQTT 5 on loopback.

Fit for a demo and for tests: it persists nothing, keeps at most 100 retained messages per subscriber, and lets a client
with wrong credentials wait instead of refusing it.
"""

import asyncio
import os
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


@asynccontextmanager
async def iotcore_broker() -> AsyncIterator[str]:
    """Start a broker on a free port, give its `host:port`, and end it on leaving, or with this process.

    Raises:
        ChildFailedError: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="byokd-broker-") as directory:
        process, address = await _start(Path(directory) / "rumqttd.toml")
        try:
            yield address
        finally:
            await end(process)


async def _start(settings: Path) -> tuple[asyncio.subprocess.Process, str]:
    for _ in range(_ATTEMPTS):
        address = f"127.0.0.1:{_free_port()}"
        await asyncio.to_thread(settings.write_text, _SETTINGS.format(address=address))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            str(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            if await _listens(process, address):
                return process, address
        except BaseException:
            await end(process)
            raise
    raise ChildFailedError("the broker did not start: no port was free")


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
