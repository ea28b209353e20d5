"""What an outside answer means. The one place where an answer of Key Vault becomes a refusal or nothing.

Only a genuine answer can refuse: Key Vault's JSON error together with its response headers. Everything else (a proxy's
page, a redirect, a broken connection, our own credential) says nothing of the key. Codes and what they mean:
recordings, field reports and documentation of the service.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from aiohttp import ClientConnectorDNSError, ClientError, ClientPayloadError, ClientResponseError, ClientSSLError

from byokd.adapters.keyvault.headers import our_address, retry_after
from byokd.domain.answers import Evidence, NoAnswer, Refused
from byokd.domain.vocabulary import Reason, RefusalKind

GET: Final = "get"
WRAP: Final = "wrapKey"
UNWRAP: Final = "unwrapKey"

_REFUSED_AS: Final[Mapping[tuple[int, str | None], RefusalKind]] = {
    (HTTPStatus.BAD_REQUEST, None): RefusalKind.BAD_REQUEST,
    (HTTPStatus.UNAUTHORIZED, None): RefusalKind.WRONG_TENANT,
    (HTTPStatus.FORBIDDEN, None): RefusalKind.ACCESS_DENIED,
    (HTTPStatus.NOT_FOUND, "KeyNotFound"): RefusalKind.NOT_FOUND,
}
"""Genuine errors by status and outer code, None for any. A 401 gets here only when it names the issuer as wrong."""

_FORBIDDEN_AS: Final = {
    "KeyDisabled": RefusalKind.KEY_DISABLED,
    "KeyOperationForbidden": RefusalKind.OPERATION_FORBIDDEN,
    "ForbiddenByFirewall": RefusalKind.NETWORK_BLOCKED,
    "ForbiddenByConnection": RefusalKind.NETWORK_BLOCKED,
}
"""403 by inner code, for the outer one is always Forbidden.

AccessDenied, ForbiddenByPolicy, ForbiddenByRbac, unknown ones and none all mean that access is denied.
"""

_TROUBLE_AS: Final = (
    (ClientConnectorDNSError, Reason.NAME_NOT_RESOLVED),
    ((ClientSSLError, ssl.SSLError), Reason.TLS_FAILED),
    (TimeoutError, Reason.TIMED_OUT),
    ((ClientPayloadError, ClientResponseError), Reason.UNREADABLE_ANSWER),
    ((ClientError, OSError), Reason.CONNECTION_FAILED),
)
"""Exceptions, the first that fits; the narrow come before the wide. Any other: the answer is unreadable."""

_WRONG_ISSUER: Final = "AKV10032"
"""The token is of another tenant. Such a 401 has no code of its own: the message begins with this one."""

_CODE: Final = re.compile(r"[A-Za-z]{1,48}", re.ASCII)
"""Codes that answers bear: words. Other text is left out, so that what a vault throws back at us (a token, a value) is
neither stored nor shown."""

_REQUEST_ID: Final = re.compile(r"[0-9A-Fa-f-]{1,36}", re.ASCII)
_MAX_CODE_CHARS: Final = 64
_TENANT: Final = re.compile(r"[0-9a-f-]{36}", re.ASCII)

_NOT_IN_CODES: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; `document` is its body read as JSON, None when it is none. Names of headers ignore case."""

    operation: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    document: object = field(repr=False)

    @property
    def genuine(self) -> bool:
        """Whether it has the headers that Key Vault adds to all its answers."""
        if self.headers.get("x-ms-request-id"):
            return True
        return any(name.lower().startswith("x-ms-keyvault-") for name in self.headers)

    @property
    def error(self) -> Mapping[str, object] | None:
        """Key Vault's error in a genuine answer; None when this is not one."""
        error = self.document.get("error") if isinstance(self.document, dict) else None
        return error if self.genuine and isinstance(error, dict) and isinstance(error.get("code"), str) else None

    def evidence(self, code: str | None = None) -> Evidence:
        """Say what it rests on; `code` in place of the answer's own."""
        error = self.error or {}
        return Evidence(
            operation=self.operation,
            status=self.status,
            code=_if_such(_CODE, error.get("code")) if code is None else _clean(code),
            inner_code=_if_such(_CODE, _inner_code(error)),
            request_id=_if_such(_REQUEST_ID, self.headers.get("x-ms-request-id")),
        )


