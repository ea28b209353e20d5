import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp

from byokd.demo.processes import byokd_command, child
from byokd.demo.stage import Stage, make_service_keys
from parts.waiting import eventually, until
from service.support import VAULT, apply, byokd, customer, manifest, plain_environment

SETTINGS = """\
[service]
socket = "{directory}/api.sock"
[store]
url = "sqlite:///{directory}/{database}"
[service_keys]
directory = "{directory}/keys"
[mqtt]
url = "mqtt://127.0.0.1:1"
[http]
listen = "127.0.0.1:0"
"""


def settings(directory: Path, *, database: str = "byokd.db", keys: bool = True) -> Path:
    path = directory / "byokd.toml"
    path.write_text(SETTINGS.format(directory=directory, database=database))
    if keys:
        make_service_keys(directory / "keys")
    return path


@asynccontextmanager
async def daemon(path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    log = path.parent / "daemon.log"
    async with child(
        byokd_command("run", "--settings", str(path)), log=log, environment=plain_environment()
    ) as process:
        await until(lambda: (path.parent / "api.sock").exists() or process.returncode is not None)
        yield process, log


async def get(url: str, *, host: str | None = None) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Host": host} if host else {}) as response:
        return response.status, await response.text()


async def status(directory: Path) -> dict[str, object]:
    connector = aiohttp.UnixConnector(path=str(directory / "api.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://byokd/status") as response,
    ):
        return dict(await response.json())


async def test_sigterm_ends_the_daemon_in_good_order(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    topic = f"{stage.watcher.prefix}/daemons/demo/status"
    assert any(heard.topic == topic for heard in stage.watcher.heard)
    stage.daemon.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await stage.daemon.wait() == 0
    said = stage.watcher.heard[-1]
    assert said.topic == topic
    assert said.data["status"] == "offline"
    assert not (stage.directory / "api.sock").exists()


async def test_a_killed_daemon_is_told_offline_by_its_will_and_goes_on_where_it_was(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    stage.daemon.kill()
    await stage.daemon.wait()
    topic = f"{stage.watcher.prefix}/daemons/demo/status"
    offline = await stage.watcher.until(
        lambda: [heard.data["status"] for heard in stage.watcher.heard if heard.topic == topic][-1] == "offline",
        seconds=12,
    )
    assert offline is not None
    await stage.control.revoke(VAULT)
    command = byokd_command("run", "--settings", str(stage.directory / "byokd.toml"))
    async with child(command, log=stage.directory / "second.log", environment=stage.environment):
        watcher = stage.watcher
        assert await watcher.until(lambda: watcher.state("contoso").get("reason") == "AccessDenied", seconds=12)


async def test_the_pages_tell_how_it_is(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    assert await get(f"{stage.health_url}/livez") == (200, "ok\n")
    assert await get(f"{stage.health_url}/readyz") == (200, "ok\n")
    assert (await get(f"{stage.health_url}/livez", host="evil.example"))[0] == 400
    health = json.loads((await get(f"{stage.health_url}/healthz"))[1])
    assert health["ready"] is True
    assert {"store", "bus", "scheduler"} <= health["components"].keys()
    assert all(component["ok"] for component in health["components"].values())

    async def metric(line: str) -> bool:
        return line in (await get(f"{stage.health_url}/metrics"))[1]

    await eventually(lambda: metric('byokd_accounts{state="Accessible"} 1.0'))
    assert await metric('byokd_checks_total{outcome="Denied"} 0.0')


async def test_nothing_secret_is_in_logs_events_metrics_or_pages(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    watcher, control = stage.watcher, stage.control
    await control.rotate_key(VAULT, "media")
    assert await watcher.until(lambda: watcher.state("contoso").get("sequence") == 2, seconds=12)
    await control.revoke(VAULT)
    assert await watcher.until(lambda: watcher.state("contoso").get("state") == "Inaccessible", seconds=12)
    shown = await byokd("accounts", "show", "contoso", "--json", environment=stage.environment)
    texts = [
        (stage.directory / "daemon.log").read_text(),
        shown.out,
        json.dumps([heard.event for heard in watcher.heard]),
        (await get(f"{stage.health_url}/metrics"))[1],
        (await get(f"{stage.health_url}/healthz"))[1],
    ]
    with closing(sqlite3.connect(stage.directory / "byokd.db")) as database:
        blobs = [row[0] for row in database.execute("select sealed from account_keys")]
        blobs += [row[0] for row in database.execute("select probe_wrapped from wrapping_versions")]
    blobs += [path.read_bytes() for path in (stage.directory / "keys").iterdir()]
    assert len(blobs) == 7
    for text in texts:
        assert not re.search(r"eyJ[A-Za-z0-9_-]{10}", text), "a token"
        assert not re.search(r"[A-Za-z0-9+/_-]{120,}", text), "a long opaque value"
        for blob in blobs:
            assert blob.hex()[:16] not in text


async def test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_lives(tmp_path: Path) -> None:
    path = settings(tmp_path)
    async with daemon(path) as (first, _):
        second = await byokd("run", "--settings", str(path), environment=plain_environment())
        assert second.code == 2
        assert "a daemon already listens on" in second.err
        assert first.returncode is None
        assert (await status(tmp_path))["instance"] == "byokd"


async def test_an_unusable_store_is_said_once_makes_it_unready_and_is_tried_again(tmp_path: Path) -> None:
    path = settings(tmp_path, database="later/byokd.db")
    async with daemon(path) as (process, log):
        found = await status(tmp_path)
        url = f"http://{found['http']}"
        assert (await get(f"{url}/livez"))[0] == 200

        async def readyz(code: int, text: str) -> bool:
            answer = await get(f"{url}/readyz")
            return answer[0] == code and text in answer[1]

        await eventually(lambda: readyz(503, "later"))
        ran = await byokd(
            "accounts", "list", environment=plain_environment() | {"BYOKD_SOCKET": str(tmp_path / "api.sock")}
        )
        assert ran.code == 1
        assert "the daemon is starting" in ran.err, "nothing may be sealed before the service keys are proved"
        assert "hint: " in ran.err
        (tmp_path / "later").mkdir()
        await eventually(lambda: readyz(200, "ok"))
        assert process.returncode is None
        events = [json.loads(line) for line in log.read_text().splitlines()]
        assert [event["event"] for event in events if event.get("component") == "store"] == [
            "component-in-trouble",
            "component-recovered",
        ]


async def test_a_stop_during_trouble_with_the_store_ends_at_once(tmp_path: Path) -> None:
    path = settings(tmp_path, database="never/byokd.db")
    async with daemon(path) as (process, _):
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
