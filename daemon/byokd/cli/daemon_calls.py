"""Calls to a running daemon over its Unix socket."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import click

from byokd.cli.voice import ExitCode, fail

DEFAULT_SOCKET = Path("/run/byokd/api.sock")

TIMEOUT_SECONDS = 3600
"""An apply of many accounts proves each key in its vault; everything else takes seconds."""

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


async def _call(socket_path: Path, method: str, path: str, *, ref: str | None, body: object) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(path=str(socket_path))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            parameters = None if ref is None else {"ref": ref}
            async with session.request(method, f"http://byokd{path}", params=parameters, json=body) as response:
                answer = await response.json()
        except aiohttp.ClientConnectorError as error:
            unreachable(socket_path, error)
        except (aiohttp.ClientError, ValueError) as error:
            fail(f"the daemon at {socket_path} broke off: {type(error).__name__}", hint="look at its log")
    mistaken = response.status == HTTPStatus.UNPROCESSABLE_ENTITY and "mistakes" in answer
    if not (response.ok or mistaken):
        refused(answer)
    return response.status, answer


def unreachable(socket_path: Path, error: aiohttp.ClientConnectorError) -> NoReturn:
    """Say that there is no daemon, and end."""
    fail(
        f"cannot reach the daemon at {socket_path}: {error.os_error.strerror or 'not there'}",
        hint="is it running? may you use the socket (its group)? --socket or BYOKD_SOCKET names another",
    )


def refused(answer: dict[str, Any]) -> NoReturn:
    """Say why the daemon refuses, and end."""
    detail = answer.get("detail", {})
    if isinstance(detail, dict):
        fail(str(detail.get("message", "refused")), hint=detail.get("hint") or None)
    fail(f"the daemon did not understand the request: {detail}", code=ExitCode.USAGE)
