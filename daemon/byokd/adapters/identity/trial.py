"""Whether tokens are to be had: got, and forgotten at once."""

import base64
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from byokd.adapters.identity.credentials import VIA, Credentials
from byokd.adapters.identity.sources import NOBODY
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.ports import TokenUnavailableError
from byokd.settings import IdentitySettings, Settings
from byokd.settings.identities import PUBLIC, VAULTS_OF

INSTANCE_METADATA: Final = "http://169.254.169.254"
"""Where machines in Azure ask; azure-identity lets AZURE_POD_IDENTITY_AUTHORITY_HOST name another place."""


class CredentialsTrial:
    """See `TokenTrial`."""

    def __init__(self, credentials: Credentials, settings: Settings, environment: Mapping[str, str]) -> None:
        """Take the credentials, whose identities they are, and the process's environment."""
        self._credentials = credentials
        self._settings = settings
        self._endpoint = endpoint_of(environment)

    def endpoint(self, identity: IdentityName) -> str:
        """Give where azure-identity asks."""
        settings = self._settings.identities[identity]
        return self._endpoint if settings.kind == "managed-identity" else f"https://{settings.authority}"

    async def failure(self, identity: IdentityName, *, host: VaultHost | None, tenant: TenantId | None) -> str | None:
        """Get a token for a vault's cloud and forget it, or do what goes before that where no tenant is known."""
        settings = self._settings.identities[identity]
        scope = self._scope(settings, host)
        tenant = tenant or (None if settings.tenant is None else TenantId(settings.tenant))
        try:
            if tenant is None and settings.kind == "certificate":
                self._credentials.make_ready(identity)
                return None
            if tenant is None and settings.kind == "cross-tenant":
                await self._credentials.assertion(identity)
                return None
            await self._credentials.token(identity, scope=scope, tenant=tenant or TenantId(NOBODY))
        except TokenUnavailableError as error:
            is_before = tenant is None and settings.via is not None
            return f"{error.code}{VIA}{settings.via}" if is_before else error.code
        except (OSError, ValueError) as error:
            return type(error).__name__
        return None

    async def object_id(self, identity: IdentityName) -> str | None:
        """Read it from a token: it is no secret, and nothing rests on it but a warning, so no signature is proved."""
        scope = self._scope(self._settings.identities[identity], None)
        try:
            token = await self._credentials.token(identity, scope=scope, tenant=TenantId(NOBODY))
            payload = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (TokenUnavailableError, OSError, ValueError, IndexError, RecursionError):
            return None
        found = claims.get("oid") if isinstance(claims, dict) else None
        return found.lower() if isinstance(found, str) else None

    def _scope(self, settings: IdentitySettings, host: VaultHost | None) -> str:
        allowed = self._settings.vaults.allowed_suffixes[0]
        usual = allowed if settings.authority == PUBLIC else VAULTS_OF[settings.authority]
        suffix = usual if host is None else host.partition(".")[2]
        return f"https://{suffix}/.default"


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Name the endpoint for managed identities: scheme, host and port, for paths and headers may hold secrets."""
    named = environment.get("IDENTITY_ENDPOINT") or environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    url = urlsplit(named or INSTANCE_METADATA)
    try:
        port = f":{url.port}" if url.port else ""
    except ValueError:
        port = ""
    return f"{url.scheme}://{url.hostname}{port}"
