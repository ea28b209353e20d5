"""The VaultRegistry port over Azure Resource Manager, by azure-core's own client and bearer policy.

Two requests tell of a vault: which resource has its name, and that resource. Whoever may not read it is told nothing,
and so is whoever asks while ARM is slow or down: a registration goes on without.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

import structlog
from azure.core import AsyncPipelineClient
from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest

from byokd.domain.identifiers import IdentityName, TenantId
from byokd.domain.properties import VaultProperties, region
from byokd.ports import Clock, KeyTarget
from byokd.settings import ArmSettings

ENDPOINTS: Final = {
    "vault.azure.net": "https://management.azure.com",
    "vault.usgovcloudapi.net": "https://management.usgovcloudapi.net",
    "vault.azure.cn": "https://management.chinacloudapi.cn",
}
"""Of each cloud, by the suffix of its vaults (documentation). Tokens go nowhere else."""

KEPT_SECONDS: Final = 60.0
MOST_KEPT: Final = 1000
"""Answers are kept a minute, or half of `arm.interval` where that is less, some 300 bytes each: the accounts of one
vault are applied one after the other."""

_LIST: Final = "2021-04-01"
_VAULT: Final = "2023-07-01"
_RESOURCE: Final = (
    r"/subscriptions/{subscription}/resourceGroups/[\w.()-]{{1,90}}"
    r"/providers/Microsoft\.KeyVault/vaults/{name}"
)

_log = structlog.get_logger()
Transport = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]
_Place = tuple[KeyTarget, str]


class Tokens(Protocol):
    """Tokens by the name of an identity."""

    async def token(self, identity: IdentityName, *, scope: str, tenant: TenantId) -> str:
        """Give a token for `scope` in `tenant`; any exception means that there is none."""
        ...


@dataclass(slots=True)
class _Credential:
    """One identity, for one tenant, in the shape that azure-core asks for."""

    tokens: Tokens
    target: KeyTarget

    async def get_token_info(
        self,
        *scopes: str,
        options: TokenRequestOptions | None = None,  # noqa: ARG002 - what ARM asks for beyond the scope is not met
    ) -> AccessTokenInfo:
        token = await self.tokens.token(self.target.identity, scope=scopes[0], tenant=self.target.tenant)
        # The source keeps tokens; the policy lives for one vault only.
        return AccessTokenInfo(token, int(time.time()) + 300)

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:  # noqa: ANN401 - azure-core's
        got = await self.get_token_info(*scopes)
        return AccessToken(got.token, got.expires_on)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


class ArmRegistry:
    """What ARM tells of vaults to the accounts' own identities. See `VaultRegistry`."""

    def __init__(self, transport: Transport, tokens: Tokens, settings: ArmSettings, clock: Clock) -> None:
        """Take the way out, which is not closed here, the tokens, and where to look."""
        self._transport = transport
        self._tokens = tokens
        self._settings = settings
        self._clock = clock
        self._kept_seconds = min(KEPT_SECONDS, settings.interval.total_seconds() / 2)
        self._kept: OrderedDict[_Place, tuple[float, VaultProperties | None]] = OrderedDict()

    async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:
        """Find and read the vault, or say that it cannot be told."""
        endpoint = ENDPOINTS.get(target.key.host.partition(".")[2])
        if not self._settings.enabled or endpoint is None:
            return None
        place = (KeyTarget(target.identity, target.tenant, target.key.unpinned), subscription)
        kept = self._kept.get(place)
        now = self._clock.monotonic()
        if kept is not None and now < kept[0]:
            return kept[1]
        told = await self._bounded(target, subscription, endpoint)
        if told is not None:
            self._forget_others(target, told)
        self._kept[place] = self._clock.monotonic() + self._kept_seconds, told
        self._kept.move_to_end(place)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return told

    def _forget_others(self, target: KeyTarget, told: VaultProperties) -> None:
        """Drop what others were told of the vault before, where it is something else: it is out of date."""
        for place, (_, before) in list(self._kept.items()):
            one = place[0]
            same = (one.key.host, one.tenant) == (target.key.host, target.tenant)
            if same and before not in {told, None}:
                del self._kept[place]

    async def _bounded(self, target: KeyTarget, subscription: str, endpoint: str) -> VaultProperties | None:
        try:
            async with asyncio.timeout(self._settings.deadline.total_seconds()):
                return await self._ask(target, subscription, endpoint)
        except Exception as error:  # noqa: BLE001 - whatever it is, ARM did not tell; its text may hold what must not be shown
            _log.warning("arm-untold", vault=target.key.host, error=type(error).__name__)
            return None

    async def _ask(self, target: KeyTarget, subscription: str, endpoint: str) -> VaultProperties | None:
        bearer = AsyncBearerTokenCredentialPolicy(_Credential(self._tokens, target), f"{endpoint}/.default")
        client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            endpoint, policies=[bearer], transport=self._transport
        )
        name = target.key.host.partition(".")[0]
        for place in dict.fromkeys([subscription, *self._settings.subscriptions]):
            resource = await _find(client, name, place)
            if resource is not None:
                return _properties(await _get(client, f"{resource}?api-version={_VAULT}"))
        return None


async def _find(
    client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse], name: str, subscription: str
) -> str | None:
    """Give the id of the vault of that name, if it is in that subscription and may be seen."""
    named = quote(f"resourceType eq 'Microsoft.KeyVault/vaults' and name eq '{name}'")
    found = await _get(client, f"/subscriptions/{subscription}/resources?$filter={named}&api-version={_LIST}")
    pattern = _RESOURCE.format(subscription=re.escape(subscription), name=re.escape(name))
    listed = found.get("value")
    for entry in listed if isinstance(listed, list) else []:
        resource = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(resource, str) and re.fullmatch(pattern, resource, re.IGNORECASE | re.ASCII):
            return resource
    return None


async def _get(client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse], path: str) -> Mapping[str, Any]:
    """Give the document of a 200, and an empty one for everything else."""
    response = await client.send_request(HttpRequest("GET", client.format_url(path)))
    async with response:
        await response.read()
        document = response.json() if response.status_code == HTTPStatus.OK else {}
    return document if isinstance(document, dict) else {}


def _properties(document: Mapping[str, Any]) -> VaultProperties | None:
    properties, location = document.get("properties"), document.get("location")
    if not isinstance(properties, dict):
        return None
    # ARM leaves purge protection out where it was never switched on.
    soft_delete, purge_protection = properties.get("enableSoftDelete"), properties.get("enablePurgeProtection", False)
    return VaultProperties(
        region=region(location) if isinstance(location, str) and location else None,
        soft_delete=soft_delete if isinstance(soft_delete, bool) else None,
        purge_protection=purge_protection if isinstance(purge_protection, bool) else None,
    )
