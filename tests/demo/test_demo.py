"""The demo itself: it plays to the end on both brokers, and it fails when byokd is broken in the ways it is about.

A demo takes most of a minute, so each is asked as much as it can answer. Those that nobody ends start what they start
by forking, which spares most of their processor time; those that are ended are in all respects what an operator starts.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from byokd.demo.processes import bound_to_us, byokd_command
from parts.forking import FORKING_BYOKD
from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import subscriber

LEAST_STEPS = 29
OF_THE_BROKER = ("broker-down", "broker-back", "enable-key-again")
OUTAGES = (*OF_THE_BROKER, "kill-9")
OF_TROUBLE = ("odd-answer", "throttling", "broker-back", "kill-9")
BESIDE = {"vault-fails", "own-credential-breaks"}
"""What fails too when denials are not confirmed: a key that flapped is given back late, and the brake is not asked."""

OF_SECRETS = ("protect", "plaintext-dropped", "rotate-service-keys", "keys-verify", "audit")

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

def broken(case):
    denied = case.seen.reason == "AccessDenied" and case.was_usable
    return weigh.confirmed(case) if denied else None
weigh.RULES = (broken, *weigh.RULES)
""",
    "broker-back": """
import byokd.adapters.sql.outbox as outbox

outbox.resend = lambda connection, *, after, since: 0
""",
    "kill-9": """
import byokd.adapters.sql.rewraps as rewraps
import byokd.adapters.sql.verdicts as verdicts

adopted = False
really_commit, really_work = verdicts.commit_decision, rewraps.rewrap_work
def commit(connection, watch, decision, **more):
    global adopted
    adopted = adopted or decision.adoption is not None
    return really_commit(connection, watch, decision, **more)
def work(connection, **more):
    return really_work(connection, **more) if adopted else []
verdicts.commit_decision, rewraps.rewrap_work = commit, work
""",
    "protect": """
import byokd.runtime.values as values
import structlog

really = values.ProtectedValues.protect
async def broken(self, account, ref, content):
    structlog.get_logger().info("protecting", content=content.hex())
    return await really(self, account, ref, content)
values.ProtectedValues.protect = broken
""",
    "plaintext-dropped": """
import byokd.runtime.doubts as doubts

really = doubts.Doubts.deny
def broken(self, target):
    droppers = self._droppers
    self._droppers = droppers if self.is_in_doubt(target) else []
    really(self, target)
    self._droppers = droppers
doubts.Doubts.deny = broken
""",
    "rotate-service-keys": """
import byokd.adapters.sql.seals as seals
from dataclasses import replace

really = seals.seal_uses
seals.seal_uses = lambda connection: [replace(use, values=0) for use in really(connection) if use.keys]
seals.values_sealed_by = lambda connection, use, *, after, limit: []
""",
    "audit": """
import byokd.adapters.sealing.auditor as auditor

auditor.HmacAuditor.is_genuine = lambda self, data, signature: True
""",
}
"""What is put into the daemons and the auditor of a demo that must fail, by the step that must notice: a denial made of
429, a denial of access that is not confirmed, a marker over which nothing is sent again, rewraps that nobody but the
process knows of that adopted the version, a content key in the log, account keys that are dropped only when a denial is
confirmed, protected values that a rotation forgets, and an auditor who believes every signature. Each breaks nothing
but what its step is about, so that several can be put into one demo."""


PLANT = """
import sys
if {{"run", "audit"}} & set(sys.orig_argv) and "emulator" not in sys.orig_argv:
    import {modules}
"""
"""The other processes are spared it, for it makes them load most of byokd."""

PLANTED = ("run", "audit")
"""Verbs that are never forked: what is planted must be there before anything else of byokd is loaded."""


async def played(*options: str, environment: Mapping[str, str] | None = None) -> tuple[int, list[dict[str, Any]]]:
    always = ",".join(PLANTED if environment else ())
    process = await asyncio.create_subprocess_exec(
        *bound_to_us((sys.executable, str(FORKING_BYOKD), always, "demo", "--json", *options)),
        stdout=asyncio.subprocess.PIPE,
        env=dict(environment or os.environ),
    )
    out, _ = await process.communicate()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()]


