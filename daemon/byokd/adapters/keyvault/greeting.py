"""Asking a vault who it is, without a token: what answers, whose tenant its challenge names, and what time it has."""

import json
from http import HTTPStatus

from aiohttp import ClientSession, ClientTimeout
from azure.keyvault.keys import ApiVersion

from byokd.adapters.keyvault.challenge import Challenge, resource_of
from byokd.adapters.keyvault.classify import GET, Reply, classify_trouble, classify_unasked, foreign
from byokd.adapters.keyvault.headers import http_date
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import TenantId, VaultHost
from byokd.ports import Clock
from byokd.ports.examining import Greeting

PATIENCE_SECONDS = 4.0
"""A vault answers in well under one; one that says "go on" (status 100) and no more would be waited for."""


class AzureVaultGreeter:
    """See `VaultGreeter`. `session` opens a connection for each request."""

    def __init__(self, session: ClientSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def greet(self, host: VaultHost) -> Greeting:
        """Ask once; what is asked for does not matter, for nobody is told anything without a token."""
        url = f"https://{host}/keys?api-version={ApiVersion.V7_4.value}"
        try:
            patience = ClientTimeout(total=PATIENCE_SECONDS)
            async with self._session.get(url, allow_redirects=False, timeout=patience) as response:
                asked_at = self._clock.now()
                reply = Reply(GET, response.status, response.headers, _document(await response.read()))
        except Exception as error:  # noqa: BLE001 - whatever the way throws is what is looked for
            return Greeting(classify_trouble(GET, error), None, None, self._clock.now())
        trouble, tenant = _judged(reply, host)
        return Greeting(
            trouble,
            tenant,
            None if isinstance(trouble, NoAnswer) else http_date(reply.headers.get("Date", "")),
            asked_at,
        )


def _judged(reply: Reply, host: VaultHost) -> tuple[Refused | NoAnswer | None, TenantId | None]:
    if reply.status != HTTPStatus.UNAUTHORIZED:
        return classify_unasked(reply), None
    challenge = Challenge.parse(reply.headers.get("WWW-Authenticate", ""), host=host)
    if challenge is None or not reply.genuine or challenge.tenant is None:
        return foreign(reply, "Challenge"), None
    if not challenge.of_entra:
        return foreign(reply, "ChallengeAuthority"), None
    if challenge.resource != resource_of(host):
        return foreign(reply, "ChallengeResource"), None
    return None, challenge.tenant


def _document(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
