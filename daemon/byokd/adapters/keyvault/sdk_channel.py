"""The same request through Microsoft's own KeyClient, with its own challenge policy, pinned to one tenant.

What confirms a denial, registers an account or moves an account key goes this way. The routine
look at a healthy key goes by `channel.py`, at half the CPU; so no defect of that shortcut can close an
account. The same tests run over both.

Reaches into `azure.keyvault.keys._shared` for one function: the SDK remembers challenges for the whole process and
offers no other way to forget one. A vault that once named another tenant would be refused until a restart.
"""

import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Self

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError, DecodeError, IncompleteReadError
from azure.core.pipeline import PipelineResponse
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.keyvault.keys import ApiVersion
from azure.keyvault.keys._shared import http_challenge_cache
from azure.keyvault.keys.aio import KeyClient

from byokd.adapters.keyvault.challenge import Challenge, fit_claims, resource_of
from byokd.adapters.keyvault.channel import Call, TokenSource
from byokd.adapters.keyvault.classify import (
    Reply,
    classify_trouble,
    classify_unasked,
    consent_withdrawn,
    foreign,
    no_token,
    wrong_tenant,
)
from byokd.adapters.keyvault.transport import AzureTransport
from byokd.domain.answers import Evidence, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import ConsentWithdrawnError, KeyTarget

_Place = tuple[VaultHost, IdentityName, TenantId]

_SILENCE: Final = logging.Logger("silence")  # noqa: LOG001 - among the known ones its state could be changed
_SILENCE.disabled = True

_QUIET: Final = {
    "retry_total": 0,
    "permit_redirects": False,
    "logging_enable": False,
    "logger": _SILENCE,
    "user_agent": "byokd",
}
"""One call is one request; whoever calls decides about another. Nothing is followed, nothing is logged: the SDK would
log some headers, and a vault may write into them what it was sent."""


class _OtherTenantError(Exception):
    """The vault asks for a token of another tenant than the pinned one. None was fetched.

    Attributes:
        tenant: what it names in its place: anything.
    """

    def __init__(self, tenant: str) -> None:
        super().__init__()
        self.tenant = tenant


class _Forgotten:
    """A challenge named another tenant, but it was one that the SDK remembered: now the vault itself is asked."""


@dataclass(frozen=True, slots=True)
class _Rejected:
    """The vault did not take the token; the source replaces it for the next try."""

    reply: Reply | Refused | NoAnswer


class _NoTokenError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _ForgedError(Exception):
    """A challenge that Key Vault would not write for this host. No token is fetched for it."""


@dataclass(slots=True)
class _PinnedCredential:
    """Gives the SDK tokens of one identity for one scope and tenant, whatever the vault asks for.

    The SDK reads challenges in its own way, so what it makes of one is looked at again. `rejected` is the last token
    that the vault did not take, so that the source can replace it.
    """

    tokens: TokenSource
    identity: IdentityName
    tenant: TenantId
    scope: str
    rejected: str | None = field(default=None, repr=False)

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        asked = options or {}
        if (tenant := str(asked.get("tenant_id", "")).lower()) != self.tenant:
            raise _OtherTenantError(tenant)
        if scopes != (self.scope,):
            raise _ForgedError
        try:
            token = await self.tokens.token(
                self.identity,
                scope=self.scope,
                tenant=self.tenant,
                claims=fit_claims(asked.get("claims")),
                rejected=self.rejected,
            )
        except ConsentWithdrawnError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials raise all sorts; only the code is kept
            raise _NoTokenError(str(getattr(error, "code", type(error).__name__))) from None
        # The source keeps tokens and renews them; an expiry of now makes the SDK ask it every time.
        return AccessTokenInfo(token, int(time.time()))

    async def get_token(
        self, *scopes: str, claims: str | None = None, tenant_id: str | None = None, **_: object
    ) -> AccessToken:
        """Give the same in the SDK's older form, which it asks for only when there is no newer one."""
        options: TokenRequestOptions = {"tenant_id": tenant_id or ""}
        if claims is not None:
            options["claims"] = claims
        got = await self.get_token_info(*scopes, options=options)
        return AccessToken(got.token, got.expires_on)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


@dataclass(slots=True)
class _Heard:
    """Looks at every answer of one exchange before the SDK's policy acts on it."""

    operation: str
    host: VaultHost
    credential: _PinnedCredential
    last: Reply | None = None
    with_token: bool = False
    rejected: bool = False

    def take(self, response: PipelineResponse[Any, AsyncHttpResponse]) -> None:
        answer = response.http_response
        self.last = Reply(self.operation, answer.status_code, answer.headers, _document(answer))
        sent = _token_of(answer.request)
        self.with_token, self.rejected = sent is not None, False
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            return
        if sent is not None:
            self.credential.rejected, self.rejected = sent, True
        challenge = Challenge.parse(answer.headers.get("WWW-Authenticate", ""), host=self.host)
        if challenge is not None and not self._fits(challenge, sent):
            raise _ForgedError

    def _fits(self, challenge: Challenge, sent: str | None) -> bool:
        """Whether the SDK may act on it: stricter than the SDK, which takes any parent domain for a resource."""
        # A claims challenge may leave out what the first challenge said.
        brief = sent is not None and challenge.claims is not None
        tenant = challenge.tenant is not None or brief
        resource = challenge.resource == resource_of(self.host) or (brief and challenge.resource is None)
        return self.last is not None and self.last.genuine and challenge.of_entra and tenant and resource


