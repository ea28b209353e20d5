"""Programs under test, on loopback."""

import asyncio
import secrets
import socket

LOWEST_PORT, HIGHEST_PORT = 20_000, 32_000
"""Below the ports that the system gives to outgoing connections, which could take the port of a broker that is down."""

START_SECONDS = 10
POLL_SECONDS = 0.01


def free_port() -> int:
    """Give a port that nobody listens on; somebody else may still take it first."""
    while True:
        port = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def listens(process: asyncio.subprocess.Process, port: int) -> bool:
    """Wait until the program listens; false when it ended instead."""
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                writer.close()
                await writer.wait_closed()
                return process.returncode is None
    return False
