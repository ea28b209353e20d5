"""Entra ID: the token endpoint for applications, and the documents around it."""

import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from byokd.emulator.assertions import UnacceptableError, check_assertion
from byokd.emulator.exchange import Answer, Asked
from byokd.emulator.faults import Fault
from byokd.emulator.principals import Principal
from byokd.emulator.tokens import LOGIN_HOST, RESOURCES, TokenAuthority
from byokd.emulator.vocabulary import ENTRA, FaultKind, Operation, PrincipalKind
from byokd.emulator.world import World

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SHARED: Final = frozenset({"common", "organizations"})
"""Names in the place of a tenant for which the documents, but no tokens for applications, can be had."""
_MISFORTUNES: Final = {
    FaultKind.THROTTLE: ("temporarily_unavailable", 90055, "Tenant request throttled: too many requests."),
    FaultKind.SERVER_ERROR: ("server_error", 90033, "A transient error has occurred. Please try again."),
    FaultKind.UNAVAILABLE: ("temporarily_unavailable", 90033, "A transient error has occurred. Please try again."),
}


@dataclass(slots=True, eq=False)
class TokenRefusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """Entra ID's answer to a token request that it does not grant."""

    status: HTTPStatus
    error: str
    number: int
    message: str


class EntraService:
    """The host login.microsoftonline.com."""

    target = ENTRA

    def __init__(self, world: World, authority: TokenAuthority) -> None:
        self._world = world
        self._authority = authority

    def operation(self, asked: Asked) -> Operation:
        """A token, or one of the documents."""
        if asked.method == "POST" and asked.path[-1].lower() == "token":
            return Operation.TOKEN
        return Operation.METADATA if asked.method == "GET" else Operation.UNKNOWN

    async def answer(self, asked: Asked, struck: list[Fault]) -> Answer:  # noqa: ARG002 - no fault alters a document
        """The token, the document, or an error in Entra ID's shape."""
        try:
            if self.operation(asked) is Operation.TOKEN:
                return Answer(HTTPStatus.OK, self._token(asked), _headers())
            return Answer(HTTPStatus.OK, self._document(asked), _headers())
        except TokenRefusal as refusal:
            return self._refused(refusal)

    def misfortune(self, status: HTTPStatus, fault: Fault) -> Answer:
        """An error of Entra ID's own. `code` of the fault is the OAuth error, `inner` its AADSTS number."""
        error, number, message = _MISFORTUNES.get(fault.kind, ("invalid_client", 7000215, "The request was refused."))
        inner = (fault.inner or "").upper().removeprefix("AADSTS")
        number = int(inner) if inner.isdigit() else number
        answer = self._refused(TokenRefusal(status, fault.code or error, number, fault.message or message))
        retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return Answer(answer.status, answer.body, {**answer.headers, **retry}, answer.code)

    def _token(self, asked: Asked) -> dict[str, object]:
        form = dict(parse_qsl(asked.body.decode("utf-8", "replace")))
        tenant = asked.word(0)
        if not self._world.tenants.get(tenant, False):
            raise TokenRefusal(
                HTTPStatus.BAD_REQUEST,
                "invalid_request",
                90002,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into "
                "the correct cloud. Check with your subscription administrator, this may happen if there are no active "
                "subscriptions for the tenant.",
            )
        if form.get("grant_type") != "client_credentials":
            message = f"The app requested an unsupported grant type '{form.get('grant_type', '')}'."
            raise TokenRefusal(HTTPStatus.BAD_REQUEST, "unsupported_grant_type", 70003, message)
        application = self._application(form.get("client_id", ""), tenant)
        self._authenticate(application, form, tenant)
        resource = _resource(form.get("scope", ""), tenant)
        lifetime = self._world.application_token_seconds
        token, _ = self._authority.issue(application, tenant_id=tenant, resource=resource, lifetime=lifetime)
        return {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}

    def _application(self, client_id: str, tenant: str) -> Principal:
        applications = [one for one in self._world.principals.values() if one.kind is PrincipalKind.APPLICATION]
        application = next((one for one in applications if one.client_id == client_id.lower()), None)
        if application is None:
            raise TokenRefusal(
                HTTPStatus.BAD_REQUEST,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen "
                "if the application has not been installed by the administrator of the tenant or consented to by any "
                "user in the tenant. You may have sent your authentication request to the wrong tenant.",
            )
        if tenant not in application.object_ids:
            raise TokenRefusal(
                HTTPStatus.UNAUTHORIZED,
                "invalid_client",
                7000229,
                f"The client application {client_id} is missing service principal in the tenant {tenant}. See "
                "instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
            )
        if application.disabled or tenant in application.disabled_in:
            message = f"Application '{client_id}'({application.name}) is disabled."
            raise TokenRefusal(HTTPStatus.BAD_REQUEST, "unauthorized_client", 7000112, message)
        return application

    def _authenticate(self, application: Principal, form: Mapping[str, str], tenant: str) -> None:
        secret, shown = application.credentials.secret, form.get("client_secret")
        if shown is not None:
            if secret is None or not hmac.compare_digest(secret.encode(), shown.encode()):
                message = f"Invalid client secret provided for app '{application.client_id}'."
                raise TokenRefusal(HTTPStatus.UNAUTHORIZED, "invalid_client", 7000215, message)
            return
        assertion = form.get("client_assertion")
        if assertion is None or form.get("client_assertion_type") != JWT_BEARER:
            message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise TokenRefusal(HTTPStatus.UNAUTHORIZED, "invalid_client", 7000218, message)
        now = self._world.clock()
        try:
            check_assertion(assertion, application, tenant=tenant, authority=self._authority, now=now)
        except UnacceptableError as error:
            raise TokenRefusal(HTTPStatus.UNAUTHORIZED, "invalid_client", error.code, error.message) from None

    def _document(self, asked: Asked) -> dict[str, object]:
        path, tenant = "/".join(asked.path).lower(), asked.word(0)
        base = f"https://{LOGIN_HOST}/{tenant}"
        if path.endswith("discovery/instance"):
            place = asked.query.get("authorization_endpoint", f"{base}/oauth2/v2.0/authorize").split("/")[3:4]
            home = f"https://{LOGIN_HOST}/{''.join(place) or 'common'}"
            aliases = [LOGIN_HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
            network = {"preferred_network": LOGIN_HOST, "preferred_cache": "login.windows.net", "aliases": aliases}
            document = f"{home}/v2.0/.well-known/openid-configuration"
            return {"tenant_discovery_endpoint": document, "api-version": "1.1", "metadata": [network]}
        if not path.endswith(("/keys", "/openid-configuration")):
            raise TokenRefusal(HTTPStatus.NOT_FOUND, "invalid_request", 900561, "There is nothing at this address.")
        if tenant not in _SHARED and not self._world.tenants.get(tenant, False):
            raise TokenRefusal(HTTPStatus.BAD_REQUEST, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
        if path.endswith("/keys"):
            return self._authority.key_set()
        newer = asked.word(1) == "v2.0"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token" if newer else f"{base}/oauth2/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys" if newer else f"{base}/discovery/keys",
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "issuer": f"{base}/v2.0" if newer else f"https://sts.windows.net/{tenant}/",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize" if newer else f"{base}/oauth2/authorize",
        }

    def _refused(self, refusal: TokenRefusal) -> Answer:
        when = datetime.fromtimestamp(self._world.clock(), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        ending = f"Trace ID: {trace} Correlation ID: {correlation} Timestamp: {when}"
        body = {
            "error": refusal.error,
            "error_description": f"AADSTS{refusal.number}: {refusal.message} {ending}",
            "error_codes": [refusal.number],
            "timestamp": when,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://{LOGIN_HOST}/error?code={refusal.number}",
        }
        return Answer(refusal.status, body, _headers(), f"AADSTS{refusal.number}")


def _resource(scope: str, tenant: str) -> str:
    resource = scope.removesuffix("/.default")
    if resource == scope or resource.rstrip("/") not in RESOURCES:
        raise TokenRefusal(
            HTTPStatus.BAD_REQUEST,
            "invalid_resource",
            500011,
            f"The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if "
            "the application has not been installed by the administrator of the tenant or consented to by any user in "
            "the tenant. You might have sent your authentication request to the wrong tenant.",
        )
    return resource.rstrip("/")


def _headers() -> dict[str, str]:
    return {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "x-ms-request-id": str(uuid.uuid4())}
