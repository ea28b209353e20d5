"""The classes of azure-identity, one object per identity, each over the transport that is handed in.

None of them keeps tokens for applications (`NothingKept`): that is done, within bounds, by `credentials.py`. None
retries: that would outlast every deadline here. And none lets the environment choose a tenant or an authority.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.identity.aio import (
    CertificateCredential,
    ClientAssertionCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from byokd.settings import IdentitySettings

Transport = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]

NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""The tenant that a credential would ask if no request named one. There is none of that id: whatever forgets to name
the account's tenant, or keeps a request from naming it (AZURE_IDENTITY_DISABLE_MULTITENANTAUTH does), gets no token."""

EXCHANGE: Final[Mapping[str, str]] = {
    "login.microsoftonline.com": "api://AzureADTokenExchange/.default",
    "login.microsoftonline.us": "api://AzureADTokenExchangeUSGov/.default",
    "login.partner.microsoftonline.cn": "api://AzureADTokenExchangeChina/.default",
}
"""What the token of a managed identity is for when it is shown to Entra ID in place of a secret, by the authority."""

_QUIET: Final = {"retry_total": 0, "retry_status": 0, "logging_enable": False}


class Source(Protocol):
    """What all credentials of azure-identity can do."""

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Ask for a token."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...


class NothingKept:
    """Stands where azure-identity keeps tokens, one per tenant and for ever. It keeps none."""

    def add(self, event: object, now: object = None) -> None:
        """Forget it at once."""

    def search(self, *_: object, **__: object) -> tuple[()]:
        """Find nothing."""
        return ()


def make_source(identity: IdentitySettings, transport: Transport, assertion: Callable[[], str]) -> Source:
    """Make the credential of an identity; `assertion` gives what `cross-tenant` shows in place of a secret.

    Raises:
        OSError: its certificate cannot be read.
        ValueError: its certificate cannot be used.
    """
    quiet = {**_QUIET, "transport": transport}
    if identity.kind == "managed-identity":
        # By its private name, the kind is kept to: with the variables of workload identity in the environment, which
        # also choose tenant and authority, the class would otherwise turn into another one.
        return ManagedIdentityCredential(
            client_id=identity.client_id,
            identity_config=_by_resource_id(identity),
            _exclude_workload_identity_credential=True,
            **quiet,
        )
    kept = NothingKept()
    options: dict[str, Any] = {
        **quiet,
        "authority": f"https://{identity.authority}",
        "additionally_allowed_tenants": ["*"],
        "cache": kept,
        "cae_cache": kept,
    }
    client = identity.client_id or ""
    if identity.kind == "workload-identity":
        path = str(identity.token_file)
        return WorkloadIdentityCredential(tenant_id=NOBODY, client_id=client, token_file_path=path, **options)
    if identity.kind == "certificate":
        return CertificateCredential(NOBODY, client, str(identity.certificate_file), **options)
    return ClientAssertionCredential(NOBODY, client, assertion, **options)


def _by_resource_id(identity: IdentitySettings) -> Mapping[str, str] | None:
    """Give the query's parameter by the name that the endpoint knows: the package hands it on as it is.

    An endpoint passes over a parameter that it does not know, and would give the token of another identity.
    """
    if identity.resource_id is None:
        return None
    return {"mi_res_id" if os.environ.get("IDENTITY_ENDPOINT") else "msi_res_id": identity.resource_id}
