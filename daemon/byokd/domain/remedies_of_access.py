"""What lets byokd at a key again: roles and policies, networks, tenants, consent; and the vault itself."""

from dataclasses import replace
from shlex import quote

from byokd.domain.refusals import ROLE
from byokd.domain.remedy_forms import Case, Mender, Remedy, customer, of_key, option, place, vault, vault_name, word

_BY_ROLES = frozenset({"ForbiddenByRbac"})
_BY_POLICIES = frozenset({"AccessDenied", "ForbiddenByPolicy"})
"""Inner codes of refusals by vaults that go by roles, and by access policies (field reports)."""


def _principal(case: Case, by: str) -> str:
    if case.client_id:
        return option(by, case.client_id)
    return f'{by} "${{PRINCIPAL:?object id of the managed identity of byokd}}"'


def _scope(case: Case) -> str:
    return f'"$(az keyvault show {vault_name(case)} --query id --output tsv)"'


def grant(case: Case) -> Remedy:
    """Of `AccessDenied`: by a role or by an access policy, as the refusal tells; by both where it does not."""
    if case.inner_code in _BY_ROLES:
        return _by_role(case)
    if case.inner_code in _BY_POLICIES:
        return _by_policy(case)
    role, policy = _by_role(case), _by_policy(case)
    text = f"{role.text}; a vault with access policies instead of roles wants the second command"
    return replace(role, text=text, commands=(*role.commands, *policy.commands))


def _by_role(case: Case) -> Remedy:
    scope = f"{_scope(case)}/keys/{quote(case.key.name)}"
    return customer(
        f'give the identity {word(case.identity)} of byokd the role "{ROLE}" on the key (a fresh grant takes up to 10 '
        "minutes)",
        f"az role assignment create --role {quote(ROLE)} {_principal(case, '--assignee')} --scope {scope}",
        portal=of_key(case, "Access control (IAM)", "Add role assignment", ROLE),
    )


def _by_policy(case: Case) -> Remedy:
    return customer(
        f"give the identity {word(case.identity)} of byokd an access policy of the vault {word(vault(case))}, with the "
        "key permissions get, wrapKey and unwrapKey",
        f"az keyvault set-policy {vault_name(case)} "
        f"{_principal(case, '--spn' if case.client_id else '--object-id')} --key-permissions get wrapKey unwrapKey",
        portal=place(case, "Access policies", "Create", "Key permissions: Get, Unwrap Key, Wrap Key"),
    )


def open_network(case: Case) -> Remedy:
    """Of `NetworkBlocked`."""
    address = '--ip-address "${ADDRESS:?public address of byokd, as the vault sees it}"'
    if case.address:
        address = option("--ip-address", case.address)
    by_address = f"az keyvault network-rule add {vault_name(case)} {address}"
    if case.inner_code == "ForbiddenByConnection":
        return customer(
            f"public access to the vault {word(vault(case))} is closed: give byokd a private endpoint, or open "
            "public access for its address alone",
            f"az keyvault update {vault_name(case)} --public-network-access Enabled --default-action Deny",
            by_address,
            portal=place(case, "Networking", "Private endpoint connections"),
        )
    return customer(
        f"allow the address of byokd in the network rules of the vault {word(vault(case))}, or give it a private "
        "endpoint; when the address of byokd has changed, tell all customers",
        by_address,
        portal=place(case, "Networking", "Firewalls and virtual networks", "Add the address"),
    )


def move_back(case: Case) -> Remedy:
    """Of `WrongTenant`."""
    return customer(
        f"move the vault {word(vault(case))} back to the tenant {word(case.tenant)}, and give it its permissions "
        "again; where it is to stay, whoever runs byokd gives the account its tenant: `byokd accounts repair ACCOUNT "
        "--tenant TENANT`",
        f"az keyvault update {vault_name(case)} --set properties.tenantId={quote(case.tenant)}",
        portal=place(case, "Properties", "Directory ID"),
    )


def recover_vault(case: Case) -> Remedy:
    """Of `VaultNotFound`."""
    return customer(
        f"recover the deleted vault {word(vault(case))}; a purged one is gone, and with it what its keys wrapped",
        f"az keyvault recover {vault_name(case)}",
        portal=f"{place(case).rpartition(' > ')[0]} > Manage deleted vaults > {word(vault(case))} > Recover",
    )


def consent(case: Case) -> Remedy:
    """Of `ConsentWithdrawn`."""
    client = '--id "${CLIENT_ID:?client id of the application of byokd}"'
    if case.client_id:
        client = option("--id", case.client_id)
    return customer(
        f"let the application of byokd into the tenant {word(case.tenant)} again: create it where it was removed, "
        "enable it where it was disabled; then give it its permissions on the key again",
        f"az login {option('--tenant', case.tenant)}",
        f"az ad sp create {client}",
        f"az ad sp update {client} --set accountEnabled=true",
        portal=f"{place(case).partition(' > ')[0]} > Microsoft Entra ID > Enterprise applications > All applications",
    )


def lessen_load(case: Case) -> Remedy:
    """Of `Throttled`."""
    return customer(
        f"spread or lessen the other load on the vault {word(vault(case))}: its limit is shared by all who use it",
        f"az monitor metrics list --metric SaturationShoebox --resource {_scope(case)}",
        portal=place(case, "Metrics", "Overall Vault Saturation"),
    )


def see_vault(case: Case) -> Remedy:
    """Of `NameNotResolved`."""
    return Remedy(
        Mender.OPERATOR,
        f"see that the vault {word(vault(case))} exists, then look at DNS: `byokd doctor` asks for its name",
        ("byokd doctor", f"az keyvault show {vault_name(case)} --query properties.vaultUri"),
        place(case, "Overview"),
    )


def permit_get(case: Case) -> Remedy:
    """Of `NewVersionsUnseen`."""
    made = grant(case)
    return replace(made, text=f"let byokd see new versions, for it lacks the permission get: {made.text}")


def protect(case: Case) -> Remedy:
    """Of `PurgeProtectionOff`."""
    return customer(
        f"switch purge protection of the vault {word(vault(case))} on: without it a deleted key can be purged for good",
        f"az keyvault update {vault_name(case)} --enable-purge-protection true",
        portal=place(case, "Properties", "Purge protection: Enable"),
    )


def keep_deleted(case: Case) -> Remedy:
    """Of `SoftDeleteOff`."""
    return customer(
        f"switch soft-delete of the vault {word(vault(case))} on: without it what is deleted is gone at once",
        f"az keyvault update {vault_name(case)} --set properties.enableSoftDelete=true",
        portal=place(case, "Properties"),
    )


def bring_together(case: Case) -> Remedy:
    """Of `VaultElsewhere`."""
    return customer(
        f"let the account and the vault {word(vault(case))} be in one region: have the account use a key in a vault "
        "of its own region, or its location corrected where that is written wrongly",
        f"az keyvault show {vault_name(case)} --query location",
        'byokd accounts apply --file "${FILE:?accounts file with the new keyIdentifier or location}"',
        portal=place(case, "Overview"),
    )
