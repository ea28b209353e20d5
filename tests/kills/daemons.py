"""The daemon under test, from outside: started, given orders, seen to die."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from byokd.demo.processes import end, first_line, tail
from kills.points import NOTHING, Orders

START_SECONDS = 30


class Forker:
    """Forks daemons, one request at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    async def ask(self, request: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()
            return int(json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def forker(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Forker]:
    """Start the program that forks; whatever it forked ends with it."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with (directory / "forker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kills.forker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**environment, "PYTHONPATH": path},
        )
    try:
        await first_line(process, log=directory / "forker.log", seconds=START_SECONDS)
        yield Forker(process)
    finally:
        await end(process)


@dataclass(frozen=True, slots=True)
class Death:
    """How a daemon ended: the signal (0 for none) and the point at which it had orders to die."""

    signal: int
    code: int
    point: str


class Daemon:
    """One database's daemon, in one process after another."""

    def __init__(
        self, site_forker: Forker, directory: Path, environment: Mapping[str, str], *, plant: str | None
    ) -> None:
        self.directory = directory
        self._plant = plant
        self._forker = site_forker
        self._environment = environment
        self.orders = Orders(directory / "orders")
        self._trace = directory / "trace"
        self._trace.touch()
        self.pid = 0
        self.starts = 0

    async def start(self) -> None:
        order = {"directory": str(self.directory), "environment": dict(self._environment), "plant": self._plant}
        self.pid = await self._forker.ask({"start": order})
        self.starts += 1

    async def death(self) -> Death:
        """Wait until the process ends."""
        status = await self._ended()
        points = self._trace.read_text().splitlines()
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return Death(signal, 0 if signal else os.waitstatus_to_exitcode(status), points[-1] if points else "")

    def kill(self, signal: int) -> None:
        os.kill(self.pid, signal)

    def order(self, order: str = NOTHING) -> None:
        """Give an order; what was traced before is forgotten."""
        self._trace.write_text("")
        self.orders.give(order)

    def traced(self) -> list[str]:
        """Give the points that were reached since a record was ordered."""
        return self._trace.read_text().splitlines()

    def log(self) -> str:
        return tail(self.directory / "daemon.log", lines=30)

    async def _ended(self) -> int:
        """Wait for the end of a process that is another one's child, and give its wait status."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        handle = os.pidfd_open(self.pid)
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        pid, self.pid = self.pid, 0
        return await self._forker.ask({"reap": pid})
