"""A listener for deliveries over a real connection, and what came of what it was told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp

from byokd.domain.identifiers import VaultHost, WatchId
from byokd.http.event_grid import PATH, Deliveries, Refusal, event_grid_application
from byokd.http.server import HttpTask, listen_tcp
from byokd.http.waiting import WaitingRoom
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
    waiting: set[WatchId] = field(default_factory=set)
    knows_watches: bool = True

    def watches_of(self, host: VaultHost, *, key: str | None) -> list[WatchId]:
        return [WatchId(1)] if (host, key) == (HOST, "media") else []

    def hint(self, watch: WatchId) -> None:
        self.hinted.append(watch)

    def is_hinted(self, watch: WatchId) -> bool:
        return watch in self.waiting


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
    hints: Hints

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
async def webhook(
    tmp_path: Path,
    *,
    source: dict[str, Any] | None = None,
    others: dict[str, str] | None = None,
    **changes: Any,  # noqa: ANN401 - of settings
) -> AsyncIterator[Webhook]:
    secret = tmp_path / "contoso.secret"
    secret.write_text(SECRET + "\n")
    one = SourceSettings(**{"secret_file": secret, "vaults": (HOST,), **(source or {})})
    sources = {"contoso": one}
    for name, word in (others or {}).items():
        (tmp_path / name).write_text(word)
        sources[name] = SourceSettings(secret_file=tmp_path / name, vaults=(HOST,))
    settings = EventGridSettings(sources=sources, **changes)
    looking, metrics, clock = Looking(), Metrics(), SystemClock()
    scheduler = cast("Scheduler", looking)
    hints = Hints(scheduler, clock=clock, metrics=metrics, settings=settings, suffixes=("vault.azure.net",))
    deliveries = Deliveries(hints, read_secrets(settings), NoTokens(), clock, metrics, settings)
    with listen_tcp("127.0.0.1:0", setting="event_grid.listen") as listener:
        port = listener.getsockname()[1]
        room = WaitingRoom(
            most=settings.waiting,
            seconds=settings.head_timeout.total_seconds(),
            turned_away=lambda: deliveries.note(Refusal.NO_REQUEST),
        )
        serving = HttpTask(event_grid_application(deliveries), listener, room=room)
        task = asyncio.create_task(serving.run())
        async with aiohttp.ClientSession() as session:
            yield Webhook(f"http://127.0.0.1:{port}", session, looking, metrics, hints)
        await serving.stop()
        await task
