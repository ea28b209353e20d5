"""ARM's role assignments and definitions, at a subscription, a resource group, a vault or a key."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from byokd.emulator import resources
from byokd.emulator.exchange import Answer, Asked
from byokd.emulator.role_assignments import ASSIGNMENTS, RoleAssignment, is_within
from byokd.emulator.roles import (
    DEFINITIONS,
    DELETE_ASSIGNMENTS,
    READ_ASSIGNMENTS,
    READ_DEFINITIONS,
    ROLES,
    WRITE_ASSIGNMENTS,
    Role,
    role_named,
)
from byokd.emulator.vocabulary import Operation
from byokd.emulator.world import World

Error = Callable[[HTTPStatus, str, str], Answer]
_GUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PLACE: Final = re.compile(
    rf"(?P<scope>/subscriptions/{_GUID}(?:/resourcegroups/[^/]+(?:/providers/microsoft\.keyvault/vaults/[^/]+"
    rf"(?:/keys/[^/]+)?)?)?)?/providers/microsoft\.authorization/(?P<kind>roleassignments|roledefinitions)"
    rf"(?:/(?P<name>{_GUID}))?",
    re.IGNORECASE,
)
_VAULT: Final = re.compile(r"/providers/microsoft\.keyvault/vaults/([^/]+)", re.IGNORECASE)
_OF_PRINCIPAL: Final = re.compile(rf"(?:principalId eq '({_GUID})'|assignedTo\('({_GUID})'\))", re.IGNORECASE)
_OF_NAME: Final = re.compile(r"roleName eq '([^']+)'", re.IGNORECASE)
_OPERATIONS: Final = {"PUT": Operation.CREATE, "DELETE": Operation.DELETE}


def place_of(asked: Asked) -> re.Match[str] | None:
    """Where in the tree a request is about roles; None when it is about something else."""
    return _PLACE.fullmatch("/" + "/".join(asked.path))


def operation_of(asked: Asked, place: re.Match[str]) -> Operation:
    """What such a request asks for."""
    if asked.method == "GET":
        return Operation.GET if place["name"] else Operation.LIST
    named = place["name"] and place["kind"].lower() == "roleassignments"
    return _OPERATIONS.get(asked.method, Operation.UNKNOWN) if named else Operation.UNKNOWN


class ArmRoles:
    """Answers for whoever the token says that it is, by the roles that this one has itself."""

    def __init__(self, world: World, headers: Callable[[], dict[str, str]], error: Error) -> None:
        self._world = world
        self._headers = headers
        self._error = error

    def answer(self, asked: Asked, place: re.Match[str], claims: Mapping[str, object]) -> Answer:
        """The answer, after the caller's own roles were looked at."""
        scope, operation, is_assignment = place["scope"] or "", operation_of(asked, place), _is_assignment(place)
        needed = {Operation.CREATE: WRITE_ASSIGNMENTS, Operation.DELETE: DELETE_ASSIGNMENTS}.get(
            operation, READ_ASSIGNMENTS if is_assignment else READ_DEFINITIONS
        )
        if not self._acts(claims, needed, scope):
            message = f"The client does not have authorization to perform action '{needed}' over scope '{scope}'."
            return self._error(HTTPStatus.FORBIDDEN, "AuthorizationFailed", message)
        if not self._is_there(scope):
            return self._error(HTTPStatus.NOT_FOUND, "ResourceNotFound", f"The Resource '{scope}' was not found.")
        if not is_assignment:
            return self._define(asked, scope, place["name"])
        handler = {Operation.CREATE: self._put, Operation.DELETE: self._delete, Operation.GET: self._get}.get(operation)
        return self._list(asked, scope) if handler is None else handler(asked, scope, str(place["name"]).lower())

    def _acts(self, claims: Mapping[str, object], action: str, scope: str) -> bool:
        world = self._world
        vault = next((one for one in world.vaults.values() if is_within(scope, one.resource_id)), None)
        if vault is not None and claims["iss"] != f"https://sts.windows.net/{vault.tenant_id}/":
            return False
        if not scope:
            return action == READ_DEFINITIONS
        return world.roles.acts(str(claims["oid"]), action, scope, world.clock())

    def _is_there(self, scope: str) -> bool:
        """Whether a scope that is a vault, or a key in one, is that of a vault that is there."""
        found = _VAULT.search(scope)
        vault = None if found is None else self._world.vaults.get(found[1].lower())
        return found is None or (vault is not None and vault.deleted is None and is_within(scope, vault.resource_id))

    def _put(self, asked: Asked, scope: str, name: str) -> Answer:
        wanted = _properties(asked)
        role_id = str(wanted.get("roleDefinitionId", "")).rpartition("/")[2].lower()
        role = next((one for one in ROLES if one.id == role_id), None)
        object_id = str(wanted.get("principalId", "")).lower()
        if role is None:
            message = f"The specified role definition with ID '{wanted.get('roleDefinitionId')}' does not exist."
            return self._error(HTTPStatus.NOT_FOUND, "RoleDefinitionDoesNotExist", message)
        known = {one for principal in self._world.principals.values() for one in principal.object_ids.values()}
        if object_id not in known and "principalType" not in wanted:
            message = f"Principal {object_id} does not exist in the directory."
            return self._error(HTTPStatus.BAD_REQUEST, "PrincipalNotFound", message)
        there, like = self._world.roles.get(scope, name), self._world.roles.like(scope, object_id, role)
        if there is not None and there is not like:
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            return self._error(HTTPStatus.BAD_REQUEST, "RoleAssignmentUpdateNotPermitted", message)
        if like is not None and like is not there:
            return self._error(HTTPStatus.CONFLICT, "RoleAssignmentExists", "The role assignment already exists.")
        description = wanted.get("description")
        made = there or self._world.assign(scope, object_id, role, name=name)
        if there is None:
            resources.role_changed(self._world, made, change="write")
        made.description = description if isinstance(description, str) else None
        return Answer(HTTPStatus.OK if there else HTTPStatus.CREATED, document(made), self._headers())

    def _get(self, asked: Asked, scope: str, name: str) -> Answer:  # noqa: ARG002 - as the others
        found = self._world.roles.get(scope, name)
        if found is None:
            message = f"The role assignment '{name}' is not found."
            return self._error(HTTPStatus.NOT_FOUND, "RoleAssignmentNotFound", message)
        return Answer(HTTPStatus.OK, document(found), self._headers())

    def _delete(self, asked: Asked, scope: str, name: str) -> Answer:  # noqa: ARG002 - as the others
        found = self._world.roles.get(scope, name)
        if found is None:
            return Answer(HTTPStatus.NO_CONTENT, None, self._headers())
        self._world.unassign(found)
        resources.role_changed(self._world, found, change="delete")
        return Answer(HTTPStatus.OK, document(found), self._headers())

    def _list(self, asked: Asked, scope: str) -> Answer:
        """What holds at the scope, above it and below; `atScope()` leaves out what is below."""
        told = asked.query.get("$filter", "")
        conditions = [word for word in re.split(r"\s+and\s+", told, flags=re.IGNORECASE) if word]
        of_whom = [match for word in conditions if (match := _OF_PRINCIPAL.fullmatch(word))]
        at_scope = [word for word in conditions if word.lower() == "atscope()"]
        if len(of_whom) + len(at_scope) != len(conditions):
            return self._error(HTTPStatus.BAD_REQUEST, "BadRequestFormat", "The filter is not understood here.")
        found = [one for one in self._world.roles if one.reaches(scope) or is_within(one.scope, scope)]
        found = [one for one in found if one.reaches(scope)] if at_scope else found
        for match in of_whom:
            found = [one for one in found if one.object_id == (match[1] or match[2]).lower()]
        return Answer(HTTPStatus.OK, {"value": [document(one) for one in found]}, self._headers())

    def _define(self, asked: Asked, scope: str, name: str | None) -> Answer:
        if name is not None:
            role = role_named(name)
            if role is None:
                message = f"The specified role definition with ID '{name}' does not exist."
                return self._error(HTTPStatus.NOT_FOUND, "RoleDefinitionDoesNotExist", message)
            return Answer(HTTPStatus.OK, definition(role, scope), self._headers())
        named = _OF_NAME.fullmatch(asked.query.get("$filter", ""))
        if "$filter" in asked.query and named is None:
            return self._error(HTTPStatus.BAD_REQUEST, "BadRequestFormat", "The filter is not understood here.")
        found = [role for role in ROLES if named is None or role.name.lower() == named[1].lower()]
        return Answer(HTTPStatus.OK, {"value": [definition(role, scope) for role in found]}, self._headers())


