"""What the control API does to a vault, told the way ARM would have done it: operation and resource."""

from typing import Final

from byokd.emulator.principals import stable_id
from byokd.emulator.role_assignments import ASSIGNMENTS, RoleAssignment, is_within
from byokd.emulator.vaults import Vault
from byokd.emulator.vocabulary import Access
from byokd.emulator.world import World

PURGE: Final = "Microsoft.KeyVault/locations/deletedVaults/purge/action"


def vault_written(world: World, vault: Vault) -> None:
    """Made again from its deleted state, or its properties changed."""
    world.witness.resource_changed(vault, "Microsoft.KeyVault/vaults/write", vault.arm_id)


def vault_deleted(world: World, vault: Vault) -> None:
    """Soft-deleted."""
    world.witness.resource_changed(vault, "Microsoft.KeyVault/vaults/delete", vault.arm_id)


def vault_purged(world: World, vault: Vault) -> None:
    """Gone for ever."""
    place = f"/subscriptions/{vault.subscription_id}/providers/Microsoft.KeyVault/locations/{vault.region}"
    world.witness.resource_changed(vault, PURGE, f"{place}/deletedVaults/{vault.name}")


def access_given(world: World, vault: Vault, object_id: str, key: str | None) -> None:
    """A role was assigned, or an access policy written, as the vault goes."""
    _access_changed(world, vault, object_id, key, change="write")


def access_taken(world: World, vault: Vault, object_id: str, key: str | None) -> None:
    """A role assignment was deleted; an access policy is taken away by writing the policies anew."""
    _access_changed(world, vault, object_id, key, change="delete")


def role_changed(world: World, assignment: RoleAssignment, *, change: str) -> None:
    """A role assignment was written or deleted. Of one above a vault nothing tells which vaults it concerns."""
    vault = next((one for one in world.vaults.values() if is_within(assignment.scope, one.resource_id)), None)
    if vault is not None:
        world.witness.resource_changed(vault, f"{ASSIGNMENTS}/{change}", assignment.id)


def _access_changed(world: World, vault: Vault, object_id: str, key: str | None, *, change: str) -> None:
    if vault.access is Access.POLICIES:
        operation = "Microsoft.KeyVault/vaults/accessPolicies/write"
        place = "add" if change == "write" else "remove"
        world.witness.resource_changed(vault, operation, f"{vault.arm_id}/accessPolicies/{place}")
        world.witness.access_policy_changed(vault)
        return
    scope = vault.arm_id if key is None else f"{vault.arm_id}/keys/{key}"
    assignment = stable_id("assignment", vault.name, object_id, key or "")
    world.witness.resource_changed(vault, f"{ASSIGNMENTS}/{change}", f"{scope}/providers/{ASSIGNMENTS}/{assignment}")