def assert_good(code: int, lines: list[dict[str, Any]], *, left_out: Sequence[str] = ()) -> None:
    *steps, last = lines
    assert [step for step in steps if not step["ok"]] == []
    assert list(last.pop("leftOut", {})) == list(left_out)
    assert last == {"ok": True, "steps": len(steps)}
    names = [step["step"] for step in steps]
    assert len(names) + len(left_out) >= LEAST_STEPS
    assert {*OUTAGES, *OF_SECRETS} - set(left_out) <= set(names)
    assert not set(left_out) & set(names)
    assert sum(step["seconds"] for step in steps) < 90
    assert {"step", "expected", "seen", "seconds", "ok"} == steps[0].keys()
    assert code == 0


@pytest.mark.real("mosquitto")
async def test_the_story_plays_on_another_broker_and_leaves_nothing_there(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        assert_good(*await played("--broker", f"mqtt://127.0.0.1:{broker.port}"), left_out=OF_THE_BROKER)
        assert await retained(broker) == []


async def failed(tmp_path: Path, *broken: str) -> list[str]:
    modules = {step: f"broken_{step.replace('-', '_')}" for step in broken}
    for step, module in modules.items():
        (tmp_path / f"{module}.py").write_text(BROKEN[step])
    (tmp_path / "sitecustomize.py").write_text(PLANT.format(modules=", ".join(modules.values())))
    code, lines = await played(environment=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert lines[-1]["ok"] is False
    return [line["step"] for line in lines[:-1] if not line["ok"]]


async def test_the_demo_fails_when_byokd_does_not_stand_trouble(tmp_path: Path) -> None:
    steps = await failed(tmp_path, *OF_TROUBLE)
    assert [step for step in steps if step not in BESIDE] == list(OF_TROUBLE)


async def test_the_demo_fails_when_secrets_are_not_kept_as_promised(tmp_path: Path) -> None:
    steps = await failed(tmp_path, *(step for step in OF_SECRETS if step in BROKEN))
    assert steps == list(OF_SECRETS), "each does; keys-verify meets what the rotation forgot"


def test_every_way_to_break_it_is_tried() -> None:
    assert BROKEN.keys() <= {*OF_TROUBLE, *OF_SECRETS}


async def test_a_demo_that_is_ended_puts_everything_away(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *bound_to_us(byokd_command("demo", "--json")), stdout=PIPE, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert json.loads(await process.stdout.readline())["ok"]
            assert left_in(tmp_path) != []
            process.terminate()
            said = await process.stdout.read()
            assert await process.wait() == 128 + signal.SIGTERM, said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert left_in(tmp_path) == []


async def test_the_story_plays_to_the_end_and_kept_it_runs_on_and_ends_without_a_trace() -> None:
    process = await asyncio.create_subprocess_exec(*bound_to_us(byokd_command("demo", "--json", "--keep")), stdout=PIPE)
    async with asyncio.timeout(150):
        lines = await told(process)
    addresses = lines.pop()["addresses"]
    assert addresses.keys() >= {
        "api", "socket", "ca", "token_file", "broker", "emulator_control", "vaults", "settings"
    }  # fmt: skip
    directory = Path(addresses["settings"]).parent
    assert directory.exists()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        assert_good(await process.wait(), lines)
    assert not directory.exists()
    for url in (addresses["broker"], addresses["api"], addresses["emulator_control"]):
        host, _, port = url.rpartition("//")[2].rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))


async def told(process: Process) -> list[dict[str, Any]]:
    """Give all lines up to the one with the addresses."""
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    while not (lines and "addresses" in lines[-1]):
        lines.append(json.loads(await process.stdout.readline()))
    return lines


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def retained(broker: Mosquitto) -> list[str]:
    """Give the topics on which a newcomer finds something; the broker hands those out before anything newer."""
    async with subscriber(broker.address) as newcomer:
        async with aiomqtt.Client("127.0.0.1", broker.port) as teller:
            await teller.publish("test/marker", b"{}", qos=1)
        await newcomer.hears("test/marker")
        return [heard.topic for heard in newcomer.heard if heard.retained]
