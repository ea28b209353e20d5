"""The daemon as a child process that can be held still, killed and started again over the same directory."""

import asyncio
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from byokd.demo.processes import ChildFailedError, byokd_command, child, end, kill, tail

READY_SECONDS = 60.0


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
    def log(self) -> Path:
        """The file with what it says, through all restarts."""
        return self._directory / "daemon.log"

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
        log, settings = self.log, self._directory / "byokd.toml"
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

    async def metric(self, name: str) -> float | None:
        """Give the value of a metric without labels; None when there is no such one."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)

    def logged(self, *, since: int = 0) -> list[dict[str, Any]]:
        """Give what was logged after so many bytes of the log, line by line."""
        lines = self.log.read_bytes()[since:].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    async def kill(self) -> None:
        """As `kill -9`."""
        await kill(self.process)

    async def restart(self) -> int | None:
        """End it in good order, start it again, and give the exit code of the one before.

        Raises:
            ChildFailedError: it does not become ready again.
        """
        before = self.process
        await end(before)
        await self.start()
        return before.returncode

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
