"""The part of the control client that is about role assignments."""

from typing import TYPE_CHECKING, Any, Unpack, cast
from urllib.parse import quote

from byokd.emulator.role_documents import RoleAssignmentState, RoleOptions


class RoleCalls:
    """What `ControlClient` can do about role assignments. Every method raises `ControlError`."""

    async def assign_role(self, vault: str, role: str, **options: Unpack[RoleOptions]) -> RoleAssignmentState:
        """Assign a role, by name or id, at a vault, one of its keys, its resource group or its subscription."""
        body = {"role": role, **options}
        return cast("RoleAssignmentState", await self._send("POST", f"vaults/{quote(vault)}/roles", body))

    async def remove_role(self, vault: str, role: str, **options: Unpack[RoleOptions]) -> RoleAssignmentState:
        """Delete the role assignment that `assign_role` with the same arguments made."""
        body = {"role": role, **options}
        return cast("RoleAssignmentState", await self._send("POST", f"vaults/{quote(vault)}/roles/remove", body))

    async def roles(self, vault: str) -> list[RoleAssignmentState]:
        """The role assignments that reach a vault or one of its keys, wherever they were made."""
        return cast("list[RoleAssignmentState]", await self._send("GET", f"vaults/{quote(vault)}/roles"))

    if TYPE_CHECKING:

        async def _send(self, method: str, path: str, body: object = None) -> Any: ...  # noqa: ANN401
