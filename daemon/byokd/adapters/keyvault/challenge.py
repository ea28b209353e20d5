"""What a vault wants to see before it answers: the `WWW-Authenticate` header of a 401."""

import base64
import re
from dataclasses import dataclass, field
from typing import Self, TypeVar
from urllib.parse import urlsplit

from byokd.domain.identifiers import TenantId, VaultHost, parse_tenant

_Value = TypeVar("_Value")

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|([^\s",]+))', re.ASCII)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A bearer challenge.

    Attributes:
        tenant: the one tenant whose tokens the vault takes; None when the challenge names none, or several.
        resource: what the token must be for, without a slash at the end; None likewise.
        claims: further claims (JSON) that a revoked session asks for; None without.
    """

    tenant: TenantId | None
    resource: str | None
    claims: str | None = field(repr=False)

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Read the header; None when it is not a bearer challenge."""
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
        )


def resource_of(host: VaultHost) -> str:
    """Give the resource that tokens for a vault are for: its cloud's name for Key Vault."""
    return f"https://{host.partition('.')[2]}"


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
        return base64.b64decode(padded, validate=True).decode()
    except ValueError:
        return None
