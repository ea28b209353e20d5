"""Event Grid, as the emulator plays it, against the daemon's own process."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from byokd.demo.hints import PATH
from byokd.demo.processes import byokd_command, child
from byokd.demo.stage import DELIVERY_FILE, Stage
from byokd.emulator import ControlError
from parts.waiting import eventually
from service.support import VAULT, apply, byokd, customer, manifest, plain_environment
from service.test_process import daemon, settings, status

TENANT = "3f0c2f8e-0000-4000-8000-000000000001"
ACCOUNT = (
    "/subscriptions/3f0c2f8e-0000-4000-8000-00000000beef/resourceGroups/media"
    "/providers/Microsoft.Media/mediaservices/one"
)


async def hints(stage: Stage, outcome: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{stage.health_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    name = f'byokd_hints_total{{outcome="{outcome}",source="azure"}} '
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@pytest.mark.parametrize("schema", ["EventGridSchema", "CloudEventSchemaV1_0"])
async def test_a_subscription_is_agreed_to_and_its_events_are_followed_once(stage: Stage, schema: str) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    endpoint = f"http://{(await stage.service.ask('/status'))['eventGrid']}{PATH}"
    secret = (stage.directory / DELIVERY_FILE).read_text()
    await stage.control.create_subscription(
        VAULT, "byokd", endpoint, schema=schema, headers={"x-byokd-secret": secret}, wait_scale=0.001
    )
    await stage.control.set_fault("event-grid", "duplicate")
    await stage.control.rotate_key(VAULT, "media")

    async def is_followed() -> bool:
        return (await hints(stage, "followed"), await hints(stage, "repeated")) == (1.0, 1.0)

    await eventually(is_followed)
    log = stage.service.log.read_text()
    assert secret not in log


async def test_during_reloads_every_delivery_is_followed_and_no_watched_key_is_nobodys(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    endpoint = f"http://{(await stage.service.ask('/status'))['eventGrid']}{PATH}"
    headers = {"x-byokd-secret": (stage.directory / DELIVERY_FILE).read_text()}
    answers: list[int] = []
    over = asyncio.Event()

    async def deliver() -> None:
        async with aiohttp.ClientSession(headers=headers) as session:
            while not over.is_set():
                data = {"VaultName": VAULT, "ObjectName": "media"}
                one = {
                    "id": str(len(answers)),
                    "eventType": "Microsoft.KeyVault.KeyNewVersionCreated",
                    "dataVersion": "1",
                    "data": data,
                }
                async with session.post(endpoint, json=[one]) as response:
                    answers.append(response.status)

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver())
        for _ in range(4):
            assert (await byokd("reload", environment=stage.environment)).code == 0
        over.set()
    assert set(answers) == {200}
    assert (await hints(stage, "followed"), await hints(stage, "unknown")) == (len(answers), 0)


async def test_what_comes_during_a_stop_is_told_to_come_again(tmp_path: Path) -> None:
    # Without a broker an event waits, and the stop for it: until publish_grace is over.
    path, secret = settings(tmp_path), "long-enough-to-be-a-secret"
    (tmp_path / "secret").write_text(secret)
    source = f'\n[event_grid.sources.azure]\nsecret_file = "{tmp_path}/secret"\nvaults = ["*.vault.azure.net"]\n'
    path.write_text(f'{path.read_text()}\n[event_grid]\nlisten = "127.0.0.1:0"\n{source}')
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(
        f'[[accounts]]\nid = "{ACCOUNT}"\ntenant = "{TENANT}"\nlocation = "westeurope"\nencryption.type = "SystemKey"\n'
    )
    asking = plain_environment() | {"BYOKD_SOCKET": str(tmp_path / "api.sock")}
    one = {"id": "1", "eventType": "Microsoft.KeyVault.KeyNewVersionCreated", "data": {"VaultName": VAULT}}
    answers: list[int] = []
    async with daemon(path) as (process, log), aiohttp.ClientSession(headers={"x-byokd-secret": secret}) as session:

        async def is_applied() -> bool:
            return (await byokd("accounts", "apply", "-f", str(accounts), environment=asking)).code == 0

        await eventually(is_applied)
        endpoint = f"http://{(await status(tmp_path))['eventGrid']}{PATH}"

        async def deliver() -> int:
            async with session.post(endpoint, json=[one]) as response:
                return response.status

        assert await deliver() == 200
        process.send_signal(signal.SIGTERM)
        with suppress(aiohttp.ClientError):
            while process.returncode is None:
                answers.append(await deliver())
        assert await process.wait() == 0
    # Not a single one is taken once it stops; before it has heard of that it takes some.
    assert 503 in answers
    assert set(answers[answers.index(503) :]) == {503}
    assert "Traceback" not in log.read_text()


async def test_without_the_secret_no_delivery_is_taken(stage: Stage) -> None:
    await customer(stage)
    endpoint = f"http://{(await stage.service.ask('/status'))['eventGrid']}{PATH}"
    with pytest.raises(ControlError):
        await stage.control.create_subscription(VAULT, "forged", endpoint, headers={"x-byokd-secret": "guessed"})
    async with asyncio.timeout(10), aiohttp.ClientSession() as session, session.get(endpoint) as response:
        assert response.status == 405
    refused = [line["why"] for line in stage.service.logged() if line["event"] == "delivery-refused"]
    assert refused == ["unauthorized", "elsewhere"]


async def test_the_first_source_needs_a_restart_and_a_bad_one_is_named(tmp_path: Path) -> None:
    path, socket = settings(tmp_path), tmp_path / "api.sock"
    good = path.read_text()
    asking = plain_environment() | {"BYOKD_SOCKET": str(socket)}
    secret = tmp_path / "secret"
    source = f'\n[event_grid.sources.azure]\nsecret_file = "{secret}"\nvaults = ["*.vault.azure.net"]\n'
    command = byokd_command("run", "--settings", str(path))
    async with child(command, log=tmp_path / "log", environment=plain_environment()):

        async def has_started() -> bool:
            return (await byokd("reload", environment=asking)).code == 0

        await eventually(has_started)
        path.write_text(good + source)
        missing = await byokd("reload", environment=asking)
        assert missing.code == 1
        assert "[event_grid.sources.azure] secret_file: cannot be read" in missing.err
        secret.write_text("short")
        assert "is too short" in (await byokd("reload", environment=asking)).err
        secret.write_text("long enough to be a secret"[:16].replace(" ", "-"))
        first = await byokd("reload", environment=asking)
        assert (first.code, "needs a restart" in first.err) == (1, True)
