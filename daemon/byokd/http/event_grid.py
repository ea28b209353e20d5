"""`/events/keyvault`: deliveries of Event Grid, from those who may send them. They only make us look sooner."""

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from byokd.domain.signals import DeliveryUnreadableError, read_delivery
from byokd.ports import Clock
from byokd.ports.deliveries import DeliveryKeysUnavailableError, DeliveryTokens
from byokd.runtime.hinting import BudgetSpentError, Hints, Source, StoppingError, WatchesUnknownError
from byokd.runtime.metrics import Metrics
from byokd.settings import EventGridSettings

PATH: Final = "/events/keyvault"
RETRY_SECONDS: Final = 10
"""What a delivery that found all places taken, or us just started, is told to wait; Event Grid has waits of its own."""

TOLD_EVERY_SECONDS: Final = 60.0
"""How often the log tells of refusals of a kind: whoever floods us must not fill the disk as well."""

_log = structlog.get_logger()


class Refusal(StrEnum):
    """Why a delivery was not taken."""

    UNAUTHORIZED = "unauthorized"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    UNREADABLE = "unreadable"
    BUSY = "busy"
    STARTING = "starting"
    """What is watched was not read yet: 200 would end the matter though nobody looks."""
    STOPPING = "stopping"
    """Likewise: nobody would look any more."""
    BUDGET = "budget"
    UNPROVED = "unproved"
    """Its token cannot be judged now: 401 would have Event Grid drop what it delivers."""
    ELSEWHERE = "elsewhere"
    """It went to another path, or by another method: the endpoint of the subscription is mistyped."""
    ORIGIN = "origin"
    """CloudEvents asked for an origin that is not known, and without a credential."""
    BROKEN_OFF = "broken-off"
    """Whoever sends it, or a proxy in between, closed the connection in the middle of it."""
    NO_REQUEST = "no-request"
    """A connection over which no whole request came in time, or that made room for others."""


_STATUS: Final[Mapping[Refusal, int]] = {
    Refusal.UNAUTHORIZED: 401,
    Refusal.TOO_LARGE: 413,
    Refusal.TOO_SLOW: 408,
    Refusal.UNREADABLE: 400,
    Refusal.BUSY: 503,
    Refusal.STARTING: 503,
    Refusal.STOPPING: 503,
    Refusal.BUDGET: 429,
    Refusal.UNPROVED: 503,
    Refusal.ELSEWHERE: 404,
    Refusal.ORIGIN: 403,
    Refusal.BROKEN_OFF: 408,
}
"""Event Grid tries again later, but for 400, 401, 403, 404 and 413, which no repetition mends."""


