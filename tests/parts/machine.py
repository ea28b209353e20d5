"""A container with a real systemd as its first process, over a copy of this machine's root that lives in memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 30
POLL_SECONDS = 0.05
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "LD_LIBRARY_PATH": "/srv/python/lib",
}
BOOT = Path(__file__).with_name("boot-systemd")


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`first` is the process id, outside, of the container's first process."""

    first: int

    async def run(self, *command: str, text: str = "", check: bool = True) -> Ran:
        """Run a command inside, as root; with `check`, it must succeed."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(self.first), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--"),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
        )
        out, err = await process.communicate(text.encode())
        ran = Ran(process.returncode or 0, out.decode(), err.decode())
        assert ran.code == 0 or not check, (command, ran)
        return ran

    async def write(self, path: str, text: str) -> None:
        await self.run("install", "-D", "-m", "0644", "/dev/stdin", path, text=text)

    async def read(self, path: str) -> str:
        return (await self.run("cat", path)).out

    async def shown(self, unit: str, *names: str) -> Mapping[str, str]:
        """Give properties of a unit."""
        ran = await self.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in ran.out.splitlines())

    async def until(self, unit: str, **wanted: str) -> Mapping[str, str]:
        """Wait until a unit's properties are these."""
        found: Mapping[str, str] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (found := await self.shown(unit, *wanted)) != wanted:  # noqa: ASYNC110 - systemd's
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError((found, await self.journal(unit))) from None
        return found

    async def journal(self, unit: str) -> str:
        """What the unit, and systemd about it, have said."""
        await self.run("journalctl", "--sync")
        return (await self.run("journalctl", f"--unit={unit}", "--output=cat", "--no-pager")).out


@asynccontextmanager
async def machine(directory: Path, *seen: tuple[Path, str]) -> AsyncIterator[Machine]:
    """Boot one; `seen` are directories of this machine and where they are inside, read-only."""
    await asyncio.to_thread(directory.mkdir)
    binds = [f"{source}:{target}" for source, target in seen]
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", str(BOOT), str(directory), *binds),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            parent = int(await process.stdout.readline())
            booted = Machine(await _child(parent))
            while (await booted.run("systemctl", "is-active", "test.target", check=False)).code:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
        yield booted
    finally:
        process.stdin.close()
        await process.wait()


async def _child(parent: int) -> int:
    def children() -> list[str]:
        return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()

    while not (found := children()):  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(POLL_SECONDS)
    return int(found[0])
