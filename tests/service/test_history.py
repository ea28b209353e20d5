"""The history from outside: watched live, replayed, exported, verified beside the running daemon."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import aiohttp

from byokd.demo.stage import Stage
from byokd.runtime.tailing import MOST
from service.support import VAULT, Ran, apply, byokd, customer, manifest


@asynccontextmanager
async def watching(stage: Stage, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "byokd",
        "watch",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=stage.environment,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def next_event(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(15):
        return dict(json.loads(await process.stdout.readline()))


async def audit(stage: Stage, *arguments: str) -> Ran:
    settings = str(stage.directory / "byokd.toml")
    return await byokd("audit", *arguments, "--settings", settings, environment=stage.environment)


async def test_a_watcher_sees_a_revocation_live_and_may_replay_what_was(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    async with watching(stage, "--since", "0", "--json") as process:
        created = await next_event(process)
        assert (created["type"], created["number"]) == ("byokd.account.created", 1)
        await stage.control.revoke(VAULT)
        lost = await next_event(process)
        assert (lost["type"], lost["data"]["reason"]) == ("byokd.account.inaccessible", "AccessDenied")
        heard = await stage.watcher.until(lambda: bool(stage.watcher.state("contoso").get("reason")), seconds=12)
        assert heard is not None
    replayed = await byokd("watch", "--no-follow", "--since", "10 min", environment=stage.environment)
    lines = [line.split() for line in replayed.out.splitlines()]
    assert [line[1:] for line in lines] == [
        ["#1", "contoso", "account.created", "Accessible"],
        ["#2", "contoso", "account.inaccessible", "Inaccessible", "AccessDenied"],
    ]
    options = ("--account", "contoso", "--type", "byokd.account.inaccessible")
    only = await byokd("watch", "--no-follow", *options, environment=stage.environment)
    assert only.code == 0, only.err
    assert [line.split()[1] for line in only.out.splitlines()] == ["#2"]
    short = await byokd("watch", "--no-follow", "--type", "account.inaccessible", environment=stage.environment)
    assert (short.code, short.out) == (0, only.out)
    later = await byokd("watch", "--no-follow", "--since", "2", environment=stage.environment)
    assert (later.code, later.out) == (0, "")
    wrong = await byokd("watch", "--since", "soon", environment=stage.environment)
    assert wrong.code == 2
    assert "hint: write a number" in wrong.err


async def test_the_events_of_a_deleted_account_are_found_by_its_id(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    shown = await byokd("accounts", "show", "contoso", "--json", environment=stage.environment)
    assert (await byokd("accounts", "delete", "contoso", environment=stage.environment)).code == 0
    by_name = await byokd("watch", "--no-follow", "--since", "0", "--account", "contoso", environment=stage.environment)
    assert "one that was deleted is named by its whole ARM id" in by_name.err
    options = ("--since", "0", "--account", json.loads(shown.out)["id"])
    found = await byokd("watch", "--no-follow", *options, environment=stage.environment)
    assert [line.split()[3] for line in found.out.splitlines()] == ["account.created", "account.deleted"]


async def test_watchers_are_bounded_leave_their_place_and_do_not_hold_up_a_stop(stage: Stage) -> None:
    connector = aiohttp.UnixConnector(path=stage.environment["BYOKD_SOCKET"], limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        held = [await session.get("http://byokd/events") for _ in range(MOST)]
        assert {response.status for response in held} == {200}
        async with session.get("http://byokd/events") as refused:
            assert refused.status == 503
            assert (await refused.json())["detail"]["message"] == f"{MOST} watch already"
        held.pop().close()
        async with asyncio.timeout(10):
            while (again := await session.get("http://byokd/events")).status != 200:
                again.close()
        stage.daemon.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await stage.daemon.wait() == 0
            await asyncio.gather(*(response.read() for response in [*held, again]))
    log = (stage.directory / "daemon.log").read_text()
    assert "farewell-cut-short" not in log
    assert "Traceback" not in log


async def test_a_watcher_is_told_that_the_daemon_stops(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    async with watching(stage, "--since", "0", "--json") as process:
        await next_event(process)
        stage.daemon.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            _, err = await process.communicate()
        assert process.returncode == 1
        assert b"hint: watch again with --since 1" in err


async def test_the_record_verifies_after_rotations_and_a_flipped_byte_is_found(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    for _ in range(2):
        newest = (await stage.control.rotate_key(VAULT, "media"))["newest"]
        rewrapped = await stage.watcher.until(
            lambda version=newest: str(stage.watcher.state("contoso")["currentKeyIdentifier"]).endswith(version),
            seconds=12,
        )
        assert rewrapped is not None
    good = await audit(stage, "verify", "--json")
    found = json.loads(good.out)
    assert (good.code, found["ok"], found["defects"]) == (0, True, [])
    assert (found["streams"], found["events"]) == (2, 5)
    exported = await audit(stage, "export")
    again = await audit(stage, "export", "--json")
    assert exported.out == again.out
    lines = [json.loads(line) for line in exported.out.splitlines()]
    assert [line["line"] for line in lines] == ["event"] * 5 + ["head"] * 2 + ["heads"]
    heads = await audit(stage, "export", "--heads-only")
    assert [json.loads(line) for line in heads.out.splitlines()] == lines[5:]
    assert [json.loads(line) for line in (await audit(stage, "export", "--since", "3")).out.splitlines()] == lines[3:]
    path = stage.directory / "heads.json"
    path.write_text(exported.out)
    assert (await audit(stage, "verify", "--heads", str(path))).code == 0
    path.write_text(exported.out.replace(lines[5]["head"], "00" * 32))
    unknown = await audit(stage, "verify", "--heads", str(path))
    assert unknown.code == 1
    assert unknown.out.startswith(f"head-unknown: {lines[5]['stream']}: ")
    path.write_text("nonsense")
    assert (await audit(stage, "verify", "--heads", str(path))).code == 2
    with closing(sqlite3.connect(stage.directory / "byokd.db")) as database:
        database.execute("UPDATE events SET data = replace(data, 'westeurope', 'x') || ' ' WHERE number = 2")
        database.commit()
    bad = await audit(stage, "verify")
    assert bad.code == 1
    assert bad.out.startswith(f"event-changed: {lines[1]['stream']} #2: ")
    assert "hint: " in bad.err
