"""What mends it, exactly: per reason the sentence, the `az` commands and the portal step, with the real names in them.

Identifiers are hostile input, and commands are pasted into shells: everything that comes from outside is quoted, in
commands as in sentences. What byokd cannot know stands in a command as `"${NAME:?what it is}"`, at which a shell stops
and says so. `mending.py` has the short form of a sentence, for hints.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote

from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, shown
from byokd.domain.refusals import ROLE
from byokd.domain.vocabulary import AccountFault, Reason, WarningKind


class Mender(StrEnum):
    """Who can mend it."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Case:
    """What a remedy is made for.

    Attributes:
        key: the versioned identifier of the key that is to work again.
        tenant: the customer's.
        identity: what asks, by its name in the settings.
        client_id: of that identity; None where only Azure knows it.
        inner_code: what the vault gave as its reason, if anything.
        address: ours, as the vault saw it, if it said so.
        now: for dates in commands.
    """

    key: KeyIdentifier
    tenant: TenantId
    identity: IdentityName
    client_id: str | None
    inner_code: str | None
    address: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Remedy:
    """How to mend it. `commands` are to be run in order, by somebody who administers the vault (or byokd's machine)."""

    mender: Mender
    text: str
    commands: tuple[str, ...] = ()
    portal: str | None = None


_Recipe = Callable[[Case], Remedy]

_CLOUDS = {
    "vault.usgovcloudapi.net": ("AzureUSGovernment", "portal.azure.us"),
    "vault.azure.cn": ("AzureChinaCloud", "portal.azure.cn"),
}
"""Clouds that are not az's default, by the suffix of their vaults."""

ACCOUNT_TAG = "byokd-account"
"""The tag by which a key says for which account it is."""

_PLAIN = re.compile(r"[0-9A-Za-z-]{1,128}", re.ASCII)
_YEAR = timedelta(days=365)


def remedy(reason: Reason | AccountFault, case: Case) -> Remedy:
    """Give what mends an account that is denied, or cannot be verified, for this reason."""
    return _named(_REASONS[reason], case)


def remedy_of_warning(kind: WarningKind, case: Case) -> Remedy:
    """Give what ends a warning; the version in the case is the one that it is about."""
    return _named(_WARNINGS[kind], case)


def tagging(case: Case, account: AccountId) -> Remedy:
    """Give what lets an account use a key with an identity that serves several customers."""
    return _named(lambda case: _tag(case, account), case)


def _named(recipe: _Recipe, case: Case) -> Remedy:
    """Say first which cloud is meant, where it is not az's default."""
    made = recipe(case)
    cloud = _CLOUDS.get(_suffix(case))
    if cloud is None or not any(command.startswith("az ") for command in made.commands):
        return made
    return replace(made, commands=(f"az cloud set --name {cloud[0]}", *made.commands))


def _vault(case: Case) -> str:
    return case.key.host.partition(".")[0]


def _suffix(case: Case) -> str:
    return case.key.host.partition(".")[2]


def _word(text: str) -> str:
    """Give a name for a sentence: as it is when it is harmless."""
    return text if _PLAIN.fullmatch(text) else shown(text)


def _place(case: Case, *steps: str) -> str:
    portal = _CLOUDS.get(_suffix(case), ("", "portal.azure.com"))[1]
    return " > ".join([portal, "Key vaults", _word(_vault(case)), *steps])


def _of_key(case: Case, *steps: str) -> str:
    return _place(case, "Keys", _word(case.key.name), *steps)


def _of_version(case: Case, *steps: str) -> str:
    return _of_key(case, *([] if case.key.version is None else [_word(case.key.version)]), *steps)


def _attributes(case: Case, *options: str) -> str:
    version = [] if case.key.version is None else [_option("--version", case.key.version)]
    return " ".join([f"az keyvault key set-attributes {_names(case)}", *version, *options])


def _names(case: Case) -> str:
    return f"{_option('--vault-name', _vault(case))} {_option('--name', case.key.name)}"


def _vault_name(case: Case) -> str:
    return _option("--name", _vault(case))


def _option(name: str, value: str) -> str:
    """Give an option with its value, which is no option itself, however it begins."""
    return f"{name}={quote(value)}" if value.startswith("-") else f"{name} {quote(value)}"


