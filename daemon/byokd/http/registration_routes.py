"""The management API's routes that bring accounts to a key: an accounts file applied, an account repaired."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import IdentifierInvalidError, parse_tenant
from byokd.http.managed import Managed, Reference, problem
from byokd.runtime.applying import Told, apply_all
from byokd.runtime.identity_references import IdentityReferenceError, find_identity
from byokd.runtime.manifest import Format, ManifestInvalidError, read_manifest
from byokd.runtime.registrar import Result
from byokd.settings.identities import names_by_resource_id

_LINES = "application/x-ndjson"


class ApplyRequest(BaseModel):
    """An accounts file, as it is on disk."""

    format: Format
    text: str


class RepairRequest(BaseModel):
    """What an account is to have from now on; null leaves what it has."""

    identity: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def apply(self, request: ApplyRequest, http: Request) -> Response:
        """Apply a file; to who accepts lines, tell of it on the way."""
        try:
            specs = await asyncio.to_thread(
                read_manifest,
                request.text,
                request.format,
                allowed_suffixes=self.managed.settings.vaults.allowed_suffixes,
                identities=frozenset(self.managed.settings.identities),
                resource_ids=names_by_resource_id(self.managed.settings.identities),
            )
        except ManifestInvalidError as error:
            return JSONResponse({"mistakes": [asdict(mistake) for mistake in error.mistakes]}, status_code=422)
        await self.managed.store.ping()
        if _LINES in http.headers.get("accept", ""):
            return StreamingResponse(self._lines(specs), media_type=_LINES)
        return JSONResponse({"results": [_document(result) for result in await self._applied(specs)]})

    async def _applied(self, specs: Sequence[AccountSpec], tell: Told = lambda _: None) -> list[Result]:
        managed = self.managed
        wait = managed.settings.registration.wait_for_grant
        return await apply_all(managed.registrar, specs, clock=managed.probes.clock, wait_for_grant=wait, tell=tell)

    async def _lines(self, specs: Sequence[AccountSpec]) -> AsyncIterator[bytes]:
        """Give `waiting` before each wait, each `result`, and last how many are `applied`.

        Who does not listen any more ends it: no account is half done.
        """
        told: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()

        def tell(news: Result | int) -> None:
            if isinstance(news, int):
                told.put_nowait({"waiting": news})

        async with asyncio.TaskGroup() as group:
            applying = group.create_task(self._applied(specs, tell), name="apply")
            applying.add_done_callback(lambda _: told.put_nowait(None))
            while (news := await told.get()) is not None:
                yield _line(news)
        results = applying.result()
        for result in results:
            yield _line({"result": _document(result)})
        yield _line({"applied": len(results)})

    async def repair(self, ref: Reference, request: RepairRequest) -> dict[str, object]:
        """Give an Inaccessible account another identity or tenant."""
        found = await self.managed.find(ref)
        known = self.managed.settings.identities
        identity, tenant = None, None
        try:
            if request.identity is not None:
                identity = find_identity(request.identity, known, names_by_resource_id(known))
            if request.tenant is not None:
                tenant = parse_tenant(request.tenant)
        except (IdentityReferenceError, IdentifierInvalidError) as error:
            raise problem(400, str(error), error.hint) from None
        return _document(await self.managed.repairer.repair(found, identity=identity, tenant=tenant))


def registration_routes(managed: Managed) -> APIRouter:
    """Give the routes."""
    router, api = APIRouter(), _Api(managed)
    router.post("/accounts/apply", response_model=None)(api.apply)
    router.post("/account/repair")(api.repair)
    return router


def _document(result: Result) -> dict[str, object]:
    return asdict(result) | {"account": str(result.account)}


def _line(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
