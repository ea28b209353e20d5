"""What is refused, and to whom: the data plane to its callers, the world to the people who change it.

Messages are those of the service where one is known (quoted in public issues of the SDKs and of Terraform).
"""

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(slots=True, eq=False)
class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """Key Vault's answer to a request that it does not grant; `inner` is the code that tells the reason."""

    status: HTTPStatus
    code: str
    message: str
    inner: str | None = None
    challenge: str | None = None

    def body(self) -> dict[str, object]:
        """The JSON document of the answer, spelled `innererror` as the service does."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


@dataclass(slots=True, eq=False)
class WorldError(Exception):
    """Something that cannot be done in this world: what, why, and what to do instead."""

    message: str
    hint: str
    status: HTTPStatus = HTTPStatus.CONFLICT

    def __str__(self) -> str:
        return self.message


def nothing_named(what: str, name: str, *, known: str) -> WorldError:
    """There is no such thing; `known` is the verb that lists those that there are."""
    return WorldError(f"there is no {what} named {name!r}", f"{known} lists them", HTTPStatus.NOT_FOUND)


def bad_parameter(message: str) -> Refusal:
    """400 BadParameter: the request itself is wrong."""
    return Refusal(HTTPStatus.BAD_REQUEST, "BadParameter", message)


def forbidden(message: str, inner: str | None) -> Refusal:
    """403: the outer code is always Forbidden, the inner one tells why."""
    return Refusal(HTTPStatus.FORBIDDEN, "Forbidden", message, inner)


def key_not_found(name: str) -> Refusal:
    """404 for a key or version that is not there, deleted or not: no inner code."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "KeyNotFound",
        f"A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may be "
        "able to recover it using the correct recovery command. For help resolving this issue, please see "
        "https://go.microsoft.com/fwlink/?linkid=2125182",
    )


def deleted_key_not_found(name: str) -> Refusal:
    """404 for a deleted key that is not, or not yet, there."""
    return Refusal(HTTPStatus.NOT_FOUND, "KeyNotFound", f"Deleted Key not found: {name}")


def name_is_deleted(name: str) -> Refusal:
    """409 for a name that a deleted key still holds."""
    return Refusal(
        HTTPStatus.CONFLICT,
        "Conflict",
        f"Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, "
        "the key can only be recovered or purged.",
        "ObjectIsDeletedButRecoverable",
    )


def name_is_being_deleted(name: str) -> Refusal:
    """409 while the deletion of a key still runs."""
    return Refusal(HTTPStatus.CONFLICT, "Conflict", f"Key {name} is currently being deleted.", "ObjectIsBeingDeleted")


def purge_protected() -> Refusal:
    """403 for a purge in a vault with purge protection."""
    return forbidden(
        'Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault service will '
        "automatically purge it after the retention period has passed.",
        None,
    )
