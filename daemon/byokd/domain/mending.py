"""What gives an Inaccessible account back: one sentence per reason, for the hint beside every refusal."""

from collections.abc import Mapping

from byokd.domain.refusals import ROLE
from byokd.domain.vocabulary import Reason

_MENDS: Mapping[Reason | None, str] = {
    Reason.KEY_DISABLED: "enable the key version in the vault",
    Reason.KEY_EXPIRED: "move the expiry date of the key version, or remove it",
    Reason.KEY_NOT_YET_VALID: "move the activation date of the key version, or remove it",
    Reason.KEY_OPERATION_NOT_PERMITTED: "permit wrapKey and unwrapKey on the key",
    Reason.ACCESS_DENIED: f'grant the identity the role "{ROLE}" on the key or vault; that takes up to 10 minutes',
    Reason.NETWORK_BLOCKED: "allow this service's address in the vault's network rules, or a private endpoint",
    Reason.KEY_NOT_FOUND: "recover the deleted key, with all its versions",
    Reason.KEY_VERSION_NOT_FOUND: "restore the key from a backup that holds the version",
    Reason.PROBE_MISMATCH: "restore the key from a backup; tell whoever runs byokd, for this should not happen",
    Reason.CONSENT_WITHDRAWN: "let the service's application into the tenant again: consent, and enable it there",
    Reason.VAULT_NOT_FOUND: "recover the deleted vault, with all its keys",
    Reason.WRONG_TENANT: "move the vault back to the account's tenant",
    Reason.UNVERIFIED: "byokd must reach the vault again: whoever runs it sees in `byokd doctor` what is amiss",
}
_THEN = "the account then works again by itself"


def what_mends(reason: Reason | None) -> str:
    """Say what gives back an account that is Inaccessible for this reason."""
    mend = _MENDS.get(reason)
    return f"{mend}; {_THEN}" if mend else f"byokd check ACCOUNT says what the vault answers; {_THEN} when it is mended"
