"""The data plane of Key Vault for keys: who may ask, and what each operation answers."""

import base64
import json
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from byokd.emulator import refusals
from byokd.emulator.exchange import Answer, Asked
from byokd.emulator.faults import Fault
from byokd.emulator.key_operations import KeyOperations
from byokd.emulator.refusals import Refusal
from byokd.emulator.tokens import LOGIN_HOST, TokenAuthority
from byokd.emulator.vaults import Vault
from byokd.emulator.vocabulary import RBAC_ACTION, Access, Dialect, FaultKind, Network, Operation, Permission
from byokd.emulator.world import World

AUDIENCES: Final = frozenset(
    {"https://vault.azure.net", "https://vault.azure.net/", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"}
)
"""Names of the service in tokens: its URL, and its application id (documentation)."""
_PERMISSIONS: Final = {
    Operation.GET: Permission.GET,
    Operation.LIST: Permission.LIST,
    Operation.VERSIONS: Permission.LIST,
    Operation.CREATE: Permission.CREATE,
    Operation.ROTATE: Permission.ROTATE,
    Operation.UPDATE: Permission.UPDATE,
    Operation.DELETE: Permission.DELETE,
    Operation.GET_DELETED: Permission.GET,
    Operation.LIST_DELETED: Permission.LIST,
    Operation.RECOVER: Permission.RECOVER,
    Operation.PURGE: Permission.PURGE,
    Operation.WRAP_KEY: Permission.WRAP_KEY,
    Operation.UNWRAP_KEY: Permission.UNWRAP_KEY,
}
_PROPAGATION: Final = (
    "If role assignments, deny assignments or role definitions were changed recently, please observe propagation time."
)
_MISFORTUNES: Final = {
    FaultKind.THROTTLE: (
        "Throttled",
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
    ),
    FaultKind.SERVER_ERROR: ("InternalServerError", "An internal server error occurred."),
    FaultKind.UNAVAILABLE: ("ServiceUnavailable", "The service is temporarily unavailable."),
}


class VaultService:
    """One vault as its clients meet it."""

    def __init__(self, world: World, authority: TokenAuthority, operations: KeyOperations, vault: Vault) -> None:
        self._world = world
        self._authority = authority
        self._operations = operations
        self._vault = vault

    @property
    def target(self) -> str:
        """The name of the vault."""
        return self._vault.name

    def operation(self, asked: Asked) -> Operation:
        """What a request asks for; names of operations are taken in any case, and a trailing slash too."""
        depth = len(asked.path)
        last = asked.word(3) if depth == 4 else asked.word(2)  # noqa: PLR2004 - keys/NAME/VERSION/OPERATION
        shape = (asked.method, asked.word(0), depth)
        named = {"create": Operation.CREATE, "rotate": Operation.ROTATE}
        wrapped = {"wrapkey": Operation.WRAP_KEY, "unwrapkey": Operation.UNWRAP_KEY}
        versions = Operation.VERSIONS if last == "versions" else Operation.GET
        return {
            ("GET", "keys", 1): Operation.LIST,
            ("GET", "keys", 2): Operation.GET,
            ("GET", "keys", 3): versions,
            ("POST", "keys", 3): named.get(last, Operation.UNKNOWN),
            ("POST", "keys", 4): wrapped.get(last, Operation.UNKNOWN),
            ("PATCH", "keys", 2): Operation.UPDATE,
            ("PATCH", "keys", 3): Operation.UPDATE,
            ("DELETE", "keys", 2): Operation.DELETE,
            ("GET", "deletedkeys", 1): Operation.LIST_DELETED,
            ("GET", "deletedkeys", 2): Operation.GET_DELETED,
            ("POST", "deletedkeys", 3): Operation.RECOVER if last == "recover" else Operation.UNKNOWN,
            ("DELETE", "deletedkeys", 2): Operation.PURGE,
        }.get(shape, Operation.UNKNOWN)

    async def answer(self, asked: Asked, struck: list[Fault]) -> Answer:
        """The genuine answer: the caller's token first, then the network, then permission, then the key."""
        operation = self.operation(asked)
        try:
            self._admit(asked, operation)
            status, body = await self._operations.perform(self._vault, operation, asked, struck)
        except Refusal as refusal:
            return self._refused(refusal)
        return Answer(status, body, self._headers())

    def misfortune(self, status: HTTPStatus, fault: Fault) -> Answer:
        """An error in the service's shape and with its headers; no Retry-After unless asked for."""
        code, message = _MISFORTUNES.get(fault.kind, ("Forbidden", "The request was refused."))
        challenge = self._challenge() if status == HTTPStatus.UNAUTHORIZED else None
        refusal = Refusal(status, fault.code or code, fault.message or message, fault.inner, challenge)
        retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        body = refusal.body()
        return Answer(status, body, {**self._headers(), **_challenge_header(refusal), **retry}, fault.inner or code)

    def _admit(self, asked: Asked, operation: Operation) -> None:
        claims = self._claims(asked)
        caller = "appid={appid};oid={oid};iss={iss}".format(**claims)
        where = f"Vault: {self._vault.name};location={self._vault.region}"
        if self._vault.network is Network.FIREWALL:
            message = "Client address is not authorized and caller is not a trusted service."
            address = f"Client address: {asked.address}\r\nCaller: {caller}"
            raise refusals.forbidden(f"{message}\r\n{address}\r\n{where}", "ForbiddenByFirewall")
        if self._vault.network is Network.CONNECTION:
            message = "Public network access is disabled and request is not from a trusted service nor via an approved"
            raise refusals.forbidden(f"{message} private link.\r\nCaller: {caller}\r\n{where}", "ForbiddenByConnection")
        if operation is Operation.UNKNOWN:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "The method is not allowed here.")
        permission, key = _PERMISSIONS[operation], asked.path[1] if len(asked.path) > 1 else None
        if not self._world.allows(self._vault, str(claims["oid"]), permission, key):
            raise self._forbidden(permission, key, caller)
        if "api-version" not in asked.query:
            raise refusals.bad_parameter("api-version must be specified")

    def _forbidden(self, permission: Permission, key: str | None, caller: str) -> Refusal:
        """What a caller without a permission is told, by roles or by access policies."""
        where = f"Vault: {self._vault.name};location={self._vault.region}"
        if self._vault.access is Access.POLICIES:
            missing = f"No access policy gives the caller the permission '{permission}' on keys."
            return refusals.forbidden(f"{missing}\r\nCaller: {caller}\r\n{where}", "AccessDenied")
        resource = self._vault.resource_id + (f"/keys/{key}" if key else "")
        lines = (
            "Caller is not authorized to perform action on resource.",
            _PROPAGATION,
            f"Caller: {caller}",
            f"Action: '{RBAC_ACTION[permission]}'",
            f"Resource: '{resource}'",
            "Assignment: (not found)",
            "DenyAssignmentId: null",
            "DecisionReason: 'DeniedWithNoValidRBAC' ",
            f"{where}\r\n",
        )
        return refusals.forbidden("\r\n".join(lines), "ForbiddenByRbac")

    def _claims(self, asked: Asked) -> Mapping[str, object]:
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
        claims = self._authority.verify(token)
        if claims is None:
            raise self._unauthorized("AKV10046: Unable to resolve the key used for signature validation.")
        now = self._world.clock()
        if now >= float(str(claims["exp"])):
            raise self._unauthorized("[TokenExpired] Error validating token: 'S2S12086'.")
        if claims["aud"] not in AUDIENCES:
            found = f"found: {claims['aud']}"
            raise self._unauthorized(f"AKV10022: Invalid audience. Expected https://vault.azure.net, {found}.")
        expected = f"https://sts.windows.net/{self._vault.tenant_id}/"
        if claims["iss"] != expected:
            raise self._unauthorized(f"AKV10032: Invalid issuer. Expected one of {expected}, found {claims['iss']}.")
        if int(str(claims["uti"])) < self._vault.tokens_from:
            raise self._unauthorized(
                "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: "
                "TokenIssuedBeforeRevocationTimestamp",
                more=_claims_challenge(now),
            )
        return claims

    def _unauthorized(self, message: str, more: str = "") -> Refusal:
        return Refusal(HTTPStatus.UNAUTHORIZED, "Unauthorized", message, challenge=self._challenge() + more)

    def _challenge(self) -> str:
        authorization = f'authorization="https://{LOGIN_HOST}/{self._vault.tenant_id}"'
        return f'Bearer {authorization}, resource="https://vault.azure.net"'

    def _refused(self, refusal: Refusal) -> Answer:
        shown = refusal
        if refusal.inner and refusal.status == HTTPStatus.FORBIDDEN:
            bare = Dialect.FORBIDDEN_WITHOUT_INNER_CODE in self._world.dialects
            shown = refusals.forbidden(refusal.message, None) if bare else refusal
        headers = {**self._headers(), **_challenge_header(refusal)}
        first = refusal.message.partition(":")[0]
        counted = first if first.startswith("AKV") else refusal.code
        return Answer(refusal.status, shown.body(), headers, refusal.inner or counted)

    def _headers(self) -> dict[str, str]:
        return {
            "Cache-Control": "no-cache",
            "Pragma": "no-cache",
            "x-ms-keyvault-region": self._vault.region,
            "x-ms-request-id": str(uuid.uuid4()),
            "x-ms-keyvault-service-version": "1.9.2784.1",
            "x-ms-keyvault-network-info": "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;",
            "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
            "X-Content-Type-Options": "nosniff",
        }


def _challenge_header(refusal: Refusal) -> dict[str, str]:
    return {} if refusal.challenge is None else {"WWW-Authenticate": refusal.challenge}


def _claims_challenge(now: float) -> str:
    claims = {"access_token": {"nbf": {"essential": True, "value": str(int(now))}}}
    encoded = base64.b64encode(json.dumps(claims).encode()).decode()
    return f', error="insufficient_claims", claims="{encoded}"'
