"""A real Azurite: Azure's queue service on loopback, over TLS, that takes tokens of Entra ID alone."""

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from parts.certificates import ServerFiles, server_files
from parts.processes import free_port, listens
from parts.registry import AZURITE, program

ACCOUNT = "byokdevents"
HOST = f"{ACCOUNT}.queue.core.windows.net"
ATTEMPTS = 5
STOP_SECONDS = 5


@dataclass(slots=True)
class Azurite:
    """The queue service; nothing is kept on disk. Its account's key is never used: `--oauth` lets tokens in."""

    directory: Path
    files: ServerFiles
    process: asyncio.subprocess.Process
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, queue: str) -> str:
        """As operators write it: the name is led to `address` by `network.connect_to`."""
        return f"https://{HOST}/{queue}"

    @property
    def connect_to(self) -> Mapping[str, str]:
        return {HOST: self.address}

    @property
    def log(self) -> str:
        return (self.directory / "azurite.log").read_text()

    async def end(self) -> None:
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def azurite(directory: Path) -> AsyncIterator[Azurite]:
    files = server_files(directory, HOST)
    for _ in range(ATTEMPTS):
        port = free_port()
        running = Azurite(directory, files, await _launch(directory, files, port), port)
        try:
            if await listens(running.process, port):
                yield running
                return
        finally:
            await running.end()
    raise AssertionError(f"Azurite does not start:\n{(directory / 'azurite.log').read_text()}")


async def _launch(directory: Path, files: ServerFiles, port: int) -> asyncio.subprocess.Process:
    node = program("node")
    assert node is not None
    account = f"{ACCOUNT}:{base64.b64encode(secrets.token_bytes(32)).decode()}"
    with (directory / "azurite.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(node, str(AZURITE), "--queueHost", "127.0.0.1", "--queuePort", str(port), "--inMemoryPersistence"),
            *("--oauth", "basic", "--cert", str(files.certificate), "--key", str(files.key)),
            # The SDK speaks a newer version of the protocol than this Azurite knows by name.
            *("--skipApiVersionCheck",),
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "AZURITE_ACCOUNTS": account},
            stdout=log,
            stderr=log,
        )
