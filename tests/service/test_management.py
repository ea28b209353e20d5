"""The management API's bound: no body is read that does not say how long it is, or that is too long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from byokd.demo.stage import Stage

HEAD = b"POST /accounts/apply HTTP/1.1\r\nHost: byokd\r\nContent-Type: application/json\r\n"


async def raw(path: Path, request: bytes) -> int:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65536
        await asyncio.sleep(0)


async def test_a_body_must_say_how_long_it_is_and_be_short_enough(stage: Stage) -> None:
    path = Path(stage.environment["BYOKD_SOCKET"])
    assert await raw(path, HEAD + b"\r\n") == 411
    assert await raw(path, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n") == 411
    assert await raw(path, HEAD.replace(b"POST", b"GET") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 411
    assert await raw(path, HEAD + b"Content-Length: 99999999999\r\n\r\n") == 413
    assert await raw(path, HEAD + b"Content-Length: 2\r\n\r\n{}") == 422
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(path))) as session:
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(_send_for_ever(session), 10)


async def _send_for_ever(session: aiohttp.ClientSession) -> None:
    async with session.post("http://byokd/accounts/apply", data=endless()) as response:
        assert response.status == 411
        raise aiohttp.ClientError
