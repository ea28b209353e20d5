"""Child processes of the demo: started, waited for, ended by id."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from byokd.demo import bound

STOP_SECONDS = 12
"""The daemon stops within 10 s; then it is killed."""


class ChildFailedError(Exception):
    """A child process ended when it should not have. The message holds the end of its log."""


def byokd_command(*arguments: str) -> Sequence[str]:
    """Give the command line of a `byokd` verb in this very environment."""
    return (sys.executable, "-m", "byokd", *arguments)


def bound_to_us(command: Sequence[str]) -> Sequence[str]:
    """Give a command line of the same program that ends with this process."""
    return (sys.executable, "-I", "-S", bound.__file__, str(os.getpid()), *command)


@asynccontextmanager
async def child(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program in the background, its output into a file; on leaving, end it. It never outlives this process.

    Its standard output is a pipe to the caller, its standard error goes to `log`.
    """
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            *bound_to_us(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stream,
            env=dict(environment),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await end(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    """End a process as `kill -9` does: it can save and say nothing."""
    process.kill()
    await process.wait()


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end; kill it when it does not."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def first_line(process: asyncio.subprocess.Process, *, log: Path, seconds: float) -> str:
    """Give the first line of a child's standard output.

    Raises:
        ChildFailedError: it ended, or said nothing in time.
    """
    if process.stdout is None:
        raise AssertionError("the child was started with a pipe")
    try:
        async with asyncio.timeout(seconds):
            line = await process.stdout.readline()
    except TimeoutError:
        line = b""
    if not line:
        raise ChildFailedError(f"a child process did not start:\n{tail(log)}")
    return line.decode()


def tail(log: Path, *, lines: int = 15) -> str:
    """Give the end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