@dataclass(frozen=True, slots=True)
class _Client:
    sdk: KeyClient
    credential: _PinnedCredential


class SdkChannel:
    """Sends calls through KeyClients, one per vault, identity and tenant, at most `remembered` of them."""

    def __init__(self, transport: AzureTransport, tokens: TokenSource, *, remembered: int) -> None:
        self._transport = transport
        self._tokens = tokens
        self._bound = remembered
        self._clients: OrderedDict[_Place, _Client] = OrderedDict()

    async def exchange(self, target: KeyTarget, call: Call) -> Reply | Refused | NoAnswer:
        """Give the vault's answer to an authorized request, of any status, or why there was none.

        Asks again at most once for a challenge that was only remembered, and once for a token that was not taken.
        """
        answer = await self._once(target, call)
        if isinstance(answer, _Forgotten):
            answer = await self._once(target, call)
        if isinstance(answer, _Rejected):
            answer = await self._once(target, call)
        if isinstance(answer, _Forgotten):
            return NoAnswer(Reason.FOREIGN_ANSWER, Evidence(call.operation, code="ChallengeTenant"))
        return answer.reply if isinstance(answer, _Rejected) else answer

    async def _once(self, target: KeyTarget, call: Call) -> Reply | Refused | NoAnswer | _Forgotten | _Rejected:
        client = self._client(target)
        heard = _Heard(call.operation, target.key.host, client.credential)
        url = f"https://{target.key.host}{call.path}"
        try:
            answer = await _send(client, call, url=url, heard=heard)
        except _OtherTenantError as error:
            http_challenge_cache.remove_challenge_for_url(url)
            return _Forgotten() if heard.last is None else wrong_tenant(heard.last, error.tenant)
        except ConsentWithdrawnError as error:
            return consent_withdrawn(call.operation, error.code)
        except Exception as error:  # noqa: BLE001 - whatever the way throws must not end as a defect of the caller
            if isinstance(error, _ForgedError):
                http_challenge_cache.remove_challenge_for_url(url)
            return _classified(call, heard, error)
        return _Rejected(answer) if heard.rejected else answer

    def _client(self, target: KeyTarget) -> _Client:
        place = (target.key.host, target.identity, target.tenant)
        client = self._clients.pop(place, None)
        if client is None:
            credential = _PinnedCredential(
                self._tokens, target.identity, target.tenant, f"{resource_of(target.key.host)}/.default"
            )
            url = f"https://{target.key.host}"
            sdk = KeyClient(url, credential, transport=self._transport, api_version=ApiVersion.V7_4, **_QUIET)
            client = _Client(sdk, credential)
        self._clients[place] = client
        if len(self._clients) > self._bound:
            self._clients.popitem(last=False)
        return client


async def _send(client: _Client, call: Call, *, url: str, heard: _Heard) -> Reply | Refused | NoAnswer:
    method = "GET" if call.content is None else "POST"
    headers = {} if call.content is None else {"Content-Type": "application/json"}
    request = HttpRequest(method, url, headers=headers, content=call.content)
    response = await client.sdk.send_request(request, raw_response_hook=heard.take)
    reply = Reply(call.operation, response.status_code, response.headers, _document(response))
    if reply.status != HTTPStatus.UNAUTHORIZED and _token_of(response.request) is None:
        return classify_unasked(reply)
    return reply


def _classified(call: Call, heard: _Heard, error: Exception) -> Reply | Refused | NoAnswer:
    """Say what an exception out of the SDK means, or give the answer that it fell over."""
    if isinstance(error, _NoTokenError):
        return no_token(call.operation, error.code)
    # Called JSON and is none: a proxy's page. What was cut short is of the same class, but nobody has heard it yet.
    if isinstance(error, DecodeError) and not isinstance(error, IncompleteReadError) and heard.last is not None:
        return heard.last if heard.with_token else classify_unasked(heard.last)
    if isinstance(error, _ForgedError) and heard.last is not None:
        return foreign(heard.last)
    if isinstance(error, ValueError):  # the SDK's word for a challenge that does not fit the host
        evidence = Evidence(call.operation, code="ChallengeResource")
        return NoAnswer(Reason.FOREIGN_ANSWER, evidence) if heard.last is None else foreign(heard.last, evidence.code)
    inner = error.inner_exception if isinstance(error, AzureError) else None
    return classify_trouble(call.operation, inner if isinstance(inner, Exception) else error)


def _token_of(request: HttpRequest) -> str | None:
    return request.headers.get("Authorization", "").removeprefix("Bearer ") or None


def _document(response: AsyncHttpResponse) -> object:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None
