"""What a vault wants to see before it answers: the `WWW-Authenticate` header of a 401."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

from byokd.domain.identifiers import TenantId, VaultHost, parse_tenant

_Value = TypeVar("_Value")

_PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]++)\s*+=\s*+(?:"([^"]*)"|([^\s",]++))', re.ASCII)
"""Possessive: 8 KB of letters would otherwise take half a second, on the loop that all vaults share."""

MOST_CLAIMS_CHARS: Final = 2048
"""Entra's own have some hundred. Longer ones are not passed on."""

_PUBLIC: Final = frozenset({"login.microsoftonline.com", "login.windows.net", "login.microsoft.com"})
_US_GOVERNMENT: Final = frozenset({"login.microsoftonline.us"})
_CHINA: Final = frozenset({"login.chinacloudapi.cn", "login.partner.microsoftonline.cn"})
_ENTRA_OF: Final[Mapping[str, frozenset[str]]] = {
    "vault.azure.net": _PUBLIC,
    "vault.usgovcloudapi.net": _US_GOVERNMENT,
    "vault.azure.cn": _CHINA,
}
"""Hosts of Entra ID by the suffix of vaults (documentation; azure-identity's list of known authorities)."""

_ANY_ENTRA: Final = _PUBLIC | _US_GOVERNMENT | _CHINA


@dataclass(frozen=True, slots=True)
class Challenge:
    """A bearer challenge.

    Attributes:
        tenant: the one tenant whose tokens the vault takes; None when the challenge names none, or several.
        resource: what the token must be for, without a slash at the end; None likewise.
        claims: further claims (a JSON object) that a revoked session asks for; None without.
        of_entra: whether no authority is named but Entra ID of the vault's cloud. It is never asked what is named here;
            but who names another one is not Key Vault.
    """

    tenant: TenantId | None
    resource: str | None
    claims: str | None = field(repr=False)
    of_entra: bool = True

    @classmethod
    def parse(cls, header: str, *, host: VaultHost) -> Self | None:
        """Read the header of an answer of `host`; None when it is not a bearer challenge."""
        scheme, _, rest = header.strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        named: dict[str, set[str]] = {}
        for name, quoted, bare in _PARAMETER.findall(rest):
            named.setdefault(name.lower(), set()).add(quoted or bare)
        authorities = named.get("authorization", set()) | named.get("authorization_uri", set())
        scopes = {scope.removesuffix("/.default") for scope in named.get("scope", ())}
        resources = {resource.rstrip("/") for resource in named.get("resource", set()) | scopes}
        return cls(
            tenant=_only({_tenant(authority) for authority in authorities}),
            resource=_only(resources),
            claims=_decoded(_only(named.get("claims", set()))),
            of_entra=all(_authority_host(authority) in _entra_of(host) for authority in authorities),
        )


def resource_of(host: VaultHost) -> str:
    """Give the resource that tokens for a vault are for: its cloud's name for Key Vault."""
    return f"https://{host.partition('.')[2]}"


def fit_claims(claims: str | None) -> str | None:
    """Give claims that may be passed on to Entra ID: a JSON object of at most MOST_CLAIMS_CHARS; None for others."""
    if claims is None or len(claims) > MOST_CLAIMS_CHARS:
        return None
    try:
        return claims if isinstance(json.loads(claims), dict) else None
    except (ValueError, RecursionError):
        return None


def _entra_of(host: VaultHost) -> frozenset[str]:
    return _ENTRA_OF.get(host.partition(".")[2], _ANY_ENTRA)


def _authority_host(authority: str) -> str | None:
    try:
        url = urlsplit(authority)
    except ValueError:
        return None
    # The whole of it: no user, no port.
    return url.netloc.lower() if url.scheme.lower() == "https" else None


def _only(values: set[_Value]) -> _Value | None:
    return next(iter(values)) if len(values) == 1 else None


def _tenant(authority: str) -> TenantId | None:
    try:
        return parse_tenant(urlsplit(authority).path.strip("/").partition("/")[0])
    except ValueError:
        return None


def _decoded(claims: str | None) -> str | None:
    if claims is None:
        return None
    try:
        padded = claims.replace("-", "+").replace("_", "/") + "=" * (-len(claims) % 4)
        return fit_claims(base64.b64decode(padded, validate=True).decode())
    except ValueError:
        return None