def classify_reply(reply: Reply) -> Refused | NoAnswer:
    """Say what an answer other than a readable 200 means."""
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return NoAnswer(Reason.THROTTLED, reply.evidence(), retry_after(reply.headers))
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NoAnswer(Reason.VAULT_ERROR, reply.evidence(), retry_after(reply.headers))
    if reply.status == HTTPStatus.UNAUTHORIZED and not _of_wrong_issuer(reply):
        return unauthorized(reply)
    kind = _refusal(reply)
    if kind is RefusalKind.NETWORK_BLOCKED:
        return Refused(kind, replace(reply.evidence(), address=our_address(reply.headers)))
    return foreign(reply) if kind is None else Refused(kind, reply.evidence())


def classify_unasked(reply: Reply) -> Refused | NoAnswer:
    """Say what an answer other than a challenge means to a request that bore no token.

    Network rules come before authorization. Of the key, nobody is told anything without a token.
    """
    answer = classify_reply(reply)
    told_to_anyone = isinstance(answer, NoAnswer) or answer.kind is RefusalKind.NETWORK_BLOCKED
    return answer if told_to_anyone else foreign(reply)


def wrong_tenant(reply: Reply, tenant: str) -> Refused | NoAnswer:
    """Say what a challenge that names another tenant means: a refusal, when it is genuine."""
    if reply.error is None:
        return foreign(reply)
    named = _if_such(_TENANT, tenant)
    told = None if named is None else f"its challenge names tenant {named}"
    return Refused(RefusalKind.WRONG_TENANT, replace(reply.evidence(), told=told))


def unauthorized(reply: Reply) -> NoAnswer:
    """Say what a 401 means that is no word on the tenant."""
    return foreign(reply) if reply.error is None else NoAnswer(Reason.UNAUTHORIZED, reply.evidence())


def foreign(reply: Reply, code: str | None = None) -> NoAnswer:
    """Say that an answer is not one that Key Vault gives to such a request."""
    return NoAnswer(Reason.FOREIGN_ANSWER, reply.evidence(code))


def unreadable(reply: Reply, code: str | None = None) -> NoAnswer:
    """Say that a 200 does not hold what was asked for."""
    return NoAnswer(Reason.UNREADABLE_ANSWER, reply.evidence(code))


def no_token(operation: str, code: str) -> NoAnswer:
    """Say that there was no token to ask with."""
    return NoAnswer(Reason.TOKEN_UNAVAILABLE, Evidence(operation, code=_clean(code)))


def consent_withdrawn(operation: str, code: str) -> Refused:
    """Say that Entra, asked for a token of the pinned tenant, answered that it does not let us in."""
    return Refused(RefusalKind.CONSENT_WITHDRAWN, Evidence(operation, code=_clean(code)))


def vault_not_found(operation: str) -> Refused:
    """Say that DNS knows other vaults, and that there is none of this name."""
    return Refused(RefusalKind.VAULT_NOT_FOUND, Evidence(operation, code="NXDOMAIN"))


def classify_trouble(operation: str, error: Exception) -> NoAnswer:
    """Say what an exception on the way means: never a refusal. Only its class name is kept."""
    reason = next((reason for kinds, reason in _TROUBLE_AS if isinstance(error, kinds)), Reason.UNREADABLE_ANSWER)
    return NoAnswer(reason, Evidence(operation, code=_clean(type(error).__name__)))


def _refusal(reply: Reply) -> RefusalKind | None:
    error = reply.error
    if error is None:
        return None
    kind = _REFUSED_AS.get((reply.status, str(error["code"])), _REFUSED_AS.get((reply.status, None)))
    return _FORBIDDEN_AS.get(_inner_code(error) or "", kind) if kind is RefusalKind.ACCESS_DENIED else kind


def _of_wrong_issuer(reply: Reply) -> bool:
    return str((reply.error or {}).get("message", "")).startswith(_WRONG_ISSUER)


def _inner_code(error: Mapping[str, object]) -> str | None:
    inner = error.get("innererror")
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else None


def _if_such(form: re.Pattern[str], text: object) -> str | None:
    return text if isinstance(text, str) and form.fullmatch(text) is not None else None


def _clean(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    return _NOT_IN_CODES.sub("", text[: 4 * _MAX_CODE_CHARS])[:_MAX_CODE_CHARS] or None
