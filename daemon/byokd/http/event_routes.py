"""The management API's route about events: what was committed, line by line, and then what is."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import APIRouter, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from byokd.domain.identifiers import AccountId, IdentifierInvalidError
from byokd.domain.vocabulary import EventType
from byokd.http.managed import Managed, problem
from byokd.ports import StoreUnavailableError
from byokd.records import OutboxRow
from byokd.runtime.envelope import cloud_event
from byokd.runtime.since import SinceInvalidError, parse_since
from byokd.runtime.tailing import Tailing, TooManyWatchersError


class _Watched(StreamingResponse):
    """Takes a place for as long as it is sent, whatever ends that."""

    def __init__(self, lines: AsyncIterator[bytes], *, tailing: Tailing) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._tailing = tailing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._tailing.place():
                await super().__call__(scope, receive, send)
        except TooManyWatchersError as error:
            detail = {"message": str(error), "hint": "end one of them, or read the events from the bus"}
            await JSONResponse({"detail": detail}, status_code=503)(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Api:
    managed: Managed
    tailing: Tailing

    async def events(
        self,
        since: str | None = None,
        account: str | None = None,
        type: EventType | None = None,  # noqa: A002 - the name of the parameter
        live: bool = True,  # noqa: FBT001, FBT002 - a parameter of a request
    ) -> StreamingResponse:
        stream = None if account is None else await self._stream(account)
        try:
            begin = None if since is None else parse_since(since, now=self.managed.probes.clock.now())
        except SinceInvalidError as error:
            raise problem(400, str(error), error.hint) from None
        after = await self.tailing.start(begin, live=live)
        lines = self._lines(after, stream=stream, event_type=type, live=live)
        return _Watched(lines, tailing=self.tailing)

    async def _stream(self, reference: str) -> str:
        """Name the stream of an account; by its whole ARM id also of one that was deleted, whose events are kept."""
        if reference.startswith("/"):
            try:
                return AccountId.parse(reference).topic
            except IdentifierInvalidError as error:
                raise problem(400, str(error), error.hint) from None
        try:
            return (await self.managed.find(reference)).id.topic
        except HTTPException as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            hint = "byokd accounts list shows all; one that was deleted is named by its whole ARM id"
            raise problem(404, f"there is no account {reference!r}", hint) from None

    async def _lines(
        self, after: int, *, stream: str | None, event_type: EventType | None, live: bool
    ) -> AsyncIterator[bytes]:
        # The watcher must see at once that it watches.
        yield b"\n"
        try:
            async for rows in self.tailing.pages(after, stream=stream, live=live):
                for row in rows:
                    if event_type is None or row.type == event_type:
                        yield self._line(row)
        except StoreUnavailableError as error:
            yield json.dumps({"error": str(error), "hint": error.hint}).encode() + b"\n"

    def _line(self, row: OutboxRow) -> bytes:
        event = cloud_event(row, prefix=self.managed.settings.mqtt.topic_prefix) | {"number": row.number}
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def event_routes(managed: Managed, tailing: Tailing) -> APIRouter:
    """Give the route about events."""
    router, api = APIRouter(), _Api(managed, tailing)
    router.get("/events", response_model=None)(api.events)
    return router
