"""The daemon under test, from outside: started, given orders, seen to die."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from byokd.demo.processes import end, first_line, tail
from kills.points import AT_RANDOM, NOTHING, Orders
from parts.leaks import SPYING

START_SECONDS = 30


class Forker:
    """Forks daemons, one request at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    async def ask(self, request: Mapping[str, object]) -> int:
        # Who is cancelled must not leave his answer to the next who asks.
        return await asyncio.shield(asyncio.ensure_future(self._ask(request)))

    async def _ask(self, request: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()
            return int(json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def forker(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Forker]:
    """Start the program that forks; whatever it forked ends with it."""
    # What watches for secrets first: forked daemons inherit it.
    path = os.pathsep.join([str(SPYING), *(entry for entry in sys.path if entry)])
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
        self._dying: asyncio.Task[Death] | None = None

    @property
    def runs(self) -> bool:
        return self._dying is not None and not self._dying.done()

    async def start(self) -> None:
        order = {"directory": str(self.directory), "environment": dict(self._environment), "plant": self._plant}
        self.pid = await self._forker.ask({"start": order})
        self._dying = asyncio.create_task(self._death(), name="death")

    async def death(self) -> Death:
        """Wait until the process ends."""
        assert self._dying is not None
        return await asyncio.shield(self._dying)

    async def _death(self) -> Death:
        status = await self._ended()
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        traced = self.traced()
        return Death(number, 0 if number else os.waitstatus_to_exitcode(status), traced[-1] if traced else "")

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill_at_random(self) -> None:
        """Kill it on nobody's order but this, and leave word that it was so."""
        self._trace.write_text(f"{AT_RANDOM}\n")
        self.kill(signal.SIGKILL)

    def order(self, order: str = NOTHING) -> None:
        """Give an order; with another than to do nothing, what was traced before is forgotten."""
        if order != NOTHING:
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
        return await self._forker.ask({"reap": self.pid})
