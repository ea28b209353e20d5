"""Deliveries over a real connection: who may send them, both handshakes, and what too much of them costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from structlog.testing import capture_logs

from byokd.domain.identifiers import VaultHost, WatchId
from byokd.http.event_grid import PATH, Deliveries, event_grid_application
from byokd.http.server import HttpTask, listen_tcp
from byokd.ports.deliveries import DeliveryKeysUnavailableError
from byokd.runtime.clock import SystemClock
from byokd.runtime.delivery_secrets import read_secrets
from byokd.runtime.hinting import Hints
from byokd.runtime.metrics import Metrics
from byokd.runtime.scheduler import Scheduler
from byokd.settings import EventGridSettings
from byokd.settings.event_grid import SourceSettings

SECRET = "s3cret-of-contoso-0123456789"
HOST = VaultHost("contoso.vault.azure.net")
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"


@dataclass
class Looking:
    """Stands for the scheduler: one key is watched."""

    hinted: list[WatchId] = field(default_factory=list)

    def watches_of(self, host: VaultHost, *, key: str | None) -> list[WatchId]:
        return [WatchId(1)] if (host, key) == (HOST, "media") else []

    def hint(self, watch: WatchId) -> None:
        self.hinted.append(watch)


class NoTokens:
    async def are_from(self, token: str, **_: str) -> bool:
        if token == "not now":
            raise DeliveryKeysUnavailableError
        return token == "good"


@dataclass
class Webhook:
    """A running listener, and what came of what it was told."""

    url: str
    session: aiohttp.ClientSession
    looking: Looking
    metrics: Metrics

    async def post(self, body: object, *, secret: str | None = SECRET, path: str = PATH, **headers: str) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = {} if secret is None else {"x-byokd-secret": secret}
        async with self.session.post(f"{self.url}{path}", data=data, headers={**shown, **headers}) as answer:
            self.answer = await answer.json() if "json" in answer.content_type else await answer.text()
            self.headers = answer.headers
            return answer.status

    def refused(self, why: str) -> float:
        value = self.metrics.registry.get_sample_value("byokd_deliveries_refused_total", {"why": why})
        return value or 0.0


def rotated(number: int = 1) -> dict[str, Any]:
    data = {"VaultName": "contoso", "ObjectName": "media", "Id": f"https://{HOST}/keys/media/{'0' * 32}"}
    return {"id": str(number), "eventType": "Microsoft.KeyVault.KeyNewVersionCreated", "data": data}


@asynccontextmanager
async def webhook(tmp_path: Path, *, source: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Webhook]:  # noqa: ANN401 - of settings
    secret = tmp_path / "contoso.secret"
    secret.write_text(SECRET + "\n")
    one = SourceSettings(**{"secret_file": secret, "vaults": (HOST,), **(source or {})})
    settings = EventGridSettings(sources={"contoso": one}, **changes)
    looking, metrics, clock = Looking(), Metrics(), SystemClock()
    scheduler = cast("Scheduler", looking)
    hints = Hints(scheduler, clock=clock, metrics=metrics, settings=settings, suffixes=("vault.azure.net",))
    deliveries = Deliveries(hints, read_secrets(settings), NoTokens(), clock, metrics, settings)
    with listen_tcp("127.0.0.1:0", setting="event_grid.listen") as listener:
        port = listener.getsockname()[1]
        serving = HttpTask(event_grid_application(deliveries, settings.origins), listener, connections=20)
        task = asyncio.create_task(serving.run())
        async with aiohttp.ClientSession() as session:
            yield Webhook(f"http://127.0.0.1:{port}", session, looking, metrics)
        await serving.stop()
        await task


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


async def test_a_source_that_asks_for_too_much_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with webhook(tmp_path, source={"hints_per_minute": 30}) as hook:
        assert await hook.post([rotated(number) for number in range(100)]) == 429
        assert int(hook.headers["Retry-After"]) == 2
        assert len(hook.looking.hinted) == 30


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
