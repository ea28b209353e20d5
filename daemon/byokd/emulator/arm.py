"""Azure Resource Manager, as far as vaults go: finding one by its name, reading it, and who has which role there."""

import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from byokd.emulator.arm_roles import ArmRoles, operation_of, place_of
from byokd.emulator.exchange import Answer, Asked
from byokd.emulator.faults import Fault
from byokd.emulator.roles import READ_VAULT
from byokd.emulator.tokens import LOGIN_HOST, TokenAuthority
from byokd.emulator.vaults import Vault
from byokd.emulator.vocabulary import ARM, Access, FaultKind, Operation
from byokd.emulator.world import World

ARM_HOST: Final = "management.azure.com"
_AUDIENCES: Final = frozenset({"https://management.azure.com", "https://management.core.windows.net"})
_NAMED: Final = re.compile(r"resourceType eq 'Microsoft\.KeyVault/vaults' and name eq '([^']+)'", re.IGNORECASE)
_OF_LIST: Final = ("subscriptions", "", "resources")
_OF_VAULT: Final = ("subscriptions", "", "resourcegroups", "", "providers", "microsoft.keyvault", "vaults", "")
_MISFORTUNES: Final = {
    FaultKind.THROTTLE: ("SubscriptionRequestsThrottled", "Number of requests for subscription exceeded the limit."),
    FaultKind.SERVER_ERROR: ("InternalServerError", "The server encountered an internal error."),
    FaultKind.UNAVAILABLE: ("ServiceUnavailable", "The service is unavailable."),
}


class ArmService:
    """What a token's bearer may read of vaults, by its roles, in the tenant that the token is of."""

    target = ARM

    def __init__(self, world: World, authority: TokenAuthority) -> None:
        self._world = world
        self._authority = authority
        self._roles = ArmRoles(world, _headers, _error)

    def operation(self, asked: Asked) -> Operation:
        """A list of resources, one vault, or something about roles."""
        if (place := place_of(asked)) is not None:
            return operation_of(asked, place)
        if asked.method == "GET" and _has_shape(asked, _OF_LIST):
            return Operation.LIST
        return Operation.GET if asked.method == "GET" and _has_shape(asked, _OF_VAULT) else Operation.UNKNOWN

    async def answer(self, asked: Asked, struck: list[Fault]) -> Answer:  # noqa: ARG002 - no fault alters a document
        """The caller's token first, then what it may read."""
        operation = self.operation(asked)
        claims = self._claims(asked)
        if claims is None:
            challenge = f'Bearer authorization_uri="https://{LOGIN_HOST}/common", error="invalid_token"'
            answer = _error(HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken", "The access token is invalid.")
            return Answer(answer.status, answer.body, {**answer.headers, "WWW-Authenticate": challenge}, answer.code)
        if "api-version" not in asked.query:
            return _error(HTTPStatus.BAD_REQUEST, "MissingApiVersionParameter", "The api-version is required.")
        if (place := place_of(asked)) is not None and operation is not Operation.UNKNOWN:
            return self._roles.answer(asked, place, claims)
        if operation is Operation.LIST:
            return self._list(asked, claims)
        if operation is Operation.GET:
            return self._show(asked, claims)
        return _error(HTTPStatus.NOT_FOUND, "InvalidResourceType", "The resource type could not be found.")

    def misfortune(self, status: HTTPStatus, fault: Fault) -> Answer:
        """An error in ARM's shape."""
        code, message = _MISFORTUNES.get(fault.kind, ("AuthorizationFailed", "The request was refused."))
        return _error(status, fault.code or code, fault.message or message)

    def _claims(self, asked: Asked) -> Mapping[str, object] | None:
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        claims = self._authority.verify(token) if scheme.lower() == "bearer" else None
        if claims is None or str(claims["aud"]).rstrip("/") not in _AUDIENCES:
            return None
        return None if self._world.clock() >= float(str(claims["exp"])) else claims

    def _list(self, asked: Asked, claims: Mapping[str, object]) -> Answer:
        named = _NAMED.fullmatch(asked.query.get("$filter", ""))
        if named is None:
            return _error(HTTPStatus.BAD_REQUEST, "InvalidFilterInQueryString", "The filter is not understood here.")
        vault = self._world.vaults.get(named[1].lower())
        seen = vault is not None and vault.subscription_id == asked.word(1) and self._may_read(vault, claims)
        found = [] if vault is None or not seen else [_resource(vault)]
        return Answer(HTTPStatus.OK, {"value": found}, _headers())

    def _show(self, asked: Asked, claims: Mapping[str, object]) -> Answer:
        vault = self._world.vaults.get(asked.word(7))
        path = "/" + "/".join(asked.path).lower()
        if vault is None or vault.deleted is not None or vault.resource_id != path:
            return _error(HTTPStatus.NOT_FOUND, "ResourceNotFound", f"The Resource '{asked.word(7)}' was not found.")
        if not self._may_read(vault, claims):
            message = f"The client does not have authorization to perform action 'vaults/read' over scope '{path}'."
            return _error(HTTPStatus.FORBIDDEN, "AuthorizationFailed", message)
        properties: dict[str, object] = {
            "tenantId": vault.tenant_id,
            "vaultUri": f"https://{vault.host}/",
            "enableSoftDelete": vault.soft_delete,
            "softDeleteRetentionInDays": vault.soft_delete_days,
            "enableRbacAuthorization": vault.access is Access.ROLES,
            "accessPolicies": _policies(vault, self._world.clock()),
            "provisioningState": "Succeeded",
        }
        if vault.purge_protection:
            properties["enablePurgeProtection"] = True
        return Answer(HTTPStatus.OK, {**_resource(vault), "properties": properties}, _headers())

    def _may_read(self, vault: Vault, claims: Mapping[str, object]) -> bool:
        of_tenant = claims["iss"] == f"https://sts.windows.net/{vault.tenant_id}/"
        acts = self._world.roles.acts(str(claims["oid"]), READ_VAULT, vault.resource_id, self._world.clock())
        return vault.deleted is None and of_tenant and acts


def _resource(vault: Vault) -> dict[str, object]:
    kind = "Microsoft.KeyVault/vaults"
    return {"id": vault.resource_id, "name": vault.name, "type": kind, "location": vault.region}


def _policies(vault: Vault, now: float) -> list[dict[str, object]]:
    """The access policies, which stay there while the vault goes by roles."""
    keys: dict[str, list[str]] = {}
    for grant in vault.grants:
        if grant.access is Access.POLICIES and grant.covers(grant.permission, None, now):
            keys.setdefault(grant.object_id, []).append(str(grant.permission))
    return [
        {"tenantId": vault.tenant_id, "objectId": object_id, "permissions": {"keys": sorted(set(given))}}
        for object_id, given in keys.items()
    ]


def _has_shape(asked: Asked, shape: tuple[str, ...]) -> bool:
    return len(asked.path) == len(shape) and all(asked.word(at) == word for at, word in enumerate(shape) if word)


def _headers() -> dict[str, str]:
    return {"Cache-Control": "no-cache", "x-ms-request-id": str(uuid.uuid4())}


def _error(status: HTTPStatus, code: str, message: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}}, _headers(), code)
