"""The daemon on PostgreSQL, each a process of its own."""

import json
from pathlib import Path

import pytest

from byokd.demo.stage import Stage, set_stage
from parts.postgresql import PostgreSQL, postgresql_database, postgresql_server
from parts.waiting import eventually
from service.support import VAULT, apply, byokd, customer, entry, manifest, plain_environment
from service.test_process import SETTINGS, get

pytestmark = pytest.mark.real("postgresql")


async def _ready(stage: Stage, code: int, text: str) -> bool:
    found = await get(f"{stage.health_url}/readyz")
    return found[0] == code and text in found[1]


def _sequences(stage: Stage, name: str) -> list[int]:
    """Give the sequences of an account's events as heard, each once."""
    return sorted({heard.data["sequence"] for heard in stage.watcher.heard if heard.topic.endswith(f"/{name}/events")})


async def test_the_daemon_survives_a_restart_of_its_database_server_and_loses_nothing() -> None:
    with postgresql_server() as server, postgresql_database(server, with_schema=False) as url:
        async with set_stage(None, store=url) as stage:
            watcher, control = stage.watcher, stage.control
            tenant = await customer(stage)
            assert (await apply(stage, manifest(stage, tenant))).out == "created    contoso\n"
            await control.rotate_key(VAULT, "media")
            assert await watcher.until(lambda: watcher.state("contoso").get("sequence") == 2, seconds=15)
            await _while_the_server_is_away(stage, server)
            assert await watcher.until(lambda: watcher.state("contoso").get("state") == "Inaccessible", seconds=15)
            await control.grant(VAULT)
            assert await watcher.until(lambda: watcher.state("contoso").get("state") == "Accessible", seconds=15)
            second = stage.directory / "second.yaml"
            second.write_text(
                "accounts:\n" + entry(tenant, name="fabrikam", key=f"https://{VAULT}.vault.azure.net/keys/media")
            )
            assert (await apply(stage, second)).code == 0
            sequences = _sequences(stage, "contoso")
            assert sequences == list(range(1, len(sequences) + 1))
            assert len(sequences) == 4
            assert stage.daemon.returncode is None
            log = (stage.directory / "daemon.log").read_text()
            assert "Traceback" not in log
            events = [json.loads(line) for line in log.splitlines()]
            assert {"component-in-trouble", "component-recovered"} <= {
                event["event"] for event in events if event.get("component") == "store"
            }


async def _while_the_server_is_away(stage: Stage, server: PostgreSQL) -> None:
    server.kill()
    await stage.control.revoke(VAULT)
    await eventually(lambda: _ready(stage, 503, "store"))
    ran = await byokd("accounts", "list", environment=stage.environment)
    assert ran.code == 1
    assert "hint: " in ran.err
    assert stage.daemon.returncode is None
    server.start()
    await eventually(lambda: _ready(stage, 200, "ok"))


async def test_the_database_is_upgraded_offline_and_no_password_is_shown(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql_database(postgresql, with_schema=False) as url:
        path = tmp_path / "byokd.toml"
        path.write_text(SETTINGS.format(directory=tmp_path, database="unused"))
        environment = plain_environment() | {"BYOKD_STORE__URL": url}

        async def db(verb: str, **more: str) -> tuple[int, str]:
            ran = await byokd("db", verb, "--settings", str(path), environment=environment | more)
            return ran.code, ran.out + ran.err

        assert (await db("status"))[0] == 1
        assert (await db("upgrade"))[1].startswith("upgraded the schema from nothing to ")
        assert (await db("upgrade"))[1].startswith("the schema is up to date")
        assert (await db("status"))[0] == 0
        password = tmp_path / "password"
        password.write_text("close sesame")
        locked = postgresql.tcp_url("postgres", user="locked")
        for verb in ("status", "upgrade"):
            code, said = await db(verb, BYOKD_STORE__URL=locked, BYOKD_STORE__PASSWORD_FILE=str(password))
            assert code == 1
            assert said.startswith("error: the database server refuses the user or its password\nhint: ")
            assert "sesame" not in said
