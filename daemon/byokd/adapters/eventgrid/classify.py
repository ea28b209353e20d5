"""What it means that a queue could not be used. The one place where an exception of the storage SDK is read."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)

from byokd.ports import TokenUnavailableError
from byokd.ports.queues import QueueTrouble, QueueUnavailableError

GONE: Final = frozenset({"MessageNotFound", "PopReceiptMismatch"})
"""Codes for a message that is deleted already, or given out to somebody else (documentation)."""

_BY_CODE: Final[Mapping[str, QueueTrouble]] = {
    "AuthenticationFailed": QueueTrouble.TOKEN_REFUSED,
    "InvalidAuthenticationInfo": QueueTrouble.TOKEN_REFUSED,
    "AuthorizationFailure": QueueTrouble.NETWORK_BLOCKED,
    "PublicAccessNotPermitted": QueueTrouble.NETWORK_BLOCKED,
    "ServerBusy": QueueTrouble.THROTTLED,
    "OperationTimedOut": QueueTrouble.THROTTLED,
}
"""Azure Storage's codes that say more than the status (documentation). AuthorizationFailure is what its firewall says;
where a role is missing it is AuthorizationPermissionMismatch."""

_BY_STATUS: Final[Mapping[int, QueueTrouble]] = {
    HTTPStatus.UNAUTHORIZED: QueueTrouble.TOKEN_REFUSED,
    HTTPStatus.FORBIDDEN: QueueTrouble.NOT_PERMITTED,
    HTTPStatus.NOT_FOUND: QueueTrouble.MISSING,
    HTTPStatus.TOO_MANY_REQUESTS: QueueTrouble.THROTTLED,
    HTTPStatus.SERVICE_UNAVAILABLE: QueueTrouble.THROTTLED,
}

_CODE: Final = re.compile(r"[A-Za-z]{1,64}", re.ASCII)
_ERRORS: Final = 400


class ForeignAnswerError(Exception):
    """An answer without the headers that Azure Storage sends."""


def is_of_storage(headers: Mapping[str, str]) -> bool:
    """Whether an answer has what every answer of Azure Storage has."""
    return "x-ms-request-id" in headers


def code_of(error: Exception) -> str | None:
    """Give the service's code in an answer, if it is a word."""
    response = getattr(error, "response", None)
    code = str(getattr(response, "headers", {}).get("x-ms-error-code", ""))
    return code if _CODE.fullmatch(code) else None


def classify_queue_error(error: Exception) -> QueueUnavailableError:
    """Say why a queue could not be used; nothing of an answer's text is kept."""
    if isinstance(error, QueueUnavailableError):
        return error
    if isinstance(error, TokenUnavailableError):
        return QueueUnavailableError(QueueTrouble.NO_TOKEN, code=error.code)
    if isinstance(error, ForeignAnswerError):
        return QueueUnavailableError(QueueTrouble.FOREIGN_ANSWER)
    if isinstance(error, TimeoutError | ServiceRequestTimeoutError | ServiceResponseTimeoutError):
        return QueueUnavailableError(QueueTrouble.TIMED_OUT)
    if isinstance(error, HttpResponseError) and error.response is not None:
        return _of_answer(error)
    inner = error.inner_exception if isinstance(error, AzureError) else None
    name = type(error if inner is None else inner).__name__
    trouble = QueueTrouble.UNREACHABLE if isinstance(error, AzureError) else QueueTrouble.FAILED
    return QueueUnavailableError(trouble, code=name)


def _of_answer(error: HttpResponseError) -> QueueUnavailableError:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    status, code = error.status_code or 0, code_of(error)
    if not is_of_storage(headers) or status < _ERRORS:
        return QueueUnavailableError(QueueTrouble.FOREIGN_ANSWER, code=str(status))
    trouble = _BY_CODE.get(code or "") or _BY_STATUS.get(status, QueueTrouble.FAILED)
    return QueueUnavailableError(trouble, code=code or str(status), retry_after=_seconds(headers.get("Retry-After")))


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and re.fullmatch(r"\d{1,6}", value, re.ASCII) else None
