import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from byokd.emulator import Emulator
from byokd.emulator.material import decode, encode

VAULT = "contoso"
KEY = "customer-key"


@dataclass
class Clock:
    """Starts at the real time, because the SDK compares expiry with its own clock; moves when told."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Seen:
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def codes(self) -> tuple[str | None, str | None]:
        error = self.body["error"]
        return error["code"], error.get("innererror", {}).get("code")


class Wire:
    """Bare HTTP to the emulator, for what the SDK would hide."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self._emulator = emulator
        self._session = session
        self.token: str | None = None

    async def sign_in(self, **selector: str) -> str:
        parameters = {"api-version": "2018-02-01", "resource": "https://vault.azure.net", **selector}
        url = f"{self._emulator.http_url}/metadata/identity/oauth2/token"
        async with (
            aiohttp.ClientSession() as plain,
            plain.get(url, params=parameters, headers={"Metadata": "true"}) as response,
        ):
            document = await response.json()
        self.token = document["access_token"]
        return document["access_token"]

    async def send(
        self, method: str, path: str, body: object = None, *, vault: str = VAULT, version: str | None = "7.6"
    ) -> Seen:
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        parameters = {} if version is None else {"api-version": version}
        url = f"https://{vault}.vault.azure.net{path}"
        async with self._session.request(method, url, json=body, headers=headers, params=parameters) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            document = await response.json() if is_json and text else text
            return Seen(response.status, response.headers, document)

    async def wrap(self, value: bytes, *, key: str = KEY, version: str = "", operation: str = "wrapKey") -> Seen:
        body = {"alg": "RSA-OAEP-256", "value": encode(value)}
        return await self.send("POST", f"/keys/{key}/{version}/{operation}", body)

    async def wrapped(self, value: bytes, *, key: str = KEY, version: str = "") -> bytes:
        seen = await self.wrap(value, key=key, version=version)
        assert seen.status == 200
        return decode(seen.body["value"])
