"""What the codes of token trouble mean, for people: `/healthz`, the log and `byokd doctor` say the same."""

from collections.abc import Mapping
from typing import Final

_FEDERATION: Final = (
    "the application does not trust what is shown: compare issuer, subject and audience with `az ad app "
    "federated-credential list --id CLIENT_ID`"
)
_CERTIFICATE: Final = (
    "the certificate has expired, or is not registered with the application: see `az ad app credential list --cert "
    "--id CLIENT_ID`; a new certificate_file is read after the next refusal"
)
_NO_IDENTITY: Final = (
    "see that this machine has the managed identity (`az vm identity show`), and client_id or resource_id in the "
    "settings"
)
_WAY: Final = (
    "the endpoint is not reached: see firewall, DNS and routes to it (a container too needs one), and network.ca_file"
)
_FAILING: Final = (
    "the endpoint answers, but with an error of its own, which says nothing of the identity: byokd asks again by "
    "itself; if it lasts, see the machine's agent and the health of Azure"
)
_THROTTLING: Final = "the endpoint has been asked too often, by whomever: byokd asks again by itself"
_FILE: Final = "see certificate_file and token_file of the identity: `byokd check-config` looks into them"
_WITHDRAWN: Final = (
    "the tenant does not let the application in: `byokd explain ACCOUNT` has the commands; when it is every tenant, "
    "see the application at home: it was deleted or disabled, or client_id or authority is wrong"
)

_HINTS: Final[Mapping[str, str]] = {
    "CredentialUnavailableError": _NO_IDENTITY,
    "ForeignAnswer": "something else answers in place of the endpoint, such as a proxy: what is sent to it must not "
    "pass one",
    "HTTP429": _THROTTLING,
    "ClientAuthenticationError": "the endpoint refuses, or a proxy on the way answers for it: assign a managed "
    "identity to this machine, and see its client_id; of an application look for the proxy",
    "IdentityUnknown": "add the identity to the settings, or give its accounts another one",
    "TimeoutError": _WAY,
    "TokensQueued": _WAY,
    "ServiceRequestError": _WAY,
    "ServiceRequestTimeoutError": _WAY,
    "ServiceResponseError": _WAY,
    "ServiceResponseTimeoutError": _WAY,
    "FileNotFoundError": _FILE,
    "PermissionError": _FILE,
    "ValueError": _FILE,
    **dict.fromkeys((f"AADSTS{number}" for number in (50013, 70021, 70025, 700211, 700212, 700213)), _FEDERATION),
    **dict.fromkeys(("AADSTS700027", "AADSTS700030", "AADSTS700026"), _CERTIFICATE),
    **dict.fromkeys(("AADSTS700016", "AADSTS7000229", "AADSTS7000112", "AADSTS90002"), _WITHDRAWN),
    "AADSTS700024": "set the clock (NTP); or the federated token has expired: see who renews token_file",
    "AADSTS500011": "Key Vault is not known there: the vault's cloud is another than that of authority, or the tenant "
    "has never used Key Vault",
    "AADSTS53003": "conditional access of that tenant blocks the application: its administrator sees it in the sign-in "
    "logs",
}
_ELSE: Final = (
    "see the identity in the settings and its endpoint; https://login.microsoftonline.com/error explains AADSTS"
)

WITHDRAWALS: Final = frozenset(code for code, hint in _HINTS.items() if hint == _WITHDRAWN)
"""What a tenant says of itself: not our trouble, unless every tenant says it."""


def hint_of(code: str | None) -> str:
    """Say what to do about a code. `CODE.via-NAME` is trouble of the managed identity that a cross-tenant one shows."""
    if code is None:
        return _ELSE
    own, _, via = code.partition(".via-")
    if via:
        return f"no token of the managed identity {via}, which is shown in place of a secret: {hint_of(own)}"
    return _HINTS.get(code, _FAILING if code.startswith("HTTP") else _ELSE)
