"""Deliveries over a real connection: who may send them, both handshakes, and what too much of them costs."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from byokd.domain.identifiers import WatchId
from byokd.http.event_grid import PATH
from webhook.support import HOST, SECRET, VALIDATION, rotated, webhook


async def test_a_delivery_with_the_secret_is_followed(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        assert await hook.post([rotated(), rotated(2)]) == 200
        assert await hook.post({"specversion": "1.0", **rotated(3), "type": rotated()["eventType"]}) == 200
        assert await hook.post([rotated(3)]) == 200
        assert hook.looking.hinted == [WatchId(1)] * 3, "the last came twice"


@pytest.mark.parametrize("secret", [None, "", "s", SECRET[:-1], SECRET + "x", "\u00e4"])
async def test_without_the_secret_nothing_is_read_or_told(tmp_path: Path, secret: str | None) -> None:
    async with webhook(tmp_path) as hook:
        with capture_logs() as logs:
            for body in ([rotated()], [{"eventType": VALIDATION, "data": {"validationCode": "C0DE"}}], b"\xff" * 100):
                assert await hook.post(body, secret=secret) == 401
                assert hook.answer == {"refused": "unauthorized"}
        assert hook.looking.hinted == []
        assert (hook.refused("unauthorized"), len(logs)) == (3, 1), "the log is not flooded"
        assert await hook.post([rotated()], secret=None, path=f"{PATH}?code={SECRET}") == 401


async def test_a_secret_in_the_address_is_taken_where_that_is_allowed_and_never_told(tmp_path: Path) -> None:
    async with webhook(tmp_path, source={"secret_in_query": True}) as hook:
        with capture_logs() as logs:
            assert await hook.post([rotated()], secret=None, path=f"{PATH}?code={SECRET}") == 200
            assert await hook.post(b"{", secret=None, path=f"{PATH}?code={SECRET}") == 400
        assert SECRET not in str(logs)
        assert [log["event"] for log in logs] == ["delivery-refused"]


async def test_a_token_may_be_wanted_beside_the_secret_or_in_its_place(tmp_path: Path) -> None:
    guid = "0f8fad5b-d9cb-469f-a165-70867728950e"
    both = {"tenant": guid, "audience": "api://byokd", "application": guid}
    async with webhook(tmp_path, source=both) as hook:
        assert await hook.post([rotated()]) == 401
        assert await hook.post([rotated()], Authorization="Bearer bad") == 401
        assert await hook.post([rotated()], secret="wrong", Authorization="Bearer good") == 401
        assert await hook.post([rotated()], Authorization="Bearer good") == 200
        assert await hook.post([rotated()], Authorization="Bearer not now") == 503
    async with webhook(tmp_path, source={**both, "secret_file": None}) as hook:
        assert await hook.post([rotated()], secret=None, Authorization="Bearer good") == 200


async def test_event_grids_handshake_is_answered_for_who_may_deliver(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        data = {"validationCode": "C0DE", "validationUrl": f"{hook.url}/never-fetched"}
        sent = await hook.post([{"id": "1", "eventType": VALIDATION, "data": data}], **{"aeg-event-type": "x"})
        assert (sent, hook.answer) == (200, {"validationResponse": "C0DE"})


@pytest.mark.parametrize(("origin", "status"), [("eventgrid.azure.net", 200), ("evil.example.com", 403), ("", 403)])
async def test_the_handshake_of_cloud_events_is_answered_for_known_origins(
    tmp_path: Path, origin: str, status: int
) -> None:
    async with webhook(tmp_path) as hook:
        headers = {"WebHook-Request-Origin": origin, "WebHook-Request-Rate": "120"}
        headers["WebHook-Request-Callback"] = f"{hook.url}/never-called"
        async with hook.session.options(f"{hook.url}{PATH}", headers=headers) as answer:
            assert answer.status == status
            allowed = (answer.headers.get("WebHook-Allowed-Origin"), answer.headers.get("WebHook-Allowed-Rate"))
        assert allowed == ((origin, "*") if status == 200 else (None, None))
        assert hook.looking.hinted == []


async def test_any_origin_may_ask_that_shows_a_credential(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        for secret, status in ((SECRET, 200), ("wrong", 403)):
            headers = {"WebHook-Request-Origin": "elsewhere.example.com", "x-byokd-secret": secret}
            async with hook.session.options(f"{hook.url}{PATH}", headers=headers) as answer:
                assert answer.status == status
        assert hook.refused("origin") == 1


@pytest.mark.parametrize(("method", "path"), [("POST", f"{PATH}/"), ("POST", "/"), ("GET", PATH), ("PUT", "/events")])
async def test_what_goes_elsewhere_is_told(tmp_path: Path, method: str, path: str) -> None:
    async with webhook(tmp_path) as hook:
        with capture_logs() as logs:
            async with hook.session.request(method, f"{hook.url}{path}", allow_redirects=False) as answer:
                assert answer.status == (404 if path != PATH else 405)
                assert await answer.json() == {"refused": "elsewhere"}
        assert (hook.refused("elsewhere"), [log["why"] for log in logs]) == (1, ["elsewhere"])


async def test_what_is_no_event_among_events_is_passed_over(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        assert await hook.post([7, rotated(), {}, None, {"data": None}]) == 200
        assert hook.looking.hinted == [WatchId(1)]
        ignored = {"source": "contoso", "outcome": "ignored"}
        assert hook.metrics.registry.get_sample_value("byokd_hints_total", ignored) == 4


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'"x"', b"[1]", b"[]"])
async def test_what_cannot_be_read_is_refused_for_good(tmp_path: Path, body: bytes) -> None:
    async with webhook(tmp_path) as hook:
        assert await hook.post(body) == 400


async def test_what_is_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    async with webhook(tmp_path, max_body_bytes=10_000) as hook:
        assert await hook.post([{**rotated(), "filler": "x" * 9_000}]) == 200
        assert await hook.post([{**rotated(), "filler": "x" * 11_000}]) == 413
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100_000_000:
                sent += 10_000
                yield b"x" * 10_000

        headers = {"x-byokd-secret": SECRET}
        with suppress(aiohttp.ClientError):
            async with hook.session.post(f"{hook.url}{PATH}", data=endless(), headers=headers) as answer:
                assert answer.status == 413
        assert hook.refused("too-large") == 2
        assert sent < 50_000_000


async def test_a_slow_one_is_given_up_and_those_beyond_the_places_come_again_later(tmp_path: Path) -> None:
    async with webhook(tmp_path, concurrency=2, body_timeout=timedelta(seconds=1)) as hook:
        started = asyncio.Semaphore(0)

        async def slowly() -> AsyncIterator[bytes]:
            yield b"["
            started.release()
            await asyncio.sleep(30)

        async def slow() -> int:
            headers = {"x-byokd-secret": SECRET}
            async with hook.session.post(f"{hook.url}{PATH}", data=slowly(), headers=headers) as answer:
                return answer.status

        two = [asyncio.create_task(slow()) for _ in range(2)]
        for _ in two:
            await started.acquire()
        busy = await hook.post([rotated()])
        while busy == 200:  # the server may not have begun to read both
            busy = await hook.post([rotated()])
        assert (busy, hook.headers["Retry-After"]) == (503, "10")
        assert await asyncio.gather(*two) == [408, 408]
        assert await hook.post([rotated()]) == 200


async def test_a_slow_source_leaves_the_others_half_of_the_places(tmp_path: Path) -> None:
    async with (
        webhook(tmp_path, others={"other": "another-secret-of-16"}, concurrency=4) as hook,
        AsyncExitStack() as stack,
    ):
        host, port = hook.url.removeprefix("http://").split(":")
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-byokd-secret: {SECRET}\r\ncontent-length: 9\r\n\r\n["
        for _ in range(6):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(head.encode())
        async with asyncio.timeout(10):
            while await hook.post([rotated()]) == 200:
                pass  # the server may not have begun to read all
        assert hook.answer == {"refused": "busy"}
        assert await hook.post([rotated(2)], secret="another-secret-of-16") == 200


async def test_before_it_is_known_what_is_watched_a_delivery_comes_again_later(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        hook.looking.knows_watches = False
        assert await hook.post([rotated()]) == 503
        assert (hook.answer, hook.headers["Retry-After"]) == ({"refused": "starting"}, "10")
        assert await hook.post([{"eventType": VALIDATION, "data": {"validationCode": "C0DE"}}]) == 200
        hook.looking.knows_watches = True
        assert await hook.post([rotated()]) == 200
        assert (hook.looking.hinted, hook.refused("starting")) == ([WatchId(1)], 1)


@pytest.mark.parametrize("length", [1_114_113, 10**19])
async def test_a_body_that_announces_too_much_is_not_waited_for(tmp_path: Path, length: int) -> None:
    async with webhook(tmp_path, body_timeout=timedelta(minutes=5)) as hook, asyncio.timeout(10):
        host, port = hook.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-byokd-secret: {SECRET}\r\ncontent-length: {length}\r\n\r\n["
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"413"
        assert hook.refused("too-large") == 1
        writer.close()


async def test_halves_of_characters_hold_up_nothing(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        odd = json.dumps([{**rotated(), "id": "\ud800"}, rotated(2)]).encode()
        assert await hook.post(odd) == 200
        assert hook.looking.hinted == [WatchId(1), WatchId(1)]
        asked = json.dumps([{"eventType": VALIDATION, "data": {"validationCode": "\ud800"}}]).encode()
        assert await hook.post(asked) == 200


async def test_while_it_stops_a_delivery_comes_again_later(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        hook.hints.stop()
        assert await hook.post([rotated()]) == 503
        assert (hook.answer, hook.headers["Retry-After"]) == ({"refused": "stopping"}, "10")
        assert (hook.looking.hinted, hook.refused("stopping")) == ([], 1)


async def test_those_who_connect_and_say_nothing_do_not_keep_the_others_out(tmp_path: Path) -> None:
    async with webhook(tmp_path, waiting=16, head_timeout=timedelta(seconds=30)) as hook, AsyncExitStack() as stack:
        host, port = hook.url.removeprefix("http://").split(":")
        for _ in range(40):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(b"POST /events/keyvault HTTP/1.1\r\nx: ")
        assert await hook.post([rotated()]) == 200
        assert hook.refused("no-request") >= 24
        assert hook.refused("busy") == 0
        del reader


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /events/keyvault HTTP/1.1\r\nx: ",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT",
    ],
)
async def test_a_connection_over_which_no_request_comes_to_its_end_is_closed(tmp_path: Path, sent: bytes) -> None:
    async with webhook(tmp_path, head_timeout=timedelta(seconds=0.3)) as hook, asyncio.timeout(4):
        host, port = hook.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        with suppress(ConnectionError):
            while await reader.read(10_000):
                pass
        writer.close()
        assert hook.refused("no-request") == 1


async def pour(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        await writer.drain()


async def test_what_pours_on_after_a_refusal_is_not_read_for_ever(tmp_path: Path) -> None:
    async with webhook(tmp_path, head_timeout=timedelta(seconds=0.3)) as hook, asyncio.timeout(20):
        host, port = hook.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /events/keyvault HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            await pour(writer)
        assert (hook.refused("unauthorized"), hook.refused("no-request")) == (1, 1)


async def test_who_breaks_off_is_no_defect_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with webhook(tmp_path) as hook:
        host, port = hook.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-byokd-secret: {SECRET}\r\ncontent-length: 100\r\n\r\n["
        writer.write(head.encode())
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while not hook.refused("broken-off"):
                assert await hook.post([rotated()]) == 200
        assert not [one for one in caplog.records if one.name.startswith("uvicorn") and one.levelno >= logging.WARNING]


async def test_a_source_that_asks_for_too_much_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with webhook(tmp_path, source={"hints_per_minute": 30}) as hook:
        assert await hook.post([rotated(number) for number in range(100)]) == 429
        assert int(hook.headers["Retry-After"]) == 2
        assert len(hook.looking.hinted) == 30
        refused = {"source": "contoso", "outcome": "refused"}
        assert hook.metrics.registry.get_sample_value("byokd_hints_total", refused) == 70


async def test_only_looks_are_charged_to_a_source(tmp_path: Path) -> None:
    async with webhook(tmp_path, source={"hints_per_minute": 1}) as hook:
        unknown = rotated()["data"] | {"ObjectName": "other", "Id": f"https://{HOST}/keys/other/{'0' * 32}"}
        assert await hook.post([{**rotated(number), "data": unknown} for number in range(100)]) == 200
        hook.looking.waiting.add(WatchId(1))
        assert await hook.post([rotated(number) for number in range(100, 200)]) == 200
        hook.looking.waiting.clear()
        assert await hook.post([rotated(200)]) == 200
        assert await hook.post([rotated(201)]) == 429


async def test_a_flood_of_forgeries_costs_no_memory_and_does_not_keep_the_good_ones_out(tmp_path: Path) -> None:
    async with webhook(tmp_path) as hook:
        body = json.dumps([{**rotated(), "filler": "x" * 100_000}]).encode()

        async def forge() -> None:
            for _ in range(50):
                assert await hook.post(body, secret="forged") == 401

        async with asyncio.TaskGroup() as forgers:
            for _ in range(8):
                forgers.create_task(forge())
            for number in range(20):
                assert await hook.post([rotated(number)]) == 200
        assert (hook.refused("unauthorized"), len(hook.looking.hinted)) == (400, 20)


async def test_a_source_that_is_a_queue_opens_no_door_to_deliveries(tmp_path: Path) -> None:
    queue = {"kind": "queue", "queue": "https://contoso.queue.core.windows.net/events", "identity": "platform"}
    async with webhook(tmp_path, source={**queue, "secret_file": None}) as hook:
        for secret in (None, "", SECRET):
            assert await hook.post([rotated()], secret=secret) == 401
        assert hook.looking.hinted == []
