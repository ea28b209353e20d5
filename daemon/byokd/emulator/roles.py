"""The built-in roles that matter to vaults and their keys, as Azure defines them, and what a role allows."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from byokd.emulator.vocabulary import RBAC_ACTION, Permission

READ_VAULT: Final = "Microsoft.KeyVault/vaults/read"
READ_ASSIGNMENTS: Final = "Microsoft.Authorization/roleAssignments/read"
READ_DEFINITIONS: Final = "Microsoft.Authorization/roleDefinitions/read"
WRITE_ASSIGNMENTS: Final = "Microsoft.Authorization/roleAssignments/write"
DELETE_ASSIGNMENTS: Final = "Microsoft.Authorization/roleAssignments/delete"
DEFINITIONS: Final = "Microsoft.Authorization/roleDefinitions"

_KEYS: Final = "Microsoft.KeyVault/vaults/keys"
_OF_VAULT_ROLES: Final = (
    "Microsoft.Authorization/*/read",
    "Microsoft.Insights/alertRules/*",
    "Microsoft.Resources/deployments/*",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Support/*",
    "Microsoft.KeyVault/checkNameAvailability/read",
    "Microsoft.KeyVault/deletedVaults/read",
    "Microsoft.KeyVault/locations/*/read",
    "Microsoft.KeyVault/vaults/*/read",
    "Microsoft.KeyVault/operations/read",
)
"""What *Key Vault Reader* and *Key Vault Crypto Officer* may do at ARM."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role definition. `actions` are those of ARM, `data_actions` those of the vaults themselves."""

    id: str
    name: str
    description: str
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()

    def acts(self, action: str) -> bool:
        """Whether it allows something at ARM."""
        return _any(self.actions, action) and not _any(self.not_actions, action)

    def permits(self, permission: Permission) -> bool:
        """Whether it allows something with the keys of vaults that go by roles."""
        return _any(self.data_actions, RBAC_ACTION[permission])


ROLES: Final = (
    Role(
        "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
        "Owner",
        "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
        actions=("*",),
    ),
    Role(
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC.",
        actions=("*",),
        not_actions=(
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ),
    ),
    Role("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", "View all resources.", actions=("*/read",)),
    Role(
        "21090545-7ca7-4776-b22c-e363652d74d2",
        "Key Vault Reader",
        "Read metadata of key vaults and its certificates, keys, and secrets.",
        actions=_OF_VAULT_ROLES,
        data_actions=("Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"),
    ),
    Role(
        "e147488a-f6f5-4113-8e2d-b22465e65bf6",
        "Key Vault Crypto Service Encryption User",
        "Read metadata of keys and perform wrap/unwrap operations.",
        actions=(
            "Microsoft.EventGrid/eventSubscriptions/write",
            "Microsoft.EventGrid/eventSubscriptions/read",
            "Microsoft.EventGrid/eventSubscriptions/delete",
        ),
        data_actions=(f"{_KEYS}/read", f"{_KEYS}/wrap/action", f"{_KEYS}/unwrap/action"),
    ),
    Role(
        "12338af0-0e69-4776-bea7-57ae8d297424",
        "Key Vault Crypto User",
        "Perform cryptographic operations using keys.",
        data_actions=(
            f"{_KEYS}/read",
            *(
                f"{_KEYS}/{word}/action"
                for word in ("update", "backup", "encrypt", "decrypt", "wrap", "unwrap", "sign", "verify")
            ),
        ),
    ),
    Role(
        "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
        "Key Vault Crypto Officer",
        "Perform any action on the keys of a key vault, except manage permissions.",
        actions=_OF_VAULT_ROLES,
        data_actions=(f"{_KEYS}/*", "Microsoft.KeyVault/vaults/keyrotationpolicies/*"),
    ),
)
"""Ids, actions and data actions: documentation (Azure built-in roles). What concerns neither vaults nor roles is left
out of Contributor's exceptions."""

READER: Final = next(role for role in ROLES if role.name == "Reader")


def role_named(word: str) -> Role | None:
    """The role of that name or id, in any case."""
    return next((role for role in ROLES if word.lower() in (role.name.lower(), role.id)), None)


def _any(patterns: tuple[str, ...], action: str) -> bool:
    return any(_pattern(one).fullmatch(action) is not None for one in patterns)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """`*` is anything, and between two slashes nothing too: `vaults/*/read` is the reading of vaults as well."""
    return re.compile(re.escape(text).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*"), re.IGNORECASE)
