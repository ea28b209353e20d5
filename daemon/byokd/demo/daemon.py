"""The daemon as a child process that can be held still, killed and started again over the same directory."""

import asyncio
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from byokd.demo.processes import ChildFailedError, byokd_command, child, kill, tail

READY_SECONDS = 20.0


class DemoDaemon:
    """One daemon at a time, always with the same settings and environment."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """Take the directory with `byokd.toml`; `start` starts it."""
        self._directory = directory
        self._environment = environment
        self._stack = AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The one that runs now."""
        if self._process is None:
            raise AssertionError("it was not started")
        return self._process

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            ChildFailedError: it does not become ready; the message holds the end of its log.
        """
        log, settings = self._directory / "daemon.log", self._directory / "byokd.toml"
        command = byokd_command("run", "--settings", str(settings))
        process = await self._stack.enter_async_context(child(command, log=log, environment=self._environment))
        self._process = process
        try:
            async with asyncio.timeout(READY_SECONDS):
                while process.returncode is None:
                    status = await self.ask("/status")
                    if status is not None and status["ready"]:
                        self.url = f"http://{status['http']}"
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        raise ChildFailedError(f"the daemon did not become ready:\n{tail(log)}")

    async def ask(self, path: str) -> Any:  # noqa: ANN401 - a JSON document
        """Give what the daemon answers on its socket; None when it does not answer."""
        connector = aiohttp.UnixConnector(path=str(self._directory / "api.sock"))
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"http://byokd{path}") as response,
            ):
                return await response.json()
        except (aiohttp.ClientError, OSError):
            return None

    async def kill(self) -> None:
        """As `kill -9`."""
        await kill(self.process)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let it stand still meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """End it, if it runs."""
        await self._stack.aclose()
