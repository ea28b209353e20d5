"""Tokens that Event Grid's deliveries carry: proved by the signing keys of the tenant's Entra ID."""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import jwt
import structlog
from azure.core.rest import HttpRequest

from byokd.adapters.identity.sources import Transport
from byokd.ports import Clock
from byokd.ports.deliveries import DeliveryKeysUnavailableError

ISSUERS: Final[Mapping[str, str]] = {
    "login.microsoftonline.com": "https://sts.windows.net",
    "login.microsoftonline.us": "https://sts.windows.net",
    "login.partner.microsoftonline.cn": "https://sts.chinacloudapi.cn",
}
"""Who older tokens (version 1) say has issued them, by the authority; newer ones name the authority itself. From
https://learn.microsoft.com/en-us/answers/questions/1190472/what-are-the-token-issuers-for-the-sovereign-cloud."""

ALGORITHMS: Final = ("RS256",)
FETCH_SECONDS: Final = 4.0
ASK_AGAIN_SECONDS: Final = 300.0
"""How often the signing keys of a tenant are asked for, at most: tokens with made-up key ids must not make us hammer
Entra ID. It publishes a new key well before it signs with it."""

LEEWAY_SECONDS: Final = 120
MOST_BYTES: Final = 262_144
"""Of the document with the keys; a real one has some 20 KB."""

MOST_TOKEN: Final = 16_384

_log = structlog.get_logger()
Keys = Mapping[str, jwt.PyJWK]
Place = tuple[str, str]
"""An authority and a tenant: whose keys they are."""


class EntraDeliveryTokens:
    """See `DeliveryTokens`. The keys of each tenant are kept; `transport` reaches Entra ID and is not closed here."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._keys: dict[Place, Keys] = {}
        self._asked: dict[Place, float] = {}
        self._asking = asyncio.Lock()

    async def are_from(self, token: str, *, authority: str, tenant: str, audience: str, application: str) -> bool:
        """Check signature, times, issuer, audience, and whom it was given to."""
        if len(token) > MOST_TOKEN:
            return False
        try:
            key = await self._key((authority, tenant), str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                self._check_had((authority, tenant))
                return False
            # Times are compared here: the library would look at a clock of its own.
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=audience,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        issuers = {f"{ISSUERS[authority]}/{tenant}/", f"https://{authority}/{tenant}/v2.0"}
        given_to = str(claims.get("azp") or claims.get("appid") or "").lower()
        return claims["iss"] in issuers and given_to == application and self._is_in_time(claims)

    def _check_had(self, place: Place) -> None:
        if place not in self._keys:
            raise DeliveryKeysUnavailableError

    def _is_in_time(self, claims: Mapping[str, Any]) -> bool:
        now, begin, end = self._clock.now().timestamp(), claims.get("nbf", 0), claims["exp"]
        if not isinstance(begin, int | float) or not isinstance(end, int | float):
            return False
        return begin - LEEWAY_SECONDS <= now < end + LEEWAY_SECONDS

    async def _key(self, place: Place, kid: str) -> jwt.PyJWK | None:
        if kid not in self._keys.get(place, {}):
            async with self._asking:
                now = self._clock.monotonic()
                if now - self._asked.get(place, -math.inf) >= ASK_AGAIN_SECONDS:
                    self._asked[place] = now
                    await self._ask(place)
        return self._keys.get(place, {}).get(kid)

    async def _ask(self, place: Place) -> None:
        """Read the keys; where they cannot be had, those at hand stay."""
        authority, tenant = place
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = json.loads(await self._fetch(f"https://{authority}/{tenant}/discovery/v2.0/keys"))
            self._keys[place] = {key.key_id: key for key in jwt.PyJWKSet.from_dict(document).keys if key.key_id}
        except Exception as error:  # noqa: BLE001 - whatever it is, there are no keys; its text may hold anything
            _log.warning("signing-keys-not-had", tenant=tenant, error=type(error).__name__)
            self._asked[place] = self._clock.monotonic() - ASK_AGAIN_SECONDS + FETCH_SECONDS

    async def _fetch(self, url: str) -> bytes:
        answer = await self._transport.send(HttpRequest("GET", url), stream=True)
        async with answer:
            if answer.status_code != 200:  # noqa: PLR2004 - OK
                raise ValueError(f"status {answer.status_code}")
            body = b""
            async for part in answer.iter_raw():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError("too long")
        return body