class _RefusedError(Exception):
    def __init__(self, why: Refusal, *, retry_after: int | None = None, source: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after = retry_after
        self.source = source


@dataclass(slots=True)
class Deliveries:
    """Takes deliveries: who sends them, whether there is room, what they say."""

    hints: Hints
    secrets: Mapping[str, bytes]
    tokens: DeliveryTokens
    clock: Clock
    metrics: Metrics
    settings: EventGridSettings
    _running: Counter[str] = field(default_factory=Counter)
    _told: dict[Refusal, float] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        """Answer a delivery: 200 once all of it was taken."""
        try:
            return await self._taken(request)
        except _RefusedError as refusal:
            headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
            if refusal.why is Refusal.UNAUTHORIZED:
                headers["WWW-Authenticate"] = "Bearer"
            return self.refuse(refusal.why, source=refusal.source, headers=headers)

    async def agree(self, request: Request) -> Response:
        """Answer whether we take events in the CloudEvents schema, which asks before it delivers. Nobody is called."""
        origin = request.headers.get("webhook-request-origin", "").lower()
        if origin not in self.settings.origins:
            try:
                await self._source(request)
            except _RefusedError:
                return self.refuse(Refusal.ORIGIN)
        rate = request.headers.get("webhook-request-rate")
        allowed = {"WebHook-Allowed-Origin": origin, "Allow": "POST"}
        return Response(status_code=200, headers=allowed if rate is None else {**allowed, "WebHook-Allowed-Rate": "*"})

    def refuse(self, why: Refusal, *, source: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
        """Say why something was not taken: to who sent it, in a metric and, now and then, in the log."""
        self.note(why, source=source)
        return JSONResponse({"refused": why}, status_code=_STATUS[why], headers=headers)

    def note(self, why: Refusal, *, source: str | None = None) -> None:
        """Count what was not taken, and tell of the first of its kind in a while."""
        self.metrics.deliveries_refused.labels(why).inc()
        now = self.clock.monotonic()
        if now - self._told.get(why, -TOLD_EVERY_SECONDS) >= TOLD_EVERY_SECONDS:
            self._told[why] = now
            _log.warning("delivery-refused", why=why, source=source)

    async def _taken(self, request: Request) -> Response:
        source = await self._source(request)
        if self._is_full(source):
            raise _RefusedError(Refusal.BUSY, retry_after=RETRY_SECONDS, source=source.name)
        self._running[source.name] += 1
        try:
            delivery = read_delivery(await self._document(request))
            if delivery.validation_code is not None:
                _log.info("subscription-validated", source=source.name)
                return JSONResponse({"validationResponse": delivery.validation_code})
            self.hints.take(source, delivery.signals, passed_over=delivery.passed_over)
        except DeliveryUnreadableError:
            raise _RefusedError(Refusal.UNREADABLE, source=source.name) from None
        except WatchesUnknownError:
            raise _RefusedError(Refusal.STARTING, retry_after=RETRY_SECONDS, source=source.name) from None
        except StoppingError:
            raise _RefusedError(Refusal.STOPPING, retry_after=RETRY_SECONDS, source=source.name) from None
        except BudgetSpentError as spent:
            raise _RefusedError(Refusal.BUDGET, retry_after=spent.retry_after, source=source.name) from None
        except _RefusedError as refusal:
            refusal.source = source.name
            raise
        finally:
            self._running[source.name] -= 1
        return Response(status_code=200)

    def _is_full(self, source: Source) -> bool:
        """Whether all places are taken, or half of them by this source where there are others."""
        places, others = self.settings.concurrency, len(self.hints.webhooks) > 1
        of_one = max(1, places // 2) if others else places
        return self._running.total() >= places or self._running[source.name] >= of_one

    async def _source(self, request: Request) -> Source:
        """Tell who sends it, before anything of the body is read. Every source's secret is compared, in equal time."""
        known: Source | None = None
        refusal = _RefusedError(Refusal.UNAUTHORIZED)
        for name, source in self.hints.webhooks.items():
            try:
                if self._shows_secret(request, name, source) and await self._shows_token(request, source):
                    known = source
            except DeliveryKeysUnavailableError:
                refusal = _RefusedError(Refusal.UNPROVED, retry_after=RETRY_SECONDS, source=name)
        if known is None:
            raise refusal
        return known

    def _shows_secret(self, request: Request, name: str, source: Source) -> bool:
        settings = source.settings
        if settings.secret_file is None:
            return True
        shown = request.headers.get(settings.secret_header)
        if shown is None and settings.secret_in_query:
            shown = request.query_params.get("code")
        return hmac.compare_digest((shown or "").encode(), self.secrets[name])

    async def _shows_token(self, request: Request, source: Source) -> bool:
        settings = source.settings
        if settings.tenant is None or settings.audience is None or settings.application is None:
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return False
        return await self.tokens.are_from(
            token,
            authority=settings.authority,
            tenant=settings.tenant,
            audience=settings.audience,
            application=settings.application,
        )

    async def _document(self, request: Request) -> object:
        try:
            async with asyncio.timeout(self.settings.body_timeout.total_seconds()):
                body = await self._body(request)
        except TimeoutError:
            raise _RefusedError(Refusal.TOO_SLOW) from None
        except ClientDisconnect:
            raise _RefusedError(Refusal.BROKEN_OFF) from None
        try:
            document: object = json.loads(body)
        except (ValueError, RecursionError):
            raise _RefusedError(Refusal.UNREADABLE) from None
        return document

    async def _body(self, request: Request) -> bytes:
        announced, most = request.headers.get("content-length", ""), self.settings.max_body_bytes
        if announced.isdecimal() and (len(announced) > len(str(most)) or int(announced) > most):
            raise _RefusedError(Refusal.TOO_LARGE)
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _RefusedError(Refusal.TOO_LARGE)
            parts.append(part)
        return b"".join(parts)


def event_grid_application(deliveries: Deliveries) -> FastAPI:
    """Make the application that Event Grid delivers to."""
    application = FastAPI(title="byokd", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @application.post(PATH)
    async def take(request: Request) -> Response:
        return await deliveries.take(request)

    @application.options(PATH)
    async def agree(request: Request) -> Response:
        return await deliveries.agree(request)

    @application.exception_handler(404)
    async def elsewhere(_request: Request, _error: Exception) -> Response:
        return deliveries.refuse(Refusal.ELSEWHERE)

    @application.exception_handler(405)
    async def otherwise(_request: Request, _error: Exception) -> Response:
        deliveries.note(Refusal.ELSEWHERE)
        return JSONResponse({"refused": Refusal.ELSEWHERE}, status_code=405, headers={"Allow": "POST, OPTIONS"})

    return application
