"""Why a customer's key is not taken, in words that say what to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from byokd.domain.answers import OWN_LIMIT, NoAnswer, Refused
from byokd.domain.vocabulary import Reason, RefusalKind

ROLE = "Key Vault Crypto Service Encryption User"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened and what to do about it."""

    message: str
    hint: str


_OF_REFUSALS: Mapping[RefusalKind, Explanation] = {
    RefusalKind.KEY_DISABLED: Explanation("the key version is disabled", "enable it in the vault"),
    RefusalKind.OPERATION_FORBIDDEN: Explanation(
        "the key's permitted operations do not allow it", "permit wrapKey and unwrapKey on the key"
    ),
    RefusalKind.ACCESS_DENIED: Explanation(
        "the vault refuses the identity",
        f'grant it the role "{ROLE}" on the key or vault, or an access policy with get, wrapKey and unwrapKey; '
        "a fresh grant takes up to 10 minutes",
    ),
    RefusalKind.NETWORK_BLOCKED: Explanation(
        "the vault's network rules refuse this service", "allow this service's address, or a private endpoint"
    ),
    RefusalKind.NOT_FOUND: Explanation("there is no such key or version", "check the key identifier; recover the key"),
    RefusalKind.BAD_REQUEST: Explanation("the vault calls the request invalid", "use an RSA key of 2048 bits or more"),
    RefusalKind.WRONG_TENANT: Explanation(
        "the vault belongs to another tenant than the account", "check the account's tenant and the key identifier"
    ),
    RefusalKind.CONSENT_WITHDRAWN: Explanation(
        "the account's tenant does not let this service in",
        "let the application of the identity into that tenant (consent), and enable it there; check the tenant",
    ),
    RefusalKind.VAULT_NOT_FOUND: Explanation(
        "there is no vault of that name", "check the key identifier; recover the vault if it was deleted"
    ),
}


def explain(answer: Refused | NoAnswer) -> Explanation:
    """Explain why a vault did not do what was asked of it."""
    if isinstance(answer, NoAnswer) and answer.reason is Reason.TOKEN_UNAVAILABLE:
        return Explanation("no token for the identity", "check the identity in the settings and its endpoint")
    if isinstance(answer, NoAnswer) and answer.evidence.code == OWN_LIMIT:
        message = "the vault was not asked: byokd's share of its limit is spent"
        return Explanation(message, "nothing was changed; try again, or raise vaults.quota_share")
    if isinstance(answer, NoAnswer):
        return Explanation(f"the vault did not answer: {answer.reason}", "nothing was changed; try again")
    return _OF_REFUSALS[answer.kind]
