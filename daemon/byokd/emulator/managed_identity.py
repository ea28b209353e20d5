"""The endpoints of managed identities, as azure-identity calls them: IMDS on a machine, and App Service's."""

import hmac
import uuid
from http import HTTPStatus
from typing import Final

from byokd.emulator.exchange import Answer, Asked
from byokd.emulator.faults import Fault
from byokd.emulator.principals import Principal
from byokd.emulator.tokens import RESOURCES, TokenAuthority
from byokd.emulator.vocabulary import MANAGED_IDENTITY, FaultKind, Operation, PrincipalKind
from byokd.emulator.world import World

IMDS_PATH: Final = "/metadata/identity/oauth2/token"
APP_SERVICE_PATH: Final = "/msi/token"
_SELECTORS: Final = ("client_id", "object_id", "principal_id", "msi_res_id", "mi_res_id")
_MISFORTUNES: Final = {
    FaultKind.THROTTLE: ("too_many_requests", "Too many requests"),
    FaultKind.SERVER_ERROR: ("unknown", "Failed to retrieve token from the authority"),
    FaultKind.UNAVAILABLE: ("unavailable", "The service is unavailable"),
}


class IdentityService:
    """Tokens for the machine's identities. `header` is the secret that App Service's endpoint wants to see."""

    target = MANAGED_IDENTITY

    def __init__(self, world: World, authority: TokenAuthority, header: str) -> None:
        self._world = world
        self._authority = authority
        self.header = header

    def operation(self, asked: Asked) -> Operation:
        """Always a token."""
        return Operation.TOKEN if asked.method == "GET" else Operation.UNKNOWN

    async def answer(self, asked: Asked, struck: list[Fault]) -> Answer:  # noqa: ARG002 - no fault alters a token
        """A token, or the endpoint's own error."""
        app_service = asked.path[0] == "msi"
        refused = self._refused_for_app_service(asked) if app_service else _refused_by_imds(asked)
        if refused is not None:
            return refused
        chosen = self._choose(asked)
        if isinstance(chosen, str):
            return _app_service_error(chosen) if app_service else _imds_error(chosen)
        resource = asked.query["resource"].rstrip("/")
        lifetime = self._world.identity_token_seconds
        token, expires = self._authority.issue(chosen, tenant_id=chosen.tenant_id, resource=resource, lifetime=lifetime)
        body: dict[str, object] = {
            "access_token": token,
            "client_id": chosen.client_id,
            "expires_on": str(expires),
            "resource": asked.query["resource"],
            "token_type": "Bearer",
        }
        if not app_service:
            times = {
                "expires_in": str(lifetime),
                "ext_expires_in": str(lifetime),
                "not_before": str(expires - lifetime),
            }
            body |= times
        return Answer(HTTPStatus.OK, body)

    def misfortune(self, status: HTTPStatus, fault: Fault) -> Answer:
        """An error in the shape of IMDS: `code` of the fault is its error, `message` the description."""
        error, description = _MISFORTUNES.get(fault.kind, ("invalid_request", "Identity not found"))
        body = {"error": fault.code or error, "error_description": fault.message or description}
        retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return Answer(status, body, retry, fault.code or error)

    def _choose(self, asked: Asked) -> Principal | str:
        """The identity that is asked for, or why there is none. Without a name: the system's, or the only one."""
        managed = [one for one in self._world.principals.values() if one.kind is not PrincipalKind.APPLICATION]
        identities = [one for one in managed if one.attached]
        wanted = [(name, asked.query[name]) for name in _SELECTORS if name in asked.query]
        if wanted:
            name, value = wanted[0]
            return next((one for one in identities if one.answers_to(name, value)), "Identity not found")
        system = [one for one in identities if one.kind is PrincipalKind.SYSTEM_ASSIGNED]
        if system or len(identities) == 1:
            return (system or identities)[0]
        if not identities:
            return "Identity not found"
        return (
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the "
            "token request"
        )

    def _refused_for_app_service(self, asked: Asked) -> Answer | None:
        shown = asked.headers.get("X-IDENTITY-HEADER", "")
        if not hmac.compare_digest(shown.encode(), self.header.encode()):
            return _app_service_error("The identity header does not match", HTTPStatus.UNAUTHORIZED)
        if asked.query.get("resource", "").rstrip("/") not in RESOURCES:
            return _app_service_error(f"AADSTS500011: no resource {asked.query.get('resource')!r}")
        return None


def _refused_by_imds(asked: Asked) -> Answer | None:
    if asked.headers.get("Metadata", "").lower() != "true":
        return _imds_error("Required metadata header not specified")
    if "X-Forwarded-For" in asked.headers:
        return _imds_error("Requests with X-Forwarded-For are refused")
    if "api-version" not in asked.query:
        return _imds_error("Required query variable 'api-version' is missing")
    if "resource" not in asked.query:
        return _imds_error("Required query variable 'resource' is missing")
    resource = asked.query["resource"]
    if resource.rstrip("/") not in RESOURCES:
        message = f"AADSTS500011: The resource principal named {resource} was not found in the tenant."
        return _imds_error(message, "invalid_resource")
    return None


def _imds_error(description: str, error: str = "invalid_request") -> Answer:
    return Answer(HTTPStatus.BAD_REQUEST, {"error": error, "error_description": description}, code=error)


def _app_service_error(message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Answer:
    if message == "Identity not found":
        message = "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
    body = {"statusCode": int(status), "message": message, "correlationId": str(uuid.uuid4())}
    return Answer(status, body, code="invalid_request")
