"""One request to a vault, with a token of the pinned tenant or none at all.

This stands in for the SDK's KeyClient where a healthy key is looked at again and again: it costs a third of the CPU,
and remembers a challenge only when it matched the pinned tenant. Left out: retries, redirects, tracing and logging,
none of which are wanted here. The same tests run over this and over `sdk_channel.py`.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import ClientSession

from byokd.adapters.keyvault.challenge import Challenge, resource_of
from byokd.adapters.keyvault.classify import (
    Reply,
    classify_trouble,
    classify_unasked,
    consent_withdrawn,
    foreign,
    no_token,
    unauthorized,
    wrong_tenant,
)
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.ports import ConsentWithdrawnError, KeyTarget

_HEADERS: Final = {"Accept": "application/json", "User-Agent": "byokd"}
_JSON: Final = {"Content-Type": "application/json"}
_EMPTY: Final = {"Content-Length": "0"}


class TokenSource(Protocol):
    """Tokens by the name of an identity."""

    async def token(
        self,
        identity: IdentityName,
        *,
        scope: str,
        tenant: TenantId,
        claims: str | None = None,
        rejected: str | None = None,
    ) -> str:
        """Give a token for `scope` in `tenant`; quick when one is at hand.

        With `claims`, or when the one at hand is `rejected`, a new one is fetched, as far as the source's own bounds
        allow. Any exception means that there is none; its `code` attribute, if it has one, becomes evidence. Only
        ConsentWithdrawnError is the customer's word; everything else is our own trouble.
        """
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a vault: `path` below the host, with the query; `content` is JSON to be sent with POST."""

    operation: str
    path: str
    content: bytes | None = field(default=None, repr=False)


class Channel:
    """Sends calls, each once, and once more for a challenge.

    It remembers for which tenant a host asked, for at most `remembered` pairs; the oldest is forgotten at the bound, at
    the price of one more request. Only a match with the pinned tenant is remembered, so a wrong one is always news.
    """

    def __init__(self, session: ClientSession, tokens: TokenSource, *, remembered: int) -> None:
        self._session = session
        self._tokens = tokens
        self._bound = remembered
        self._admitted: OrderedDict[tuple[VaultHost, TenantId], None] = OrderedDict()

    async def exchange(self, target: KeyTarget, call: Call) -> Reply | Refused | NoAnswer:
        """Give the vault's answer to an authorized request, of any status, or why there was none.

        The first request to a host goes without token and content; what it is answered says who may ask.
        """
        claims: str | None = None
        admitted = (target.key.host, target.tenant) in self._admitted
        if not admitted:
            asked = await self._challenged(target, call)
            if not isinstance(asked, Challenge):
                return asked
            claims = asked.claims
        token = await self._token(target, call, claims=claims, rejected=None)
        if not isinstance(token, str):
            return token
        reply = await self._send(target, call, token)
        if isinstance(reply, NoAnswer) or reply.status != HTTPStatus.UNAUTHORIZED:
            return reply
        again = self._weigh(target, reply)
        if not isinstance(again, Challenge):
            return again
        fresh = await self._token(target, call, claims=again.claims, rejected=token)
        return await self._send(target, call, fresh) if isinstance(fresh, str) else fresh

    async def _challenged(self, target: KeyTarget, call: Call) -> Challenge | Refused | NoAnswer:
        reply = await self._send(target, call, None)
        if isinstance(reply, NoAnswer):
            return reply
        if reply.status == HTTPStatus.UNAUTHORIZED:
            return self._weigh(target, reply)
        return classify_unasked(reply)

    def _weigh(self, target: KeyTarget, reply: Reply) -> Challenge | Refused | NoAnswer:
        """Give the challenge of a 401 if it may be met with a token of the pinned tenant."""
        host, place = target.key.host, (target.key.host, target.tenant)
        known = place in self._admitted
        self._admitted.pop(place, None)
        challenge = Challenge.parse(reply.headers.get("WWW-Authenticate", ""), host=host)
        if challenge is None or not reply.genuine:
            return unauthorized(reply)
        if not challenge.of_entra:
            return foreign(reply, "ChallengeAuthority")
        # A claims challenge may leave out what the first challenge said.
        brief = known and challenge.claims is not None
        if challenge.tenant != target.tenant and not (brief and challenge.tenant is None):
            return (
                foreign(reply, "ChallengeTenant") if challenge.tenant is None else wrong_tenant(reply, challenge.tenant)
            )
        if challenge.resource != resource_of(host) and not (brief and challenge.resource is None):
            return foreign(reply, "ChallengeResource")
        self._admitted[place] = None
        if len(self._admitted) > self._bound:
            self._admitted.popitem(last=False)
        return challenge

    async def _token(
        self, target: KeyTarget, call: Call, *, claims: str | None, rejected: str | None
    ) -> str | Refused | NoAnswer:
        scope = f"{resource_of(target.key.host)}/.default"
        try:
            return await self._tokens.token(
                target.identity, scope=scope, tenant=target.tenant, claims=claims, rejected=rejected
            )
        except ConsentWithdrawnError as error:
            return consent_withdrawn(call.operation, error.code)
        except Exception as error:  # noqa: BLE001 - credentials raise all sorts, and none of it is anybody's word
            return no_token(call.operation, str(getattr(error, "code", type(error).__name__)))

    async def _send(self, target: KeyTarget, call: Call, token: str | None) -> Reply | NoAnswer:
        method = "GET" if call.content is None else "POST"
        headers, content = dict(_HEADERS), None
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
            content = call.content
        if method == "POST":
            headers |= _EMPTY if content is None else _JSON
        url = f"https://{target.key.host}{call.path}"
        try:
            async with self._session.request(
                method, url, headers=headers, data=content, allow_redirects=False
            ) as response:
                return Reply(call.operation, response.status, response.headers, _document(await response.read()))
        except Exception as error:  # noqa: BLE001 - whatever the way throws must not end as a defect of the checker
            return classify_trouble(call.operation, error)


def _document(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
