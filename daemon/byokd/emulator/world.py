"""The state of Azure in miniature: tenants, principals, vaults. No I/O; the clock is handed in."""

import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from byokd.emulator.calls import Calls
from byokd.emulator.faults import Faults
from byokd.emulator.happenings import Nobody, Witness
from byokd.emulator.material import Material
from byokd.emulator.principals import Credentials, Principal, stable_id
from byokd.emulator.refusals import WorldError, nothing_named
from byokd.emulator.role_assignments import RoleAssignment, RoleAssignments
from byokd.emulator.roles import Role
from byokd.emulator.vaults import Attributes, KeyVersion, Vault
from byokd.emulator.vocabulary import Access, Dialect, KeyType, Network, Permission, PrincipalKind

HOME_TENANT: Final = stable_id("tenant", "home")
"""The tenant of everything that names none."""
SUBSCRIPTION: Final = stable_id("subscription", "home")
VAULT_SUFFIX: Final = ".vault.azure.net"


@dataclass(slots=True)
class World:
    """Everything that exists. Methods raise `WorldError` for what cannot be done.

    A tenant that is named for the first time comes into being; one that was removed stays away.
    """

    clock: Callable[[], float] = time.time
    application_token_seconds: int = 3_599
    identity_token_seconds: int = 86_399
    role_delay_seconds: float = 0.0
    tenants: dict[str, bool] = field(default_factory=dict)
    principals: dict[str, Principal] = field(default_factory=dict)
    vaults: dict[str, Vault] = field(default_factory=dict)
    roles: RoleAssignments = field(default_factory=RoleAssignments)
    dialects: set[Dialect] = field(default_factory=set)
    faults: Faults = field(init=False)
    calls: Calls = field(default_factory=Calls)
    witness: Witness = field(default_factory=Nobody)
    tokens_issued: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    last_token: int = 0

    def __post_init__(self) -> None:
        self.faults = Faults(self.clock)
        self.add_principal("system", PrincipalKind.SYSTEM_ASSIGNED)

    def vault(self, name: str) -> Vault:
        """The vault of that name, deleted or not."""
        try:
            return self.vaults[name.lower()]
        except KeyError:
            raise nothing_named("vault", name, known="`byokd emulator state`") from None

    def vault_at(self, host: str) -> Vault | None:
        """The vault that a host name leads to; None when the name would not resolve."""
        name, suffix = host[: -len(VAULT_SUFFIX)], host[-len(VAULT_SUFFIX) :]
        vault = self.vaults.get(name) if suffix == VAULT_SUFFIX else None
        return vault if vault is not None and vault.deleted is None else None

    def principal(self, name: str) -> Principal:
        """The identity or application of that name."""
        try:
            return self.principals[name]
        except KeyError:
            raise nothing_named("identity or application", name, known="`byokd emulator state`") from None

    def tenant(self, tenant_id: str | None) -> str:
        """The tenant to use, made when it is new."""
        if tenant_id is None:
            tenant_id = HOME_TENANT
        if not self.tenants.setdefault(tenant_id.lower(), True):
            raise WorldError(f"the tenant {tenant_id} was removed", "use another one, or bring it back first")
        return tenant_id.lower()

    def set_tenant(self, tenant_id: str, *, present: bool) -> None:
        """Remove a tenant, as if its owner had closed it, or bring it back."""
        self.tenants[tenant_id.lower()] = present

    def add_vault(
        self, name: str, *, tenant_id: str | None, region: str, soft_delete_days: int, purge_protection: bool
    ) -> Vault:
        """Make a vault; WorldError when the name is taken, by a deleted vault too."""
        if name.lower() in self.vaults:
            raise WorldError(f"the vault name {name!r} is taken", "names are unique in the world; recover or purge it")
        vault = Vault(
            name=name.lower(),
            tenant_id=self.tenant(tenant_id),
            region=region,
            subscription_id=SUBSCRIPTION,
            resource_group="emulator",
            soft_delete_days=soft_delete_days,
            purge_protection=purge_protection,
        )
        self.vaults[vault.name] = vault
        return vault

    def delete_vault(self, name: str) -> Vault:
        """Soft-delete a vault, or without soft-delete drop it: its name no longer leads anywhere."""
        vault = self.vault(name)
        if vault.deleted is not None:
            raise WorldError(f"the vault {name!r} is deleted already", "recover or purge it")
        vault.deleted = int(self.clock())
        if not vault.soft_delete:
            self._drop_vault(vault)
        return vault

    def recover_vault(self, name: str) -> Vault:
        """Bring a deleted vault back with all its keys."""
        vault = self.vault(name)
        if vault.deleted is None:
            raise WorldError(f"the vault {name!r} is not deleted", "there is nothing to recover")
        vault.deleted = None
        return vault

    def purge_vault(self, name: str) -> None:
        """Drop a deleted vault for ever; its name can be used again."""
        vault = self.vault(name)
        if vault.deleted is None or vault.purge_protection:
            raise WorldError(f"the vault {name!r} cannot be purged", "it must be deleted, without purge protection")
        self._drop_vault(vault)

    def _drop_vault(self, vault: Vault) -> None:
        del self.vaults[vault.name]
        self.roles.drop_within(vault.resource_id)

    def add_version(
        self, vault: Vault, name: str, *, kty: KeyType, material: Material, attributes: Attributes
    ) -> KeyVersion:
        """Make a key, or a new version of it, and say so; Refusal when a deleted key holds the name."""
        version = vault.add_version(name, kty=kty, material=material, attributes=attributes, now=self.clock())
        self.witness.version_created(vault, vault.keys[name.lower()], version)
        return version

    def set_network(self, name: str, network: Network) -> Vault:
        """Open or close the vault to our address."""
        vault = self.vault(name)
        vault.network = network
        return vault

    def add_principal(
        self,
        name: str,
        kind: PrincipalKind,
        *,
        tenant_id: str | None = None,
        client_id: str | None = None,
        credentials: Credentials | None = None,
    ) -> Principal:
        """Make an identity or application. Its ids depend on its name alone; there is one system identity at most."""
        if name in self.principals:
            raise WorldError(f"the principal name {name!r} is taken", "delete it first, or choose another name")
        if kind is PrincipalKind.SYSTEM_ASSIGNED and any(one.kind is kind for one in self.principals.values()):
            raise WorldError("there is a system-assigned identity already", "make a user-assigned one")
        home = self.tenant(tenant_id)
        group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/emulator"
        resource = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        self.principals[name] = Principal(
            name=name,
            kind=kind,
            tenant_id=home,
            client_id=(client_id or stable_id("client", name)).lower(),
            object_ids={home: stable_id("object", name, home)},
            resource_id=resource if kind is PrincipalKind.USER_ASSIGNED else None,
            credentials=credentials or Credentials(),
        )
        return self.principals[name]

    def attach(self, name: str, *, attached: bool) -> Principal:
        """Give a managed identity to the machine, or take it away; it stays what it is, with its grants."""
        principal = self.principal(name)
        if principal.kind is PrincipalKind.APPLICATION:
            raise WorldError(f"{name!r} is an application", "only managed identities belong to a machine")
        principal.attached = attached
        return principal

    def remove_principal(self, name: str) -> None:
        """Take an identity or application away; its grants stay behind, as they do in Azure."""
        del self.principals[self.principal(name).name]

    def consent(self, name: str, tenant_id: str, *, given: bool) -> Principal:
        """Let an application into another tenant, or throw it out."""
        principal = self.principal(name)
        if principal.kind is not PrincipalKind.APPLICATION:
            raise WorldError(f"{name!r} is a managed identity", "only applications live in more than one tenant")
        tenant_id = self.tenant(tenant_id)
        if given:
            principal.object_ids[tenant_id] = stable_id("object", name, tenant_id)
        else:
            principal.object_ids.pop(tenant_id, None)
        return principal

    def object_id(self, principal: str, vault: Vault) -> str:
        """The object id of a principal (by name, or an object id itself) in the tenant of a vault."""
        if principal not in self.principals and _is_guid(principal):
            return principal.lower()
        known = self.principal(principal)
        try:
            return known.object_ids[vault.tenant_id]
        except KeyError:
            raise WorldError(
                f"{principal!r} does not exist in the tenant of the vault {vault.name!r}",
                "make it in that tenant, or let the application in with `consent`",
            ) from None

    def grant(
        self, vault: str, principal: str, permissions: tuple[Permission, ...], *, key: str | None, delay: float
    ) -> Vault:
        """Give permissions, effective after `delay` seconds."""
        place = self.vault(vault)
        if key is not None and place.access is Access.POLICIES:
            raise WorldError(
                f"the vault {place.name!r} goes by access policies, and those are for all keys of a vault",
                "leave the key out, or have it go by roles: byokd emulator vault access",
            )
        place.prune(self.clock())
        place.grant(self.object_id(principal, place), permissions, key, self.clock() + delay)
        return place

    def revoke(
        self, vault: str, principal: str, permissions: tuple[Permission, ...], *, key: str | None, delay: float
    ) -> Vault:
        """Take permissions away, effective after `delay` seconds; WorldError when there were none."""
        place = self.vault(vault)
        place.prune(self.clock())
        if not place.revoke(self.object_id(principal, place), permissions, key, self.clock() + delay):
            raise WorldError(
                f"{principal!r} has none of these permissions in {place.name!r}", "see the grants in state"
            )
        return place

    def assign(
        self, scope: str, object_id: str, role: Role, *, name: str | None = None, delay: float | None = None
    ) -> RoleAssignment:
        """Assign a role; vaults and ARM go by it after `delay` seconds, or the world's own delay."""
        now = self.clock()
        start = now + (self.role_delay_seconds if delay is None else delay)
        made = RoleAssignment(name or stable_id("role", scope, object_id, role.id), scope, object_id, role, now, start)
        self.roles.add(made, now=now)
        return made

    def unassign(self, assignment: RoleAssignment, *, delay: float | None = None) -> None:
        """Delete a role assignment; vaults and ARM go by it for as long as `assign` lets them wait."""
        self.roles.delete(assignment, end=self.clock() + (self.role_delay_seconds if delay is None else delay))

    def allows(self, vault: Vault, object_id: str, permission: Permission, key: str | None) -> bool:
        """Whether a principal may do something in a vault now, by a grant or, where it goes by roles, by a role."""
        now = self.clock()
        if vault.allows(object_id, permission, key, now):
            return True
        resource = vault.resource_id + (f"/keys/{key}" if key else "")
        return vault.access is Access.ROLES and self.roles.permits(object_id, permission, resource, now)

    def next_token(self) -> int:
        """The number of the token issued now: a vault can refuse all older ones."""
        self.last_token = next(self.tokens_issued)
        return self.last_token


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
