"""History and service keys from outside, with everything kept in PostgreSQL: its own SQL, its own types."""

import base64
import json
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from byokd.demo.stage import Stage, set_stage
from parts.postgresql import PostgreSQL, postgresql_database
from parts.waiting import eventually
from service.support import VAULT, Ran, apply, byokd, customer, manifest

pytestmark = pytest.mark.real("postgresql")


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql_database(postgresql, with_schema=False) as url:
        yield url


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    async with set_stage(None, store=url) as stage:
        yield stage


async def run(stage: Stage, *arguments: str) -> Ran:
    settings = str(stage.directory / "byokd.toml")
    return await byokd(*arguments, "--settings", settings, environment=stage.environment)


async def lines(stage: Stage, *arguments: str) -> list[dict[str, object]]:
    ran = await run(stage, *arguments)
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


async def _with_history(stage: Stage) -> None:
    """An account, rewrapped once, with a protected value."""
    await apply(stage, manifest(stage, await customer(stage)))
    secret = stage.directory / "secret"
    secret.write_bytes(b"what nobody else may see")
    named = ("contoso", "--kind", "content-key", "--name", "one")
    ran = await byokd("accounts", "protect", *named, "--file", str(secret), environment=stage.environment)
    assert ran.code == 0, ran.err
    await stage.control.rotate_key(VAULT, "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("sequence") == 2, seconds=15)
    shown = await byokd("accounts", "reveal", *named, "--json", environment=stage.environment)
    assert base64.b64decode(json.loads(shown.out)["content"]) == b"what nobody else may see"


async def test_the_history_is_watched_exported_and_verified_and_what_was_changed_is_found(
    stage: Stage, url: str
) -> None:
    await _with_history(stage)
    replayed = await byokd("watch", "--no-follow", "--since", "1h", "--json", environment=stage.environment)
    watched = [json.loads(line) for line in replayed.out.splitlines()]
    assert [event["number"] for event in watched] == [1, 2, 3]
    account = await byokd("watch", "--no-follow", "--account", "contoso", environment=stage.environment)
    assert [line.split()[1] for line in account.out.splitlines()] == ["#1", "#3"]
    exported = await lines(stage, "audit", "export")
    assert [line["line"] for line in exported] == ["event"] * 3 + ["head"] * 2 + ["heads"]
    assert await lines(stage, "audit", "export", "--since", "1h") == exported
    heads = stage.directory / "heads.json"
    heads.write_text("".join(json.dumps(line) + "\n" for line in exported))
    good = await run(stage, "audit", "verify", "--heads", str(heads), "--json")
    assert (good.code, json.loads(good.out)["defects"]) == (0, [])
    with psycopg.connect(url) as database:
        database.execute("UPDATE events SET data = data || ' ' WHERE number = 1")
        database.execute("UPDATE events SET time = time + interval '1 microsecond' WHERE number = 3")
    bad = await run(stage, "audit", "verify")
    assert bad.code == 1
    assert [line.split(":")[0] for line in bad.out.splitlines()[:2]] == ["event-changed"] * 2, bad.out


async def test_keys_are_rotated_and_proved_with_and_without_the_daemon(stage: Stage) -> None:
    await _with_history(stage)
    online = await byokd("keys", "verify", "--json", environment=stage.environment)
    assert (online.code, json.loads(online.out)["proofs"]["opens"]) == (0, 3)
    offline = await lines(stage, "keys", "verify", "--offline", "--json")
    assert offline[-1]["ok"] is True
    assert offline[-1]["proofs"] == {"opens": 0, "opens-up-to-the-vault": 3, "cannot-be-proved-now": 0, "damaged": 0}
    ordered = await byokd("keys", "rotate", environment=stage.environment)
    assert ordered.code == 0, ordered.err

    async def is_done() -> bool:
        ring = json.loads((await byokd("keys", "list", "--json", environment=stage.environment)).out)
        return ring["rotation"] is not None and ring["rotation"]["endedAt"] is not None and ring["remaining"] == 0

    await eventually(is_done)
