"""The demo itself: it plays to the end on both brokers, and it fails when byokd is broken in the ways it is about."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import subscriber

LEAST_STEPS = 9

BROKEN = {
    "throttling": """
import byokd.adapters.keyvault.classify as classify
from byokd.domain.answers import Refused
from byokd.domain.vocabulary import RefusalKind

real = classify.classify_reply
def broken(reply):
    return Refused(RefusalKind.ACCESS_DENIED, reply.evidence()) if reply.status == 429 else real(reply)
classify.classify_reply = broken
""",
    "odd-answer": """
import byokd.domain.weigh as weigh

def broken(verdict, observation, *, now, policy, detected_by):
    return weigh._changed(verdict, observation, now=now, detected_by=detected_by)
weigh._denied = broken
""",
}
"""What is put into every process of a demo that must fail, by the step that must notice: a denial made of 429, and a
denial that is not confirmed."""


async def played(*options: str, environment: Mapping[str, str] | None = None) -> tuple[int, list[dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "byokd",
        "demo",
        "--json",
        *options,
        stdout=asyncio.subprocess.PIPE,
        env=dict(environment or os.environ),
    )
    out, _ = await process.communicate()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()]


def assert_good(code: int, lines: list[dict[str, Any]]) -> None:
    *steps, last = lines
    assert [step for step in steps if not step["ok"]] == []
    assert last == {"ok": True, "steps": len(steps)}
    assert len(steps) >= LEAST_STEPS
    assert sum(step["seconds"] for step in steps) < 60
    assert {"step", "expected", "seen", "seconds", "ok"} == steps[0].keys()
    assert code == 0


async def test_the_story_plays_to_the_end() -> None:
    assert_good(*await played())


@pytest.mark.real("mosquitto")
async def test_the_story_plays_on_another_broker_and_leaves_nothing_there(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        assert_good(*await played("--broker", f"mqtt://127.0.0.1:{broker.port}"))
        assert await retained(broker) == []


@pytest.mark.parametrize("step", BROKEN)
async def test_the_demo_fails_when_byokd_is_broken(tmp_path: Path, step: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN[step])
    code, lines = await played(environment=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert lines[-1]["ok"] is False
    assert step in [line["step"] for line in lines[:-1] if not line["ok"]]


async def test_kept_it_tells_its_addresses_runs_on_and_ends_without_a_trace() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "byokd", "demo", "--json", "--keep", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    addresses: dict[str, Any] = {}
    async with asyncio.timeout(90):
        while not addresses:
            addresses = json.loads(await process.stdout.readline()).get("addresses", {})
    assert addresses.keys() >= {
        "api", "socket", "ca", "token_file", "broker", "emulator_control", "vaults", "settings"
    }  # fmt: skip
    directory = Path(addresses["settings"]).parent
    assert directory.exists()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        assert await process.wait() == 0
    assert not directory.exists()
    for url in (addresses["broker"], addresses["api"], addresses["emulator_control"]):
        host, _, port = url.rpartition("//")[2].rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))


async def retained(broker: Mosquitto) -> list[str]:
    """Give the topics on which a newcomer finds something; the broker hands those out before anything newer."""
    async with subscriber(broker.address) as newcomer:
        async with aiomqtt.Client("127.0.0.1", broker.port) as teller:
            await teller.publish("test/marker", b"{}", qos=1)
        await newcomer.hears("test/marker")
        return [heard.topic for heard in newcomer.heard if heard.retained]
