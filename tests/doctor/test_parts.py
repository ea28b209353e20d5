"""What `byokd doctor` is made of: deadlines, many vaults, access lists, the running daemon, wrong settings."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from byokd.adapters.keyvault.classify import Reply
from byokd.adapters.keyvault.greeting import _judged
from byokd.adapters.mqtt.bus import MqttBus
from byokd.cli.daemon_calls import ask
from byokd.cli.main import main
from byokd.domain.answers import Evidence, NoAnswer, Refused
from byokd.domain.identifiers import TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports.examining import Greeting, Instruments, StoreLook, WatchedVault
from byokd.runtime.examinations.azure import examine_vaults
from byokd.runtime.examinations.broker import examine_by_trial
from byokd.runtime.examinations.process import examine_service_manager
from byokd.runtime.findings import Finding, Grade, examined, ok
from byokd.settings import MqttSettings
from parts.mosquitto import mosquitto


async def test_an_examination_that_hangs_or_breaks_is_a_finding_and_spoils_no_other() -> None:
    async def hang() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def break_off() -> list[Finding]:
        raise KeyError("secret")

    (silent,) = await examined("a", hang(), seconds=0.01)
    (broken,) = await examined("b", break_off(), seconds=1)
    assert (silent.grade, silent.what, broken.grade, broken.what) == (Grade.BAD, "a", Grade.BAD, "b")
    assert "secret" not in broken.found


def test_the_unit_that_runs_the_daemon_is_named(tmp_path: Path) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42/cgroup").write_text("0::/system.slice/byokd.service\n")
    unwatched = examine_service_manager({"pid": 42, "watchdogSeconds": None}, processes=tmp_path)
    assert unwatched.found == "byokd.service has no watchdog"
    watched = examine_service_manager({"pid": 42, "watchdogSeconds": 30.0}, processes=tmp_path)
    assert watched == ok("service-manager", "byokd.service watches over it, every 30.0 s")


async def test_a_socket_where_nobody_or_nobody_sensible_listens(tmp_path: Path) -> None:
    assert await ask(tmp_path / "nowhere", "/status") is None
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), tmp_path / "closes")
    async with server:
        answer = await ask(tmp_path / "closes", "/status")
    assert isinstance(answer, str)
    assert "does not answer" in answer


def test_wrong_settings_are_named_each_and_end_with_2(tmp_path: Path) -> None:
    path = tmp_path / "byokd.toml"
    path.write_text('[servce]\ninstance = "a"\n[checks]\ninterval = "soon"\n')
    ran = CliRunner().invoke(main, ["doctor", "--settings", str(path), "--json"])
    *findings, last = map(json.loads, ran.stdout.splitlines())
    assert ran.exit_code == 2
    assert [(one["what"], one["grade"]) for one in findings] == [("settings", "bad")] * 2
    assert "servce" in findings[0]["found"] + findings[1]["found"]
    assert last == {"ok": False, "findings": {"ok": 0, "warn": 0, "bad": 2}}


TENANT = TenantId("11111111-2222-3333-4444-555555555555")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WELL = Greeting(None, TENANT, NOW, NOW)


def silent(reason: Reason) -> Greeting:
    return Greeting(NoAnswer(reason, Evidence("get")), None, None, NOW)


class Greeter:
    def __init__(self, greetings: Mapping[VaultHost, Greeting]) -> None:
        self._greetings = greetings

    async def greet(self, host: VaultHost) -> Greeting:
        return self._greetings[host]


async def of_vaults(*greetings: Greeting, watched: int | None = None) -> Sequence[Finding]:
    """What is found of vaults that greet like this."""
    named = {VaultHost(f"vault{number}.vault.azure.net"): one for number, one in enumerate(greetings)}
    sample = tuple(WatchedVault(host, TENANT) for host in named)
    look = StoreLook("place", "0001", "0001", None, vaults=watched or len(sample), sample=sample)
    instruments = cast("Instruments", type("Some", (), {"vaults": Greeter(named)}))
    found = await examine_vaults(instruments, look, seconds=1)
    return [one for one in found if one.what == "vaults"]


async def test_trouble_of_all_vaults_is_one_finding_and_on_our_side() -> None:
    (finding,) = await of_vaults(*[silent(Reason.NAME_NOT_RESOLVED)] * 5)
    assert finding.grade is Grade.BAD
    assert finding.found.startswith(
        "vault0.vault.azure.net, vault1.vault.azure.net, vault2.vault.azure.net and 2 more:"
    )


async def test_trouble_of_one_vault_among_others_may_be_its_own() -> None:
    one, others = await of_vaults(WELL, silent(Reason.NAME_NOT_RESOLVED), WELL)
    assert (one.grade, others.grade) == (Grade.WARN, Grade.OK)
    assert "2 of 3 watched vaults answer" in others.found


async def test_vaults_that_were_not_asked_are_not_said_to_be_silent() -> None:
    (finding,) = await of_vaults(*[WELL] * 5, watched=14)
    assert finding.found.startswith("5 of 5 vaults that were asked answer over verified TLS")
    assert finding.found.endswith("; 9 more are watched, and were not asked")


async def test_network_rules_that_refuse_us_are_named() -> None:
    refused = Refused(RefusalKind.NETWORK_BLOCKED, Evidence("get", 403, "Forbidden", "ForbiddenByFirewall"))
    (finding,) = await of_vaults(Greeting(refused, None, NOW, NOW))
    assert finding.grade is Grade.BAD
    assert "network rules refuse this service" in finding.found


@pytest.mark.parametrize(
    ("challenge", "genuine", "is_well"),
    [
        ('authorization="https://login.microsoftonline.com/{}", resource="https://vault.azure.net"', True, True),
        ('authorization="https://login.microsoftonline.com/{}", resource="https://vault.azure.net"', False, False),
        ('authorization="https://login.microsoftonline.com/{}", resource="https://elsewhere.net"', True, False),
        ('resource="https://vault.azure.net"', True, False),
    ],
)
def test_only_a_challenge_of_key_vault_for_its_own_cloud_is_one(challenge: str, genuine: bool, is_well: bool) -> None:  # noqa: FBT001
    headers = {"WWW-Authenticate": f"Bearer {challenge.format(TENANT)}"} | ({"x-ms-request-id": "1"} if genuine else {})
    reply = Reply("get", 401, headers, {"error": {"code": "Unauthorized"}})
    trouble, tenant = _judged(reply, VaultHost("contoso.vault.azure.net"))
    assert (trouble is None, tenant) == (is_well, TENANT if is_well else None)


@pytest.mark.real("mosquitto")
@pytest.mark.parametrize(
    ("access", "grade", "words"),
    [
        ("topic readwrite byokd/v1/#", Grade.OK, "all topics below byokd/v1 are taken"),
        ("topic readwrite byokd/v1/accounts/#\ntopic readwrite byokd/v1/service/#", Grade.BAD, "byokd/v1/keys/"),
        ("topic write byokd/v1/#", Grade.WARN, "what the broker loses would not be sent again"),
    ],
)
async def test_what_a_broker_refuses_is_named(tmp_path: Path, access: str, grade: Grade, words: str) -> None:
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "acl").write_text(f"{access}\n")
    async with mosquitto(directory, f"acl_file {directory}/acl") as broker:
        bus = MqttBus(MqttSettings(url=f"mqtt://{broker.address}", marker_timeout=timedelta(milliseconds=300)))
        (finding,) = await examine_by_trial(bus, prefix="byokd/v1", name="byokd-doctor-test")
    assert finding.grade is grade
    assert words in finding.found
