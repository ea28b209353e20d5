"""Whether tokens are to be had: got, and forgotten at once."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from byokd.adapters.identity.credentials import Credentials
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.ports import TokenUnavailableError

INSTANCE_METADATA: Final = "http://169.254.169.254"
"""Where machines in Azure ask; azure-identity lets AZURE_POD_IDENTITY_AUTHORITY_HOST name another place."""

_NOBODY: Final = TenantId("00000000-0000-0000-0000-000000000000")


class CredentialsTrial:
    """See `TokenTrial`."""

    def __init__(self, credentials: Credentials, environment: Mapping[str, str], *, suffix: str) -> None:
        """Take the credentials and the process's environment; `suffix` is the cloud's where no vault is known."""
        self._credentials = credentials
        self._suffix = suffix
        self._endpoint = endpoint_of(environment)

    @property
    def endpoint(self) -> str:
        """Where azure-identity asks."""
        return self._endpoint

    async def failure(self, identity: IdentityName, *, host: VaultHost | None, tenant: TenantId | None) -> str | None:
        """Get a token for a vault's cloud and forget it."""
        suffix = self._suffix if host is None else host.partition(".")[2]
        try:
            await self._credentials.token(identity, scope=f"https://{suffix}/.default", tenant=tenant or _NOBODY)
        except TokenUnavailableError as error:
            return error.code
        return None


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Name the endpoint for managed identities: scheme, host and port, for paths and headers may hold secrets."""
    named = environment.get("IDENTITY_ENDPOINT") or environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    url = urlsplit(named or INSTANCE_METADATA)
    try:
        port = f":{url.port}" if url.port else ""
    except ValueError:
        port = ""
    return f"{url.scheme}://{url.hostname}{port}"
