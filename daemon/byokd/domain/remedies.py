"""What mends it, exactly: per reason the sentence, the `az` commands and the portal step, with the real names in them.

`mending.py` has the short form of a sentence, for hints.
"""

from collections.abc import Mapping
from dataclasses import replace

from byokd.domain import remedies_of_access as access
from byokd.domain import remedies_of_keys as keys
from byokd.domain.identifiers import AccountId
from byokd.domain.remedy_forms import CLOUDS, Case, Mender, Recipe, Remedy, operator, suffix, wait
from byokd.domain.vocabulary import AccountFault, Reason, WarningKind


def remedy(reason: Reason | AccountFault, case: Case) -> Remedy:
    """Give what mends an account that is denied, or cannot be verified, for this reason."""
    return _named(_REASONS[reason], case)


def remedy_of_warning(kind: WarningKind, case: Case) -> Remedy:
    """Give what ends a warning; the version in the case is the one that it is about."""
    return _named(_WARNINGS[kind], case)


def tagging(case: Case, account: AccountId) -> Remedy:
    """Give what lets an account use a key with an identity that serves several customers."""
    return _named(lambda case: keys.tag(case, account), case)


def _named(recipe: Recipe, case: Case) -> Remedy:
    """Say first which cloud is meant, where it is not az's default."""
    made = recipe(case)
    cloud = CLOUDS.get(suffix(case))
    if cloud is None or not any(command.startswith("az ") for command in made.commands):
        return made
    return replace(made, commands=(f"az cloud set --name {cloud[0]}", *made.commands))


_REASONS: Mapping[Reason | AccountFault, Recipe] = {
    Reason.KEY_DISABLED: keys.enable,
    Reason.KEY_EXPIRED: keys.prolong,
    Reason.KEY_NOT_YET_VALID: keys.activate,
    Reason.KEY_OPERATION_NOT_PERMITTED: keys.permit,
    Reason.ACCESS_DENIED: access.grant,
    Reason.NETWORK_BLOCKED: access.open_network,
    Reason.KEY_NOT_FOUND: keys.recover_key,
    Reason.KEY_VERSION_NOT_FOUND: keys.restore_key,
    Reason.PROBE_MISMATCH: keys.restore_odd_key,
    Reason.WRONG_TENANT: access.move_back,
    Reason.VAULT_NOT_FOUND: access.recover_vault,
    Reason.CONSENT_WITHDRAWN: access.consent,
    Reason.UNVERIFIED: operator(
        "byokd must reach the vault again: see since when it did not, and why, and what is amiss here", "byokd doctor"
    ),
    AccountFault.ACCOUNT_KEY_DAMAGED: operator(
        "this account's own record did not open when its key did: prove what is stored, then put the account back "
        "from a backup of the database",
        "byokd keys verify",
    ),
    Reason.THROTTLED: access.lessen_load,
    Reason.VAULT_ERROR: wait("wait: the vault answers with an error of its own; see the health of Azure in its region"),
    Reason.TIMED_OUT: operator("if it lasts, look at the way to the vault", "byokd doctor"),
    Reason.CONNECTION_FAILED: operator("look at network, firewall and private endpoint", "byokd doctor"),
    Reason.TLS_FAILED: operator("look for a proxy in between, and at network.ca_file", "byokd doctor"),
    Reason.NAME_NOT_RESOLVED: access.see_vault,
    Reason.UNAUTHORIZED: operator("if it lasts, look at the identity and its tenant", "byokd doctor"),
    Reason.FOREIGN_ANSWER: operator("look for what sits between byokd and the vault, such as a proxy", "byokd doctor"),
    Reason.UNREADABLE_ANSWER: wait("wait; if it stays, report it with the evidence"),
    Reason.TOKEN_UNAVAILABLE: operator(
        "look at the identity and its endpoint: this is our own trouble", "byokd doctor"
    ),
}

_WARNINGS: Mapping[WarningKind, Recipe] = {
    WarningKind.NEWEST_VERSION_UNUSABLE: keys.mend_newest,
    WarningKind.NEW_VERSIONS_UNSEEN: access.permit_get,
    WarningKind.KEY_EXPIRED: keys.rotate,
    WarningKind.KEY_NOT_YET_VALID: keys.activate,
    WarningKind.NEAR_EXPIRY: keys.rotate,
    WarningKind.PINNED_VERSION_SUPERSEDED: keys.follow,
    WarningKind.WRAP_NOT_PERMITTED: keys.permit,
    WarningKind.PURGE_PROTECTION_OFF: access.protect,
    WarningKind.SOFT_DELETE_OFF: access.keep_deleted,
    WarningKind.VAULT_ELSEWHERE: access.bring_together,
}

__all__ = ["Case", "Mender", "Remedy", "remedy", "remedy_of_warning", "tagging"]
