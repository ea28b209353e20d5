"""What it means that a token could not be had. The one place where an exception of azure-identity is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.identity import CredentialUnavailableError

from byokd.domain.identifiers import TenantId

WITHDRAWN: Final[Mapping[int, str]] = {
    700016: "the application was not found in the tenant",
    7000229: "the application has no service principal in the tenant",
    7000112: "the application is disabled",
    90002: "the tenant was not found",
}
"""What Entra says to whom the tenant no longer lets in, by the number of its AADSTS code (field reports and
documentation). Every other number is about our own credential, policies or Entra itself."""


OUR_CREDENTIAL: Final = frozenset(
    {
        *(50013, 50027, 700021, 700023, 700024),  # the assertion: forged, malformed, for another, out of its time
        *(700025, 700026, 700027, 700030),  # the certificate: not registered, expired, a wrong signature
        *(70021, 70025, 700211, 700212, 700213),  # the federation: issuer, audience or subject is not trusted
        *(7000215, 7000218, 7000222),  # a secret: wrong, missing, expired
    }
)
"""What Entra says of the credential that the application shows, which is the same in every tenant (documentation)."""

FOREIGN: Final = "ForeignAnswer"
"""The code of a page that no endpoint for tokens gives."""

_TROUBLED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *(one for one in HTTPStatus if one >= 500)})  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class TokenFault:
    """Why there is no token.

    Attributes:
        code: for logs and evidence.
        withdrawn: whether the tenant itself does not let us in.
        ours: whether every tenant would meet it: our credential, the way to the endpoint, or the endpoint itself.
    """

    code: str
    withdrawn: bool
    ours: bool = True


def classify_token_error(error: Exception, *, tenant: TenantId | None) -> TokenFault:
    """Say why there is no token for `tenant`; None where the endpoint knows no tenants, and can withdraw nothing.

    Withdrawn only when Entra's token endpoint of that very tenant says so in the field for it (`error_codes`), whatever
    its text says: a managed identity's endpoint passes on texts about its own tenant, and a proxy can write anything.
    """
    numbers = _numbers(error)
    if not numbers:
        return TokenFault(_code(error), withdrawn=False)
    of_that_tenant = tenant is not None and _asked_tenant(error) == tenant
    withdrawn = of_that_tenant and all(one in WITHDRAWN for one in numbers)
    ours = not of_that_tenant or _is_troubled(error) or not OUR_CREDENTIAL.isdisjoint(numbers)
    return TokenFault(f"AADSTS{numbers[0]}", withdrawn=withdrawn, ours=ours and not withdrawn)


def _code(error: Exception) -> str:
    """Name what is no word of Entra's; azure-identity has one class for several things, and its cause tells them apart.

    `HTTP500` and its like: the endpoint answers, with trouble of its own. `ForeignAnswer`: with what is no document.
    The name of a way that failed: it was not reached. Any other name: the class.
    """
    if _is_troubled(error):
        return f"HTTP{_status(error)}"
    if isinstance(error, CredentialUnavailableError):
        cause = error.__cause__
        if isinstance(cause, AzureError) and not isinstance(cause, HttpResponseError):
            return type(cause).__name__
        if error.response is not None:
            return FOREIGN
    return type(error).__name__


def _is_troubled(error: Exception) -> bool:
    return _status(error) in _TROUBLED


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _numbers(error: Exception) -> tuple[int, ...]:
    """Give the numbers in Entra's error document; none when this is not one."""
    if not isinstance(error, ClientAuthenticationError) or error.response is None:
        return ()
    try:
        document = json.loads(error.response.text())
    except (ValueError, RecursionError):
        return ()
    codes = document.get("error_codes") if isinstance(document, dict) and "error" in document else None
    if not isinstance(codes, list) or not all(isinstance(code, int) for code in codes):
        return ()
    return tuple(codes)


def _asked_tenant(error: Exception) -> str | None:
    """Give the tenant that the request named, in the path of Entra's token endpoint."""
    request = getattr(getattr(error, "response", None), "request", None)
    words = urlsplit(str(getattr(request, "url", ""))).path.strip("/").split("/")
    return words[0].lower() if words[1:] == ["oauth2", "v2.0", "token"] else None
