"""One request and its answer, good luck or bad: where every service of the emulator meets aiohttp."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from byokd.emulator.faults import Fault
from byokd.emulator.vocabulary import FaultKind, Operation
from byokd.emulator.world import World

_PROXY_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>Access Denied</title></head><body><h1>Access Denied</h1>"
    "<p>The requested page is blocked by your organisation's web gateway.</p></body></html>"
)
_DEFAULT_HANG_SECONDS: Final = 3_600.0
_DEFAULT_LATENCY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the services see it. Paths are split at slashes and keep their case."""

    method: str
    host: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    address: str

    def word(self, at: int) -> str:
        """A path segment in lower case; empty when there is none."""
        return self.path[at].lower() if at < len(self.path) else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; `code` is what it is counted under."""

    status: int
    body: Mapping[str, object] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


class Service(Protocol):
    """A part of Azure."""

    @property
    def target(self) -> str:
        """The name under which faults are aimed at it and its calls are counted."""

    def operation(self, asked: Asked) -> Operation:
        """What a request asks for."""

    async def answer(self, asked: Asked, struck: list[Fault]) -> Answer:
        """The answer; `struck` are the faults that change what a genuine answer says."""

    def misfortune(self, status: HTTPStatus, fault: Fault) -> Answer:
        """An error in this service's own shape, for a fault that answers with `status`."""


class Exchange:
    """Serves requests until `stopping` is set, which ends those that hang."""

    def __init__(self, world: World, stopping: asyncio.Event) -> None:
        self._world = world
        self._stopping = stopping

    async def serve(self, request: web.BaseRequest, service: Service) -> web.StreamResponse:
        """Answer one request, or let it suffer."""
        asked = Asked(
            method=request.method,
            host=host_of(request),
            path=tuple(request.path.strip("/").split("/")),
            query=request.query,
            headers=request.headers,
            body=await request.read(),
            address=request.remote or "127.0.0.1",
        )
        operation = service.operation(asked)
        struck = self._world.faults.strike(service.target, operation)
        for fault in struck:
            if fault.kind in (FaultKind.LATENCY, FaultKind.HANG):
                default = _DEFAULT_LATENCY_SECONDS if fault.kind is FaultKind.LATENCY else _DEFAULT_HANG_SECONDS
                await self._pause(default if fault.seconds is None else fault.seconds)
        worst = next((one for one in struck if one.kind is not FaultKind.LATENCY), None)
        if worst is not None and worst.kind in (FaultKind.RESET, FaultKind.HANG):
            self._world.calls.note(service.target, operation, 0, worst.kind)
            return drop(request)
        if worst is not None and worst.kind is FaultKind.PROXY_PAGE:
            status = worst.status or HTTPStatus.FORBIDDEN
            self._world.calls.note(service.target, operation, status, worst.kind)
            headers = {"Server": "squid/5.7", "Via": "1.1 gateway.example (squid/5.7)"}
            return web.Response(status=status, text=_PROXY_PAGE, content_type="text/html", headers=headers)
        error = None if worst is None else _error_status(worst)
        if worst is not None and error is not None:
            answer = service.misfortune(error, worst)
        else:
            answer = await service.answer(asked, struck)
        if worst is not None and worst.kind is FaultKind.TRUNCATED:
            self._world.calls.note(service.target, operation, 0, worst.kind)
            return await _truncated(request, answer)
        self._world.calls.note(service.target, operation, answer.status, answer.code)
        return _response(answer)

    def unknown(self, request: web.BaseRequest) -> web.StreamResponse:
        """Drop a request for a host that is not there: a real one would not even resolve."""
        self._world.calls.note(host_of(request), Operation.UNKNOWN, 0, "unknown_host")
        return drop(request)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def host_of(request: web.BaseRequest) -> str:
    """The host that was asked for, without the port."""
    return request.host.partition(":")[0].lower()


def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection without an answer."""
    transport = request.transport
    if transport is not None:
        plug: socket.socket | None = transport.get_extra_info("socket")
        if plug is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _error_status(fault: Fault) -> HTTPStatus | None:
    status = {
        FaultKind.THROTTLE: HTTPStatus.TOO_MANY_REQUESTS,
        FaultKind.SERVER_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
        FaultKind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
        FaultKind.ANSWER: HTTPStatus(fault.status or HTTPStatus.FORBIDDEN),
    }
    return status.get(fault.kind)


def _response(answer: Answer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return web.json_response(answer.body, status=answer.status, headers=answer.headers)


async def _truncated(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Promise the whole body, send half of it, and hang up."""
    octets = json.dumps(answer.body or {}).encode()
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type = "application/json"
    response.content_length = len(octets)
    await response.prepare(request)
    await response.write(octets[: len(octets) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
