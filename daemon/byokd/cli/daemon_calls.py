"""Calls to a running daemon over its Unix socket."""

import asyncio
import errno
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import click

from byokd.cli.voice import ExitCode, fail

DEFAULT_SOCKET = Path("/run/byokd/api.sock")

TIMEOUT_SECONDS = 3600
"""An apply of many accounts proves each key in its vault; everything else takes seconds."""

ASK_SECONDS = 5
"""For a question that takes no time."""

LINE_BYTES = 2**20
"""Of an answer in lines: far longer than any event or finding."""

socket_option = click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_SOCKET,
    envvar="BYOKD_SOCKET",
    show_default=True,
    show_envvar=True,
    help="The daemon's Unix socket.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, a stable contract.")


def call(socket_path: Path, method: str, path: str, *, ref: str | None = None, body: object = None) -> tuple[int, Any]:
    """Call the daemon; end the program with a hint when it cannot be reached or refuses.

    Returns:
        the status and the JSON, for 2xx and 422.
    """
    return asyncio.run(_call(socket_path, method, path, ref=ref, body=body))


async def ask(socket_path: Path, path: str) -> dict[str, Any] | str | None:
    """Ask a daemon that may not be there: what it answers, None when there is none, or why it could not be asked."""
    connector = aiohttp.UnixConnector(path=str(socket_path))
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://byokd{path}") as response,
        ):
            answer = await response.json()
    except aiohttp.ClientConnectorError as error:
        if error.errno in {errno.ENOENT, errno.ECONNREFUSED}:
            return None
        return f"the daemon at {socket_path} cannot be asked: {error.os_error.strerror}"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return f"something listens on {socket_path}, and does not answer: {type(error).__name__}"
    return answer if isinstance(answer, dict) else f"something else than byokd answers on {socket_path}"


def lines_of(
    socket_path: Path,
    method: str,
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    body: object = None,
    silence_seconds: float | None = TIMEOUT_SECONDS,
) -> Iterator[Any]:
    """Give the JSON of each line of an answer as it comes, empty ones left out; end the program as `call` does.

    Where the answer is that there are mistakes in what was sent, it is the one line.

    Args:
        socket_path: where the daemon is.
        method: GET or POST.
        path: what is asked for.
        parameters: of the query.
        body: the document to POST; an empty one without.
        silence_seconds: how long nothing may come; None: for ever.
    """
    with asyncio.Runner() as runner:
        document = body or {} if method == "POST" else None
        lines = _lines(socket_path, method, path, parameters, document, silence_seconds)
        try:
            while (line := runner.run(anext(lines, None))) is not None:
                yield line
        finally:
            runner.run(lines.aclose())


async def _lines(
    socket_path: Path,
    method: str,
    path: str,
    parameters: Mapping[str, str] | None,
    body: object,
    silence_seconds: float | None,
) -> AsyncGenerator[Any, None]:
    connector = aiohttp.UnixConnector(path=str(socket_path))
    timeout = aiohttp.ClientTimeout(total=None, sock_read=silence_seconds)
    headers = {"Accept": "application/x-ndjson"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=LINE_BYTES) as session:
        with _broken_off(socket_path):
            async with session.request(
                method, f"http://byokd{path}", params=parameters, json=body, headers=headers
            ) as response:
                if not response.ok:
                    answer = await response.json()
                    if "mistakes" not in answer:
                        _refused(answer)
                    yield answer
                    return
                async for line in response.content:
                    if line.strip():
                        yield json.loads(line)


async def _call(socket_path: Path, method: str, path: str, *, ref: str | None, body: object) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(path=str(socket_path))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        parameters = None if ref is None else {"ref": ref}
        with _broken_off(socket_path):
            async with session.request(method, f"http://byokd{path}", params=parameters, json=body) as response:
                answer = await response.json()
    mistaken = response.status == HTTPStatus.UNPROCESSABLE_ENTITY and "mistakes" in answer
    if not (response.ok or mistaken):
        _refused(answer)
    return response.status, answer


def _unreachable(socket_path: Path, error: aiohttp.ClientConnectorError) -> NoReturn:
    """Say that there is no daemon, and end."""
    fail(
        f"cannot reach the daemon at {socket_path}: {error.os_error.strerror or 'not there'}",
        hint="is it running? may you use the socket (its group)? --socket or BYOKD_SOCKET names another",
    )


def _refused(answer: Any) -> NoReturn:  # noqa: ANN401 - JSON
    """Say why the daemon refuses, and end."""
    detail = answer.get("detail", {})
    if isinstance(detail, dict):
        fail(str(detail.get("message", "refused")), hint=detail.get("hint") or None)
    fail(f"the daemon did not understand the request: {detail}", code=ExitCode.USAGE)


@contextmanager
def _broken_off(socket_path: Path) -> Iterator[None]:
    """End the program with a hint when the daemon cannot be reached or does not finish its answer."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        _unreachable(socket_path, error)
    except (aiohttp.ClientError, ValueError) as error:
        fail(f"the daemon at {socket_path} broke off: {type(error).__name__}", hint="look at its log")