def document(assignment: RoleAssignment) -> dict[str, object]:
    """A role assignment as ARM shows it."""
    created = datetime.fromtimestamp(assignment.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
    properties = {
        "roleDefinitionId": definition(assignment.role, assignment.scope)["id"],
        "principalId": assignment.object_id,
        "principalType": "ServicePrincipal",
        "scope": assignment.scope,
        "condition": None,
        "conditionVersion": None,
        "createdOn": created,
        "updatedOn": created,
        "createdBy": None,
        "updatedBy": None,
        "delegatedManagedIdentityResourceId": None,
        "description": assignment.description,
    }
    return {"properties": properties, "id": assignment.id, "type": ASSIGNMENTS, "name": assignment.name}


def definition(role: Role, scope: str) -> dict[str, object]:
    """A role definition as ARM shows it, below the subscription of a scope."""
    place = "/".join(scope.split("/")[:3])
    allowed = {
        "actions": list(role.actions),
        "notActions": list(role.not_actions),
        "dataActions": list(role.data_actions),
        "notDataActions": [],
    }
    properties = {
        "roleName": role.name,
        "type": "BuiltInRole",
        "description": role.description,
        "assignableScopes": ["/"],
        "permissions": [allowed],
    }
    return {
        "properties": properties,
        "id": f"{place}/providers/{DEFINITIONS}/{role.id}",
        "type": DEFINITIONS,
        "name": role.id,
    }


def _is_assignment(place: re.Match[str]) -> bool:
    return place["kind"].lower() == "roleassignments"


def _properties(asked: Asked) -> Mapping[str, object]:
    try:
        body = json.loads(asked.body or b"{}")
    except ValueError:
        return {}
    properties = body.get("properties", body) if isinstance(body, dict) else {}
    return properties if isinstance(properties, dict) else {}
