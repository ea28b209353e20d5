"""Event Grid by Storage Queue and the daemon's own process: Azure in miniature writes into Azurite, byokd reads it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from byokd.demo.stage import Stage
from parts.azurite import ACCOUNT, HOST, Azurite, azurite
from parts.waiting import eventually
from queues.platform import Platform, both_authorities, platform
from service.support import VAULT, apply, byokd, customer, manifest

pytestmark = [pytest.mark.real("azurite"), pytest.mark.real("iotcore")]

SOURCE = f"""
[event_grid.sources.by-queue]
kind = "queue"
queue = "https://{HOST}/events"
identity = "platform"
vaults = ["*.vault.azure.net"]
poison_queue = "poison"
max_tries = 1
poll_interval = "200 ms"
"""


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Azurite]:
    async with azurite(tmp_path / "azurite") as running:
        yield running


@pytest.fixture
async def site(
    stage: Stage, storage: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    """Whoever owns the storage account, and takes tokens where byokd does."""
    variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
    monkeypatch.setenv(variable, stage.environment[variable])
    async with platform(tmp_path, storage, azure=stage.ca, connect_to=storage.connect_to) as made:
        yield made


def with_queue(stage: Stage, storage: Azurite) -> None:
    """Have byokd read the queue, and poll keys too seldom to notice anything by that."""
    path = stage.directory / "byokd.toml"
    text = path.read_text()
    authorities = both_authorities(stage.directory, stage.ca, storage.files.authority)
    for old, new in (
        ('interval = "1 s"', 'interval = "1 h"'),
        (f'ca_file = "{stage.ca}"', f'ca_file = "{authorities}"'),
        ("connect_to = { ", f'connect_to = {{ "{HOST}" = "{storage.address}", '),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text + SOURCE)


async def health(stage: Stage) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(f"{stage.health_url}/healthz") as response:
        found = (await response.json())["components"].get("event-queues")
    return dict(found or {})


async def doctor(stage: Stage) -> dict[str, str]:
    """What it says of queues."""
    ran = await byokd(
        "doctor", "--settings", str(stage.directory / "byokd.toml"), "--json", environment=stage.environment
    )
    lines = [json.loads(line) for line in ran.out.splitlines()]
    return next((line for line in lines if line.get("what") == "event-queues"), {})


async def test_a_rotation_is_rewrapped_by_a_message_in_the_queue_long_before_the_next_poll(
    stage: Stage, site: Platform, storage: Azurite
) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    with_queue(stage, storage)
    # No queue yet: that is told, and changes nothing else.
    assert (await byokd("reload", environment=stage.environment)).code == 0
    found = await doctor(stage)
    assert (found["grade"], found["found"]) == (
        "bad",
        "the queue of by-queue: there is no such queue (missing, QueueNotFound)",
    )

    async def is_in_trouble() -> bool:
        return (await health(stage)).get("ok") is False

    await eventually(is_in_trouble)
    assert "there is no such queue" in str((await health(stage))["message"])
    async with aiohttp.ClientSession() as session, session.get(f"{stage.health_url}/readyz") as response:
        assert response.status == 200
    await site.make("events", "poison")

    async def is_well() -> bool:
        return (await health(stage)).get("ok") is True

    await eventually(is_well)
    assert (await doctor(stage))["grade"] == "ok"
    await stage.control.create_subscription(
        VAULT,
        "to-queue",
        f"https://{storage.address}/{ACCOUNT}/events",
        endpoint_type="queue",
        ca_file=str(storage.files.authority),
        wait_scale=0.001,
    )
    mark = stage.watcher.mark()
    await site.write("what nobody can read")
    newest = (await stage.control.rotate_key(VAULT, "media"))["newest"]

    def is_rewrapped() -> bool:
        told = stage.watcher.events(since=mark, event_type="byokd.accountkey.rewrapped")
        return any(str(one.data["currentKeyIdentifier"]).endswith(newest) for one in told)

    assert await stage.watcher.until(is_rewrapped, seconds=15) is not None

    async def is_empty() -> bool:
        return not await site.texts("events")

    await eventually(is_empty)
    assert await site.texts("poison") == ["what nobody can read"]
    lines = stage.service.logged()
    assert [line["why"] for line in lines if line["event"] == "queue-in-trouble"] == ["missing"]
    assert [line["why"] for line in lines if line["event"] == "message-set-aside"] == ["unreadable"]
    assert "what nobody can read" not in stage.service.log.read_text()
