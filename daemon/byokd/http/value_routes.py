"""The management API's routes about protected values. Contents travel in bodies on the Unix socket, nowhere else."""

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from byokd.domain.accounts import instant
from byokd.domain.values import ValueInfo, ValueNameInvalidError, ValueRef, parse_value_name
from byokd.domain.vocabulary import ValueKind
from byokd.http.managed import Managed, Reference, problem
from byokd.http.peers import peer_uid
from byokd.runtime.unusable import (
    AccountDamagedError,
    AccountUnknownError,
    InaccessibleError,
    UnavailableError,
    UnusableError,
)
from byokd.runtime.values import ValueTooLargeError, ValueUnknownError

_STATUS: tuple[tuple[type[UnusableError], int], ...] = (
    (AccountUnknownError, 404),
    (ValueUnknownError, 404),
    (InaccessibleError, 409),
    (AccountDamagedError, 409),
    (ValueTooLargeError, 413),
    (UnavailableError, 503),
)


class NamedValue(BaseModel):
    """Which value."""

    kind: ValueKind
    name: str

    def ref(self) -> ValueRef:
        """Give it checked."""
        try:
            return ValueRef(self.kind, parse_value_name(self.name))
        except ValueNameInvalidError as error:
            raise problem(422, str(error), error.hint) from None


class NewValue(NamedValue):
    """A value to protect; `content` is base64."""

    content: str

    def decoded(self) -> bytes:
        """Give the content."""
        try:
            return base64.b64decode(self.content, validate=True)
        except (binascii.Error, ValueError):
            raise problem(422, "the content is not base64", "encode it as RFC 4648, section 4, says") from None


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def protect(self, ref: Reference, request: NewValue) -> dict[str, object]:
        found = await self.managed.find(ref)
        with _refusing():
            return _shown(await self.managed.values.protect(found.id, request.ref(), request.decoded()))

    async def reveal(self, ref: Reference, request: NamedValue, call: Request) -> dict[str, object]:
        uid = peer_uid(call)
        if uid not in self.managed.settings.service.reveal_uids:
            hint = f"run it as a listed user, or add {uid} to service.reveal_uids, then byokd reload"
            raise problem(403, f"the user {uid} may not have protected values shown", hint)
        found = await self.managed.find(ref)
        with _refusing():
            content, revision = await self.managed.values.reveal(found.id, request.ref())
        named = {"kind": str(request.kind), "name": request.name, "revision": revision}
        return {**named, "content": base64.b64encode(content).decode()}

    async def values(self, ref: Reference) -> list[dict[str, object]]:
        found = await self.managed.find(ref)
        with _refusing():
            return [_shown(info) for info in await self.managed.values.list(found.id)]

    async def remove(self, ref: Reference, request: NamedValue) -> dict[str, object]:
        found = await self.managed.find(ref)
        with _refusing():
            await self.managed.values.remove(found.id, request.ref())
        return {"kind": str(request.kind), "name": request.name, "removed": True}


def value_routes(managed: Managed) -> APIRouter:
    """Give the routes about protected values."""
    router, api = APIRouter(), _Api(managed)
    router.get("/account/values")(api.values)
    router.post("/account/values")(api.protect)
    router.post("/account/values/reveal")(api.reveal)
    router.post("/account/values/remove")(api.remove)
    return router


@contextmanager
def _refusing() -> Iterator[None]:
    """Give refusals their status, with the reason where an account is Inaccessible or damaged."""
    try:
        yield
    except UnusableError as error:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        detail = {"message": str(error), "hint": error.hint}
        if isinstance(error, InaccessibleError | AccountDamagedError) and error.reason is not None:
            detail["reason"] = str(error.reason)
        raise HTTPException(status, detail=detail) from None


def _shown(info: ValueInfo) -> dict[str, object]:
    return {
        "kind": str(info.ref.kind),
        "name": info.ref.name,
        "revision": info.revision,
        "createdAt": instant(info.created_at),
        "updatedAt": instant(info.updated_at),
    }
