"""No key, token or wrapped blob in anything that the test run says: a test in which one is said fails.

Looked into, after each test: what was captured of its output and logs, what its child processes wrote into files and
pipes, what was received over MQTT, and the daemon's pages. Looked for: everything that `spying/sitecustomize.py` notes,
here and in child processes, in base64, base64url, hexadecimal and as Python shows octets. What somebody encodes
otherwise, or cuts into less than 16 characters, is not found; nor are secrets of children to which a test gives a
PYTHONPATH of its own (worlds of the simulation, which say digests).
"""
# ruff: noqa: ANN401 - what is wrapped takes whatever it takes

import asyncio
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from spying import sitecustomize

# In a worker Python has begun it already, by its bare name.
spy: Any = found if hasattr(found := sys.modules.get("sitecustomize"), "noted") else sitecustomize

SPYING = Path(spy.__file__).parent
PAGES = frozenset({"/metrics", "/healthz", "/readyz", "/livez", "/status", "/"})
_RUN = re.compile(rf"[A-Za-z0-9+/_\\-]{{{spy.PIECE},}}")
_LONGEST = 2_000_000
"""Characters of one text that are looked into; a longer one is some test's flood."""

said: list[tuple[str, str]] = []
"""Texts of the test that runs, each with where it was said."""

_logs: list[tuple[asyncio.subprocess.Process, BinaryIO]] = []
_read: dict[str, int] = {}


def leaks(texts: list[tuple[str, str]], pieces: AbstractSet[str]) -> Iterator[str]:
    """Tell where one of the pieces is in the texts; the secret itself is not repeated."""
    clean: set[str] = set()  # the same names stand in every message and every line of a log
    for where, text in texts:
        for run in set(_RUN.findall(text[:_LONGEST].replace("\\\\", "\\"))) - clean:
            parts = [run[at : at + spy.PIECE] for at in range(len(run) - spy.PIECE + 1)]
            if pieces.isdisjoint(parts):
                clean.add(run)
            else:
                found = next(at for at, part in enumerate(parts) if part in pieces)
                yield f"{where}: a secret begins {run[found : found + 4]!r}..., among {len(run)} characters"


def pytest_unconfigure() -> None:
    """Close what is still open."""
    for _, log in _logs:
        log.close()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch and to listen, before anything of byokd is loaded."""
    if hasattr(config, "workerinput") or os.environ.get(spy.PLACE) is None:
        place = tempfile.TemporaryDirectory(prefix="byokd-tests-secrets-")
        config.add_cleanup(place.cleanup)
        os.environ[spy.PLACE] = place.name
    paths = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    if str(SPYING) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(SPYING), *paths])


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look through what was said once the test and its fixtures are done."""
    report = yield
    if call.when == "teardown":
        texts = [*said, *((title, content) for title, content in report.sections), *_written()]
        said.clear()
        _gather()
        spy.room[0] = spy.MOST_OF_A_TEST
        if (found := list(leaks(texts, spy.noted.keys()))) and report.outcome != "failed":
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} lets secrets be seen\n" + "\n".join(found)
    return report


def _gather() -> None:
    """Take over what child processes have noted since."""
    for entry in os.scandir(os.environ[spy.PLACE]):
        read, there = _read.get(entry.name, 0), entry.stat().st_size
        if there > read:
            spy.remember(Path(entry).read_text()[read:].split())
            _read[entry.name] = there


def _written() -> Iterator[tuple[str, str]]:
    """Read on in the files that child processes write to, also in those that are gone by now."""
    for process, log in list(_logs):
        yield log.name, log.read().decode(errors="replace")
        if process.returncode is not None or os.fstat(log.fileno()).st_nlink == 0:
            _logs.remove((process, log))
            log.close()


def _listen() -> None:
    """Hear what is said to this process."""
    start = asyncio.create_subprocess_exec
    ended, ended_at_once = asyncio.subprocess.Process.communicate, subprocess.Popen.communicate

    async def starting(*command: Any, **how: Any) -> asyncio.subprocess.Process:
        logs = [_opened(name) for name in {one.name for one in how.values() if isinstance(one, io.BufferedWriter)}]
        process = await start(*command, **how)
        _logs.extend((process, log) for log in logs)
        return process

    async def ending(process: asyncio.subprocess.Process, *what: Any, **how: Any) -> tuple[bytes, bytes]:
        return _heard("a child's output", await ended(process, *what, **how))

    def ending_at_once(process: subprocess.Popen[Any], *what: Any, **how: Any) -> tuple[Any, Any]:
        return _heard("a child's output", ended_at_once(process, *what, **how))

    asyncio.create_subprocess_exec = asyncio.subprocess.create_subprocess_exec = starting
    asyncio.subprocess.Process.communicate = ending  # type: ignore[method-assign]
    subprocess.Popen.communicate = ending_at_once  # type: ignore[method-assign]
    _listen_to_bus()
    _listen_to_pages()


def _listen_to_bus() -> None:
    import aiomqtt  # noqa: PLC0415 - what is loaded before the watch begins is not watched

    take = aiomqtt.Client._on_message

    def taking(client: aiomqtt.Client, *what: Any) -> None:
        message = what[-1]
        said.append((f"a message on {message.topic}", bytes(message.payload).decode(errors="replace")))
        take(client, *what)

    aiomqtt.Client._on_message = taking  # type: ignore[method-assign]


def _listen_to_pages() -> None:
    import aiohttp  # noqa: PLC0415 - as above

    read = aiohttp.ClientResponse.read

    async def reading(response: aiohttp.ClientResponse) -> bytes:
        body = await read(response)
        if response.url.path in PAGES:
            said.append((f"the page {response.url.path}", body.decode(errors="replace")))
        return body

    aiohttp.ClientResponse.read = reading  # type: ignore[method-assign]


def _heard(where: str, outputs: tuple[Any, Any]) -> tuple[Any, Any]:
    told = filter(None, outputs)
    said.extend((where, one if isinstance(one, str) else bytes(one).decode(errors="replace")) for one in told)
    return outputs


def _opened(name: str) -> BinaryIO:
    """Open a log to be read as long as it grows, also when it is gone by name."""
    return Path(name).open("rb")


spy.begin(scanner=True)
_listen()
