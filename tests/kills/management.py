"""What an operator asks of the daemon, over its socket, as often as it takes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_SECONDS = 30
POLL_SECONDS = 0.03


class Management:
    """The management API. Who insists does not give up over a restart."""

    def __init__(self, socket: Path, *, log: Callable[[], str]) -> None:
        self._socket = socket
        self._log = log

    async def insist(self, method: str, path: str, **request: Any) -> Any:  # noqa: ANN401 - for aiohttp
        """Ask until it is done, or there is nothing that it could be done to; give the answer."""
        answer: Any = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    status, answer = await self.call(method, path, **request)
                    assert status not in {403, 413, 422}, f"not to be asked so: {answer}"
                    results = answer.get("results", []) if isinstance(answer, dict) else []
                    if status == 404 or (status == 200 and all(one["action"] != "refused" for one in results)):
                        return answer
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{method} {path} is not done; at last: {answer}\n{self._log()}") from None

    async def lines(self, method: str, path: str, **request: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        """Ask until a stream of lines came to its end, and did not end with trouble of the store; give them."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status, text = await self._request(method, path, **request)
                lines = [json.loads(line) for line in text.splitlines() if line] if status == 200 else []
                if status == 200 and not any("error" in line for line in lines):
                    return lines
                await asyncio.sleep(POLL_SECONDS)

    async def call(self, method: str, path: str, **request: Any) -> tuple[int, Any]:  # noqa: ANN401
        """Ask the daemon once; status 0 when there is none, or it died over it."""
        status, text = await self._request(method, path, **request)
        assert status != 500, f"{method} {path} failed: {text}\n{self._log()}"
        return status, json.loads(text) if text else None

    async def _request(self, method: str, path: str, **request: Any) -> tuple[int, str]:  # noqa: ANN401
        connector = aiohttp.UnixConnector(path=str(self._socket), force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session,
                session.request(method, f"http://byokd{path}", **request) as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""
