"""The management API on the Unix socket: what the command line's verbs use."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from byokd.domain.accounts import Account, instant
from byokd.domain.identifiers import AccountId, IdentifierInvalidError
from byokd.http.health import Probes
from byokd.ports import Store, StoreUnavailableError
from byokd.runtime.applying import apply_all
from byokd.runtime.checker import Checked
from byokd.runtime.manifest import MAX_CHARS, Format, ManifestInvalidError, read_manifest
from byokd.runtime.registrar import Registrar
from byokd.runtime.scheduler import Scheduler
from byokd.settings import Settings


@dataclass(frozen=True, slots=True)
class Managed:
    """What the API manages."""

    settings: Settings
    store: Store
    registrar: Registrar
    scheduler: Scheduler
    probes: Probes
    http: str

    async def find(self, reference: str) -> Account:
        """Find one account by ARM id or, where it is the only one of that name, by name.

        Raises:
            HTTPException: 404 or 409, with what to do.
        """
        if reference.startswith("/"):
            try:
                account = await self.store.account(AccountId.parse(reference))
            except IdentifierInvalidError as error:
                raise _problem(400, str(error), error.hint) from None
            found = [] if account is None else [account]
        else:
            found = list(await self.store.accounts(name=reference.lower()))
        if not found:
            raise _problem(404, f"there is no account {reference!r}", "byokd accounts list shows all")
        if len(found) > 1:
            raise _problem(409, f"{len(found)} accounts are named {reference!r}", "give the whole ARM id")
        return found[0]


class ApplyRequest(BaseModel):
    """An accounts file, as it is on disk."""

    format: Format
    text: str


Reference = Annotated[str, Query(description="an ARM id, or a name that only one account has")]


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def status(self) -> dict[str, object]:
        return {"http": self.managed.http, **self.managed.probes.report()}

    async def accounts(self) -> list[dict[str, object]]:
        return [shown(account) for account in await self.managed.store.accounts()]

    async def account(self, ref: Reference) -> dict[str, object]:
        return shown(await self.managed.find(ref))

    async def delete(self, ref: Reference) -> dict[str, object]:
        found = await self.managed.find(ref)
        return {"id": str(found.id), "deleted": await self.managed.registrar.delete(found.id)}

    async def apply(self, request: ApplyRequest) -> JSONResponse:
        try:
            specs = await asyncio.to_thread(
                read_manifest,
                request.text,
                request.format,
                allowed_suffixes=self.managed.settings.vaults.allowed_suffixes,
                identities=frozenset(self.managed.settings.identities),
            )
        except ManifestInvalidError as error:
            return JSONResponse({"mistakes": [asdict(mistake) for mistake in error.mistakes]}, status_code=422)
        await self.managed.store.ping()
        results = await apply_all(self.managed.registrar, specs)
        return JSONResponse({"results": [asdict(result) | {"account": str(result.account)} for result in results]})

    async def check(self, ref: Reference) -> dict[str, object]:
        found = await self.managed.find(ref)
        if found.watch is None:
            raise _problem(409, "the account uses the system key", "there is no customer key to check")
        checked = await self.managed.scheduler.check_now(found.watch)
        if checked is None:
            raise _problem(409, "the account's key is not watched any more", "show the account again")
        account = await self.managed.find(str(found.id))
        return {
            "account": shown(account),
            "observations": list(_observations(checked, account)),
            "warnings": [asdict(warning) for warning in checked.decision.warnings],
            "nextCheck": instant(checked.decision.next_due),
        }


def management_application(managed: Managed) -> FastAPI:
    """Make the application that listens on the Unix socket."""
    application = FastAPI(title="byokd management", docs_url=None, redoc_url=None, openapi_url=None)
    application.add_exception_handler(StoreUnavailableError, _store_unavailable)
    application.middleware("http")(_bounded)
    api = _Api(managed)
    application.get("/status")(api.status)
    application.get("/accounts")(api.accounts)
    application.post("/accounts/apply", response_model=None)(api.apply)
    application.get("/account")(api.account)
    application.delete("/account")(api.delete)
    application.post("/account/check")(api.check)
    return application


async def _store_unavailable(_: Request, error: Exception) -> JSONResponse:
    return _answer(503, str(error), error.hint if isinstance(error, StoreUnavailableError) else "")


async def _bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bodies that no accounts file needs, and those that do not say how long they are, before reading them."""
    length = request.headers.get("content-length", None if request.method == "POST" else "0")
    if length is None or "transfer-encoding" in request.headers:
        return _answer(411, "the request does not say how long it is", "send Content-Length, not Transfer-Encoding")
    if not length.isdigit() or int(length) > 2 * MAX_CHARS:
        return _answer(413, "the request is too large", "split it")
    return await call_next(request)


def _observations(checked: Checked, account: Account) -> Iterator[dict[str, object]]:
    for version in checked.watch.versions:
        observation = checked.decision.observations.get(version.id)
        if observation is None:
            continue
        yield {
            "keyIdentifier": str(checked.watch.key.at(version.version)),
            "wrapsAccount": version.id == account.wrapping_version,
            "outcome": str(observation.outcome),
            "reason": None if observation.reason is None else str(observation.reason),
            "message": observation.message,
            "evidence": [asdict(evidence) for evidence in observation.evidence],
            "verdict": str(version.verdict.outcome),
            "confirming": version.verdict.suspicion is not None,
        }


def shown(account: Account) -> dict[str, object]:
    """Give an account as the command line prints it: never a key, wrapped or not."""
    customer_key = account.spec.customer_key
    return {
        "id": str(account.id),
        "name": account.id.name,
        "tenant": account.spec.tenant,
        "location": account.spec.location,
        "state": str(account.state),
        "reason": None if account.reason is None else str(account.reason),
        "message": account.message,
        "since": instant(account.since),
        "unverifiedSince": None if account.unverified_since is None else instant(account.unverified_since),
        "encryption": {
            "type": str(account.encryption),
            "keyIdentifier": None if customer_key is None else str(customer_key.key),
            "currentKeyIdentifier": None if account.current is None else str(account.current),
            "identity": None if customer_key is None else customer_key.identity,
        },
        "generation": account.generation,
        "incarnation": account.incarnation,
        "sequence": account.sequence,
        "createdAt": instant(account.created_at),
        "updatedAt": instant(account.updated_at),
    }


def _answer(status: int, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"detail": {"message": message, "hint": hint}}, status_code=status)


def _problem(status: int, message: str, hint: str) -> HTTPException:
    return HTTPException(status, detail={"message": message, "hint": hint})
