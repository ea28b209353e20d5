"""The management API on the Unix socket: what the command line's verbs use."""

from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from byokd.domain.identifiers import shortened
from byokd.http.account_routes import account_routes
from byokd.http.brake_routes import brake_routes
from byokd.http.bus_routes import bus_routes
from byokd.http.event_routes import event_routes
from byokd.http.explain_route import explain_route
from byokd.http.key_routes import key_routes
from byokd.http.managed import Managed
from byokd.http.peers import peer_uid
from byokd.http.registration_routes import registration_routes
from byokd.http.reload_route import reload_route
from byokd.http.switching import RELOAD_PATH
from byokd.http.value_routes import value_routes
from byokd.ports import StoreUnavailableError
from byokd.runtime.manifest import MAX_CHARS
from byokd.runtime.tailing import Tailing

_ALWAYS = {"/status", RELOAD_PATH}
"""What is answered also before the start and during the stop; a reload says for itself that it cannot be."""

_log = structlog.get_logger()


def management_application(managed: Managed, tailing: Tailing) -> FastAPI:
    """Make the application that listens on the Unix socket."""
    application = FastAPI(title="byokd management", docs_url=None, redoc_url=None, openapi_url=None)
    application.add_exception_handler(StoreUnavailableError, _store_unavailable)
    application.add_exception_handler(RequestValidationError, _malformed)

    async def _started(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuse what could seal with keys that are not proved yet, or is asked for while all comes to its end."""
        if request.url.path in _ALWAYS or managed.has_started():
            return await call_next(request)
        return _answer(
            503, "the daemon is starting or stopping", "its page /healthz says what it waits for; ask again in a moment"
        )

    application.middleware("http")(_started)
    application.middleware("http")(_told)
    application.middleware("http")(_bounded)

    async def status() -> dict[str, object]:
        return {"http": managed.http, "eventGrid": managed.event_grid, **managed.probes.report(), **managed.inside()}

    application.get("/status")(status)
    application.include_router(account_routes(managed))
    application.include_router(brake_routes(managed))
    application.include_router(bus_routes(managed))
    application.include_router(event_routes(managed, tailing))
    application.include_router(explain_route(managed))
    application.include_router(key_routes(managed))
    application.include_router(registration_routes(managed))
    application.include_router(value_routes(managed))
    application.include_router(reload_route(managed.reloader))
    return application


async def _store_unavailable(_: Request, error: Exception) -> JSONResponse:
    return _answer(503, str(error), error.hint if isinstance(error, StoreUnavailableError) else "")


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request, but never repeat it: there may be a value to protect in it."""
    wrong = error.errors() if isinstance(error, RequestValidationError) else ()
    said = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['type']}" for entry in wrong)
    return _answer(422, f"not a request that is understood: {said}", "are byokd and its daemon of one version?")


async def _told(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Note who asked for anything that changes or reveals something."""
    if request.method != "GET":
        # Not quoted: a log line is JSON, which does that.
        account = request.query_params.get("ref", "")
        call = {"method": request.method, "path": shortened(request.url.path), "account": shortened(account)}
        _log.info("management-call", uid=peer_uid(request), **call)
    return await call_next(request)


async def _bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bodies that no accounts file needs, and those that do not say how long they are, before reading them."""
    length = request.headers.get("content-length", None if request.method == "POST" else "0")
    if length is None or "transfer-encoding" in request.headers:
        return _answer(411, "the request does not say how long it is", "send Content-Length, not Transfer-Encoding")
    if not length.isdigit() or int(length) > 2 * MAX_CHARS:
        return _answer(413, "the request is too large", "split it")
    return await call_next(request)


def _answer(status: int, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"detail": {"message": message, "hint": hint}}, status_code=status)
