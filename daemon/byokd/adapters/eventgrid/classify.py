"""What it means that a queue could not be used. The one place where an exception of the storage SDK is read.

Azure Storage says all that matters in status and headers, which are noted as they come: the SDK reads bodies as well,
and falls over some.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from azure.core.exceptions import (
    AzureError,
    DecodeError,
    IncompleteReadError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline import PipelineResponse

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


class ForeignAnswerError(Exception):
    """An answer without the header that every answer of Azure Storage has."""


@dataclass(slots=True)
class Heard:
    """The last answer of one exchange."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def take(self, response: PipelineResponse[Any, Any]) -> None:
        """Note an answer before the SDK reads it: a proxy's page could be taken for an empty queue."""
        self.status, self.headers = response.http_response.status_code, response.http_response.headers
        if "x-ms-request-id" not in self.headers:
            raise ForeignAnswerError

    @property
    def code(self) -> str | None:
        """The service's word for what it refuses, if it is a word."""
        code = str(self.headers.get("x-ms-error-code", ""))
        return code if _CODE.fullmatch(code) else None


def classify_queue_error(error: Exception, heard: Heard) -> QueueUnavailableError:
    """Say why a queue could not be used; nothing of an answer's text is kept."""
    if isinstance(error, QueueUnavailableError):
        return error
    if isinstance(error, TokenUnavailableError):
        return QueueUnavailableError(QueueTrouble.NO_TOKEN, code=error.code)
    if isinstance(error, ForeignAnswerError):
        return QueueUnavailableError(QueueTrouble.FOREIGN_ANSWER, code=str(heard.status))
    if heard.status is not None and heard.status >= HTTPStatus.MULTIPLE_CHOICES:
        return _of_answer(heard, heard.status)
    return _of_silence(error)


def _of_silence(error: Exception) -> QueueUnavailableError:
    """Say what it means that there was no answer, or none that can be read."""
    if isinstance(error, TimeoutError | ServiceRequestTimeoutError | ServiceResponseTimeoutError):
        return QueueUnavailableError(QueueTrouble.TIMED_OUT)
    inner = error.inner_exception if isinstance(error, AzureError) else None
    name = type(error if inner is None else inner).__name__
    # Called XML and is none. What was cut short is of the same class.
    if isinstance(error, DecodeError) and not isinstance(error, IncompleteReadError):
        return QueueUnavailableError(QueueTrouble.FOREIGN_ANSWER, code=name)
    trouble = QueueTrouble.UNREACHABLE if isinstance(error, AzureError) else QueueTrouble.FAILED
    return QueueUnavailableError(trouble, code=name)


def _of_answer(heard: Heard, status: int) -> QueueUnavailableError:
    if status < HTTPStatus.BAD_REQUEST:
        return QueueUnavailableError(QueueTrouble.FOREIGN_ANSWER, code=str(status))
    trouble = _BY_CODE.get(heard.code or "") or _BY_STATUS.get(status, QueueTrouble.FAILED)
    wait = _seconds(heard.headers.get("Retry-After"))
    return QueueUnavailableError(trouble, code=heard.code or str(status), retry_after=wait)


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and re.fullmatch(r"\d{1,6}", value, re.ASCII) else None
