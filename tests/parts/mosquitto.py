"""A real mosquitto on loopback, with the settings of the test."""

import asyncio
import getpass
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from parts.processes import free_port, listens
from parts.registry import program

ATTEMPTS = 5
STOP_SECONDS = 5


class Mosquitto:
    """One broker that can be killed, hung and started again, always on the same port."""

    def __init__(self, directory: Path, lines: Sequence[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._lines = lines
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._directory / "mosquitto.log").read_text()

    async def start(self) -> None:
        for _ in range(ATTEMPTS):
            port = self.port or free_port()
            process = await self._launch(port)
            try:
                if await listens(process, port):
                    self.port, self._process = port, process
                    return
            except BaseException:
                await _end(process)
                raise
        raise AssertionError(f"mosquitto does not start:\n{self.log}")

    async def kill(self) -> None:
        """As `kill -9`: nothing is said to anybody, nothing is saved."""
        process = self._running()
        process.kill()
        await process.wait()
        self._process = None

    def hang(self) -> None:
        """Its connections stay, and it says nothing."""
        self._running().send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """Make it read its access list and passwords again."""
        self._running().send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        if self._process is not None:
            self.wake()
            await _end(self._process)
            self._process = None

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def _launch(self, port: int) -> asyncio.subprocess.Process:
        settings = self._directory / "mosquitto.conf"
        settings.write_text("\n".join(line.format(port=port, user=getpass.getuser()) for line in self._lines))
        path = program("mosquitto")
        assert path is not None
        log = (self._directory / "mosquitto.log").open("ab")
        with log:
            return await asyncio.create_subprocess_exec(path, "-c", str(settings), stdout=log, stderr=log)


@asynccontextmanager
async def mosquitto(directory: Path, *lines: str) -> AsyncIterator[Mosquitto]:
    """Run a broker with one plain listener (unless the lines name another) and no access control (unless they do)."""
    settings = ["user {user}", "log_dest stderr", *lines]
    if not any(line.startswith("listener") for line in lines):
        settings.append("listener {port} 127.0.0.1")
    if not any(line.startswith("allow_anonymous") for line in lines):
        settings.append("allow_anonymous true")
    broker = Mosquitto(directory, settings)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.stop()


async def password_file(directory: Path, **passwords: str) -> Path:
    """Write a password file for mosquitto."""
    path = directory / "passwords"
    path.write_text("".join(f"{name}:{password}\n" for name, password in passwords.items()))
    path.chmod(0o600)
    tool = program("mosquitto_passwd")
    assert tool is not None
    hashing = await asyncio.create_subprocess_exec(tool, "-U", str(path))
    assert await hashing.wait() == 0
    return path


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