def _version_words(case: Case) -> str:
    version = "the version" if case.key.version is None else f"version {_word(case.key.version)}"
    return f"{version} of the key {_word(case.key.name)} in the vault {_word(_vault(case))}"


def _date(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _customer(text: str, *commands: str, portal: str | None = None) -> Remedy:
    return Remedy(Mender.CUSTOMER, text, commands, portal)


def _operator(text: str, *commands: str) -> _Recipe:
    return lambda _: Remedy(Mender.OPERATOR, text, commands)


def _wait(text: str) -> _Recipe:
    return lambda _: Remedy(Mender.NOBODY, text)


def _enable(case: Case) -> Remedy:
    portal = _of_version(case, "Enabled: Yes", "Save")
    return _customer(f"enable {_version_words(case)}", _attributes(case, "--enabled true"), portal=portal)


def _prolong(case: Case) -> Remedy:
    until = _date(case.now + _YEAR)
    return _customer(
        f"move the expiry date of {_version_words(case)}, or remove it",
        _attributes(case, f"--expires {until}"),
        portal=_of_version(case, "Set expiration date", "Save"),
    )


def _activate(case: Case) -> Remedy:
    return _customer(
        f"move the activation date of {_version_words(case)}, or remove it",
        _attributes(case, f"--not-before {_date(case.now)}"),
        portal=_of_version(case, "Set activation date", "Save"),
    )


def _permit(case: Case) -> Remedy:
    return _customer(
        f"permit wrapKey and unwrapKey on {_version_words(case)}; --ops sets the whole list, so name what else is used",
        _attributes(case, "--ops wrapKey unwrapKey"),
        portal=_of_version(case, "Permitted operations: Wrap Key, Unwrap Key", "Save"),
    )


def _principal(case: Case, option: str) -> str:
    if case.client_id:
        return _option(option, case.client_id)
    return f'{option} "${{PRINCIPAL:?object id of the managed identity of byokd}}"'


def _scope(case: Case) -> str:
    return f'"$(az keyvault show {_vault_name(case)} --query id --output tsv)"'


def _grant(case: Case) -> Remedy:
    scope = f"{_scope(case)}/keys/{quote(case.key.name)}"
    return _customer(
        f'give the identity {_word(case.identity)} of byokd the role "{ROLE}" on the key (a fresh grant takes up to 10 '
        "minutes); a vault with access policies instead of roles wants the second command",
        f"az role assignment create --role {quote(ROLE)} {_principal(case, '--assignee')} --scope {scope}",
        f"az keyvault set-policy {_vault_name(case)} "
        f"{_principal(case, '--spn' if case.client_id else '--object-id')} --key-permissions get wrapKey unwrapKey",
        portal=_of_key(case, "Access control (IAM)", "Add role assignment", ROLE),
    )


def _open_network(case: Case) -> Remedy:
    address = '--ip-address "${ADDRESS:?public address of byokd, as the vault sees it}"'
    if case.address:
        address = _option("--ip-address", case.address)
    by_address = f"az keyvault network-rule add {_vault_name(case)} {address}"
    if case.inner_code == "ForbiddenByConnection":
        return _customer(
            f"public access to the vault {_word(_vault(case))} is closed: give byokd a private endpoint, or open "
            "public access for its address alone",
            f"az keyvault update {_vault_name(case)} --public-network-access Enabled --default-action Deny",
            by_address,
            portal=_place(case, "Networking", "Private endpoint connections"),
        )
    return _customer(
        f"allow the address of byokd in the network rules of the vault {_word(_vault(case))}, or give it a private "
        "endpoint; when the address of byokd has changed, tell all customers",
        by_address,
        portal=_place(case, "Networking", "Firewalls and virtual networks", "Add the address"),
    )


def _recover_key(case: Case) -> Remedy:
    return _customer(
        f"recover the deleted key {_word(case.key.name)} in the vault {_word(_vault(case))}, with all its versions; a "
        "purged key comes back only from a backup (second command), and else is gone with all that it wrapped",
        f"az keyvault key recover {_names(case)}",
        _restoring(case),
        portal=_place(case, "Keys", "Manage deleted keys", _word(case.key.name), "Recover"),
    )


def _restoring(case: Case) -> str:
    backup = '"${BACKUP:?file of the backup of the key}"'
    return f"az keyvault key restore {_option('--vault-name', _vault(case))} --file {backup}"


def _restore_key(case: Case) -> Remedy:
    return _customer(
        f"restore {_version_words(case)} from a backup: the key was deleted and made anew under its name. As long as "
        "the present key has the name a backup cannot be restored: back that one up and delete it first",
        f"az keyvault key list-versions {_names(case)} --output table",
        _restoring(case),
        portal=_place(case, "Keys", "Restore Backup"),
    )


def _restore_odd_key(case: Case) -> Remedy:
    return _customer(
        f"{_version_words(case)} does not unwrap what it wrapped: another key is in its place. Restore it from a "
        "backup; tell whoever runs byokd, for this should not happen",
        f"az keyvault key list-versions {_names(case)} --output table",
        _restoring(case),
        portal=_place(case, "Keys", "Restore Backup"),
    )


def _move_back(case: Case) -> Remedy:
    return _customer(
        f"move the vault {_word(_vault(case))} back to the tenant {_word(case.tenant)}, and give it its permissions "
        "again; where it is to stay, whoever runs byokd gives the account its tenant: `byokd accounts repair ACCOUNT "
        "--tenant TENANT`",
        f"az keyvault update {_vault_name(case)} --set properties.tenantId={quote(case.tenant)}",
        portal=_place(case, "Properties", "Directory ID"),
    )


def _recover_vault(case: Case) -> Remedy:
    return _customer(
        f"recover the deleted vault {_word(_vault(case))}; a purged one is gone, and with it what its keys wrapped",
        f"az keyvault recover {_vault_name(case)}",
        portal=f"{_place(case).rpartition(' > ')[0]} > Manage deleted vaults > {_word(_vault(case))} > Recover",
    )


def _consent(case: Case) -> Remedy:
    client = '--id "${CLIENT_ID:?client id of the application of byokd}"'
    if case.client_id:
        client = _option("--id", case.client_id)
    return _customer(
        f"let the application of byokd into the tenant {_word(case.tenant)} again: create it where it was removed, "
        "enable it where it was disabled; then give it its permissions on the key again",
        f"az login {_option('--tenant', case.tenant)}",
        f"az ad sp create {client}",
        f"az ad sp update {client} --set accountEnabled=true",
        portal=f"{_place(case).partition(' > ')[0]} > Microsoft Entra ID > Enterprise applications > All applications",
    )


def _lessen_load(case: Case) -> Remedy:
    return _customer(
        f"spread or lessen the other load on the vault {_word(_vault(case))}: its limit is shared by all who use it",
        f"az monitor metrics list --metric SaturationShoebox --resource {_scope(case)}",
        portal=_place(case, "Metrics", "Overall Vault Saturation"),
    )


def _see_vault(case: Case) -> Remedy:
    return Remedy(
        Mender.OPERATOR,
        f"see that the vault {_word(_vault(case))} exists, then look at DNS: `byokd doctor` asks for its name",
        ("byokd doctor", f"az keyvault show {_vault_name(case)} --query properties.vaultUri"),
        _place(case, "Overview"),
    )


def _permit_get(case: Case) -> Remedy:
    made = _grant(case)
    return replace(made, text=f"let byokd see new versions, for it lacks the permission get: {made.text}")


def _mend_newest(case: Case) -> Remedy:
    return _customer(
        f"make {_version_words(case)} fit to wrap (enabled, within its dates, RSA of 2048, 3072 or 4096 bits, wrapKey "
        "and unwrapKey permitted), or rotate to a newer one that is",
        _attributes(case, "--enabled true", "--ops wrapKey unwrapKey"),
        f"az keyvault key rotate {_names(case)}",
        portal=_of_version(case, "Enabled: Yes", "Save"),
    )


def _rotate(case: Case) -> Remedy:
    return _customer(
        f"rotate the key {_word(case.key.name)}, or move the expiry date of {_version_words(case)}",
        f"az keyvault key rotate {_names(case)}",
        portal=_of_key(case, "Rotate now"),
    )


def _follow(case: Case) -> Remedy:
    return Remedy(
        Mender.CUSTOMER,
        f"the account is pinned to {_version_words(case)}, and there is a newer one: have the account's key identifier "
        "changed to the newer version, or to one without a version, which follows the newest",
        ('byokd accounts apply --file "${FILE:?accounts file with the new keyIdentifier}"',),
    )


def _protect(case: Case) -> Remedy:
    return _customer(
        f"switch purge protection of the vault {_word(_vault(case))} on: without it a deleted key can be purged for "
        "good",
        f"az keyvault update {_vault_name(case)} --enable-purge-protection true",
        portal=_place(case, "Properties", "Purge protection: Enable"),
    )


def _tag(case: Case, account: AccountId) -> Remedy:
    return _customer(
        f"tag the newest version of the key {_word(case.key.name)} in the vault {_word(_vault(case))} with the name "
        f"{ACCOUNT_TAG} and the account's ARM id as its value ({ACCOUNT_TAG}-2 and so on for more accounts); --tags "
        "sets all tags, so name those that are to stay",
        _attributes(case, "--tags", quote(f"{ACCOUNT_TAG}={account}")),
        portal=_of_key(case, "Tags"),
    )


_REASONS: Mapping[Reason | AccountFault, _Recipe] = {
    Reason.KEY_DISABLED: _enable,
    Reason.KEY_EXPIRED: _prolong,
    Reason.KEY_NOT_YET_VALID: _activate,
    Reason.KEY_OPERATION_NOT_PERMITTED: _permit,
    Reason.ACCESS_DENIED: _grant,
    Reason.NETWORK_BLOCKED: _open_network,
    Reason.KEY_NOT_FOUND: _recover_key,
    Reason.KEY_VERSION_NOT_FOUND: _restore_key,
    Reason.PROBE_MISMATCH: _restore_odd_key,
    Reason.WRONG_TENANT: _move_back,
    Reason.VAULT_NOT_FOUND: _recover_vault,
    Reason.CONSENT_WITHDRAWN: _consent,
    Reason.UNVERIFIED: _operator(
        "byokd must reach the vault again: see since when it did not, and why, and what is amiss here", "byokd doctor"
    ),
    AccountFault.ACCOUNT_KEY_DAMAGED: _operator(
        "this account's own record does not open, while its key does: prove what is stored, then put the account back "
        "from a backup of the database",
        "byokd keys verify",
    ),
    Reason.THROTTLED: _lessen_load,
    Reason.VAULT_ERROR: _wait(
        "wait: the vault answers with an error of its own; see the health of Azure in its region"
    ),
    Reason.TIMED_OUT: _operator("if it lasts, look at the way to the vault", "byokd doctor"),
    Reason.CONNECTION_FAILED: _operator("look at network, firewall and private endpoint", "byokd doctor"),
    Reason.TLS_FAILED: _operator("look for a proxy in between, and at network.ca_file", "byokd doctor"),
    Reason.NAME_NOT_RESOLVED: _see_vault,
    Reason.UNAUTHORIZED: _operator("if it lasts, look at the identity and its tenant", "byokd doctor"),
    Reason.FOREIGN_ANSWER: _operator("look for what sits between byokd and the vault, such as a proxy", "byokd doctor"),
    Reason.UNREADABLE_ANSWER: _wait("wait; if it stays, report it with the evidence"),
    Reason.TOKEN_UNAVAILABLE: _operator(
        "look at the identity and its endpoint: this is our own trouble", "byokd doctor"
    ),
}

_WARNINGS: Mapping[WarningKind, _Recipe] = {
    WarningKind.NEWEST_VERSION_UNUSABLE: _mend_newest,
    WarningKind.NEW_VERSIONS_UNSEEN: _permit_get,
    WarningKind.KEY_EXPIRED: _rotate,
    WarningKind.KEY_NOT_YET_VALID: _activate,
    WarningKind.NEAR_EXPIRY: _rotate,
    WarningKind.PINNED_VERSION_SUPERSEDED: _follow,
    WarningKind.PURGE_PROTECTION_OFF: _protect,
}
