"""What a queue's host may answer, over TLS and through the real SDK: named, bounded, and no way to the token."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from byokd.adapters.eventgrid.queue import SCOPE, AzureEventQueue
from byokd.adapters.keyvault.connections import MAX_BATCH_BYTES
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.ports import TokenUnavailableError
from byokd.ports.queues import QueuedMessage, QueueTrouble, QueueUnavailableError
from byokd.settings import NetworkSettings, VaultSettings
from parts.azurite import HOST
from parts.certificates import server_files
from queues.platform import source

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
MESSAGE = QueuedMessage(id="m", receipt="r", text="x", tries=1)
ELSEWHERE = "elsewhere.queue.core.windows.net"
OF_STORAGE = {"x-ms-request-id": "1", "x-ms-version": "2025-01-05"}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Tokens:
    """Notes what is asked for."""

    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    trouble: Exception | None = None

    async def token(self, identity: IdentityName, *, scope: str, tenant: TenantId, rejected: str | None = None) -> str:
        assert identity == "platform"
        self.asked.append((scope, tenant, rejected))
        if self.trouble is not None:
            raise self.trouble
        return f"token-{len(self.asked)}"


@dataclass(slots=True)
class Host:
    """Stands where storage accounts should, and answers as it is told."""

    queue: AzureEventQueue
    other: AzureEventQueue
    tokens: Tokens
    answer: Answer
    heard: list[tuple[str, str, str]] = field(default_factory=list)

    def says(self, status: int, body: str = "", **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, body=body.encode(), headers=named)

        self.answer = answer

    async def trouble(self, body: Awaitable[object] | None = None) -> tuple[QueueTrouble, str | None, float | None]:
        with pytest.raises(QueueUnavailableError) as raised:
            await (self.queue.receive() if body is None else body)
        return raised.value.trouble, raised.value.code, raised.value.retry_after


@asynccontextmanager
async def hosting(directory: Path) -> AsyncIterator[Host]:
    files = server_files(directory / "tls", HOST, ELSEWHERE)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    host: Host

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers.get("Authorization", "")
        host.heard.append((request.method, f"{request.host}{request.path}", token))
        return await host.answer(request)  # type: ignore[arg-type]

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        address = "{}:{}".format(*runner.addresses[0][:2])
        network = NetworkSettings(ca_file=files.authority, connect_to={"*": address})
        async with Outbound(VaultSettings(), network) as outbound:
            tokens = Tokens()
            queue = AzureEventQueue(source(poison_queue="poison"), outbound.queues, tokens, tenant=TENANT)
            elsewhere = source(f"https://{ELSEWHERE}/events")
            other = AzureEventQueue(elsewhere, outbound.queues, tokens, tenant=TENANT)
            host = Host(queue, other, tokens, answer=serve)  # type: ignore[arg-type]
            yield host
    finally:
        await runner.cleanup()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with hosting(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (401, "InvalidAuthenticationInfo", QueueTrouble.TOKEN_REFUSED),
        (401, "", QueueTrouble.TOKEN_REFUSED),
        (403, "AuthenticationFailed", QueueTrouble.TOKEN_REFUSED),
        (403, "AuthorizationPermissionMismatch", QueueTrouble.NOT_PERMITTED),
        (403, "InsufficientAccountPermissions", QueueTrouble.NOT_PERMITTED),
        (403, "", QueueTrouble.NOT_PERMITTED),
        (403, "AuthorizationFailure", QueueTrouble.NETWORK_BLOCKED),
        (409, "PublicAccessNotPermitted", QueueTrouble.NETWORK_BLOCKED),
        (404, "QueueNotFound", QueueTrouble.MISSING),
        (429, "", QueueTrouble.THROTTLED),
        (503, "ServerBusy", QueueTrouble.THROTTLED),
        (500, "OperationTimedOut", QueueTrouble.THROTTLED),
        (500, "InternalError", QueueTrouble.FAILED),
        (409, "QueueBeingDeleted", QueueTrouble.FAILED),
        (400, "InvalidHeaderValue", QueueTrouble.FAILED),
    ],
)
async def test_every_refusal_has_its_name(host: Host, status: int, code: str, trouble: QueueTrouble) -> None:
    body = "<?xml version='1.0'?><Error><Code>x</Code></Error>"
    host.says(status, body, **OF_STORAGE, x_ms_error_code=code, content_type="application/xml")
    named = (trouble, code or str(status), None)
    assert await host.trouble() == named
    assert await host.trouble(host.queue.peek()) == named
    assert await host.trouble(host.queue.delete(MESSAGE)) == named
    assert await host.trouble(host.queue.set_aside(MESSAGE)) == named
    host.says(status, "<html>denied by the proxy</html>", content_type="text/html")
    assert await host.trouble() == (QueueTrouble.FOREIGN_ANSWER, str(status), None)


@pytest.mark.parametrize(("value", "seconds"), [("17", 17.0), ("soon", None), ("-1", None), ("1" * 7, None)])
async def test_how_long_to_wait_is_taken_from_the_service(host: Host, value: str, seconds: float | None) -> None:
    host.says(503, **OF_STORAGE, x_ms_error_code="ServerBusy", Retry_After=value)
    assert await host.trouble() == (QueueTrouble.THROTTLED, "ServerBusy", seconds)


async def test_a_code_that_is_no_word_is_not_kept(host: Host) -> None:
    host.says(403, **OF_STORAGE, x_ms_error_code="Bearer ey.secret")
    assert await host.trouble() == (QueueTrouble.NOT_PERMITTED, "403", None)


@pytest.mark.parametrize("code", ["MessageNotFound", "PopReceiptMismatch"])
async def test_a_message_that_is_gone_or_somebody_elses_is_deleted_without_ado(host: Host, code: str) -> None:
    host.says(404 if code == "MessageNotFound" else 400, **OF_STORAGE, x_ms_error_code=code)
    await host.queue.delete(MESSAGE)


@pytest.mark.parametrize("body", ["<html/>", "{}", "", "<QueueMessagesList", "<QueueMessagesList/>"])
async def test_a_page_of_somebody_else_is_no_empty_queue(host: Host, body: str) -> None:
    host.says(200, body, content_type="text/html")
    assert (await host.trouble())[0] is QueueTrouble.FOREIGN_ANSWER
    host.says(200, body, **OF_STORAGE, content_type="application/xml")
    if body == "<QueueMessagesList/>":
        assert await host.queue.receive() == []
    elif body == "<QueueMessagesList":
        assert (await host.trouble())[0] is QueueTrouble.FOREIGN_ANSWER


async def test_the_token_follows_no_redirect(host: Host) -> None:
    host.says(307, Location=f"https://{ELSEWHERE}/events", **OF_STORAGE)
    assert await host.trouble() == (QueueTrouble.FOREIGN_ANSWER, "307", None)
    assert [place for _, place, _ in host.heard] == [f"{HOST}/events/messages"]


@pytest.mark.parametrize(
    ("resource", "asks_again"), [("https://storage.azure.com", True), ("https://vault.azure.net", False)]
)
async def test_a_challenge_gets_no_token_for_another_resource_or_tenant(
    host: Host, resource: str, *, asks_again: bool
) -> None:
    other = "https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/oauth2/authorize"
    challenge = f"Bearer authorization_uri={other} resource_id={resource}"
    host.says(401, **OF_STORAGE, WWW_Authenticate=challenge, x_ms_error_code="InvalidAuthenticationInfo")
    assert (await host.trouble())[0] is QueueTrouble.TOKEN_REFUSED
    assert [token for _, _, token in host.heard] == ["Bearer token-1", "Bearer token-2"][: 1 + asks_again]
    await host.trouble()
    assert {asked[:2] for asked in host.tokens.asked} == {(SCOPE, TENANT)}
    # What was not taken is said to be so, that another may be had.
    rejected = [asked[2] for asked in host.tokens.asked]
    assert rejected[:2] == [None, "token-1"]


async def test_without_a_token_nothing_is_sent(host: Host) -> None:
    host.tokens.trouble = TokenUnavailableError("platform", code="CredentialUnavailableError")
    assert await host.trouble() == (QueueTrouble.NO_TOKEN, "CredentialUnavailableError", None)
    assert host.heard == []


async def test_a_flood_of_an_answer_is_cut(host: Host) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers=OF_STORAGE)
        await response.prepare(request)
        while sent < 10 * MAX_BATCH_BYTES:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    host.answer = flood
    assert (await host.trouble())[0] is QueueTrouble.UNREACHABLE
    assert sent < 2 * MAX_BATCH_BYTES


async def test_what_is_compressed_is_not_looked_into(host: Host) -> None:
    host.says(200, "x", **OF_STORAGE, Content_Encoding="gzip")
    assert (await host.trouble())[0] is QueueTrouble.UNREACHABLE


async def test_an_account_that_hangs_keeps_no_other_waiting(host: Host) -> None:
    hanging = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        if request.host == HOST:
            hanging.set()
            await asyncio.Event().wait()
        return web.Response(body=b"<QueueMessagesList/>", headers={**OF_STORAGE, "content-type": "application/xml"})

    host.answer = hang
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(host.queue.delete(MESSAGE)) for _ in range(100)]
        await hanging.wait()
        async with asyncio.timeout(5):
            assert await host.other.receive() == []
        for task in waiting:
            task.cancel()
