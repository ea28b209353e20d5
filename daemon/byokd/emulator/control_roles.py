"""The control API for role assignments: what an administrator would do at ARM, without a token of one."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from byokd.emulator import resources
from byokd.emulator.commands import Command, KeyName
from byokd.emulator.control_requests import PREFIX, read_command
from byokd.emulator.refusals import WorldError, nothing_named
from byokd.emulator.role_assignments import RoleAssignment, is_within
from byokd.emulator.role_documents import RoleAssignmentState
from byokd.emulator.roles import Role, role_named
from byokd.emulator.vaults import Vault
from byokd.emulator.vocabulary import Scope
from byokd.emulator.world import World


class AssignRole(Command):
    """A role, by name or id, at a vault or above it, or at one key; vaults go by it after the delay."""

    role: str
    principal: str = "system"
    at: Scope = Scope.VAULT
    key: KeyName | None = None
    delay_seconds: Annotated[float | None, Field(ge=0)] = None


class RoleControl:
    """Handlers over the role assignments of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """All routes of this part."""
        roles = f"{PREFIX}/vaults/{{vault}}/roles"
        return [
            web.get(roles, self.list),
            web.post(roles, self.assign),
            web.post(f"{roles}/remove", self.remove),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All that reach the vault or one of its keys."""
        vault = self._named(request)
        found = [one for one in self._world.roles if one.reaches(vault.arm_id) or is_within(one.scope, vault.arm_id)]
        return web.json_response([self._state(one) for one in found])

    async def assign(self, request: web.Request) -> web.Response:
        """Assign a role, as `az role assignment create` does; one that is there already stays as it is."""
        vault, wanted = self._named(request), await read_command(request, AssignRole)
        scope, object_id, role = self._wanted(vault, wanted)
        made = self._world.roles.like(scope, object_id, role)
        if made is None:
            made = self._world.assign(scope, object_id, role, delay=wanted.delay_seconds)
            resources.role_changed(self._world, made, change="write")
        return web.json_response(self._state(made))

    async def remove(self, request: web.Request) -> web.Response:
        """Delete a role assignment."""
        vault, wanted = self._named(request), await read_command(request, AssignRole)
        scope, object_id, role = self._wanted(vault, wanted)
        found = self._world.roles.like(scope, object_id, role)
        if found is None:
            raise WorldError(
                f"{wanted.principal!r} does not have the role {role.name} at {scope}",
                f"`byokd emulator role list {vault.name}` shows who has which",
            )
        self._world.unassign(found, delay=wanted.delay_seconds)
        resources.role_changed(self._world, found, change="delete")
        return web.json_response(self._state(found))

    def _named(self, request: web.Request) -> Vault:
        return self._world.vault(request.match_info["vault"])

    def _wanted(self, vault: Vault, wanted: AssignRole) -> tuple[str, str, Role]:
        role = role_named(wanted.role)
        if role is None:
            raise nothing_named("role", wanted.role, known="docs/emulator.md")
        if wanted.key is not None and wanted.at is not Scope.VAULT:
            raise WorldError("a key is within its vault", "leave the key out, or take the vault as the scope")
        parts = vault.arm_id.split("/")
        scope = "/".join(parts[: {Scope.SUBSCRIPTION: 3, Scope.GROUP: 5, Scope.VAULT: len(parts)}[wanted.at]])
        scope += "" if wanted.key is None else f"/keys/{wanted.key}"
        return scope, self._world.object_id(wanted.principal, vault), role

    def _state(self, one: RoleAssignment) -> RoleAssignmentState:
        people = self._world.principals.values()
        return {
            "id": one.id,
            "scope": one.scope,
            "role": one.role.name,
            "principal": next((who.name for who in people if one.object_id in who.object_ids.values()), None),
            "object_id": one.object_id,
            "from": one.start,
            "until": one.end,
        }
