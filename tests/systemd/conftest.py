import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from byokd.demo.broker import iotcore_broker
from byokd.demo.processes import byokd_command, child, first_line
from byokd.emulator.client import ControlClient
from parts.machine import Machine, Ran, machine
from parts.wheels import packed
from service.support import BASE

ROOT = Path(__file__).parents[2]
UNIT = "byokd.service"
VAULT = "customer-keys"
ACCOUNT = f"{BASE}/contoso"
ACCOUNTS = """\
accounts:
  - id: {account}
    tenant: {tenant}
    location: westeurope
    encryption:
      {{type: CustomerKey, identity: platform, keyIdentifier: "https://customer-keys.vault.azure.net/keys/media"}}
"""

SETTINGS = """\
[network]
ca_file = "/etc/byokd/ca.pem"
connect_to = {{ "*.vault.azure.net" = "{tls}" }}

[identities.platform]
kind = "managed-identity"

[checks]
interval = "1 s"
confirm_after = "500 ms"

[mqtt]
url = "mqtt://{broker}"

[http]
listen = "127.0.0.1:0"
"""

# The network of the container is this machine's: what the unit reaches is on loopback, and the identity's endpoint is
# the emulator's. Python may have been built to find its library where it was before. The watchdog is made impatient.
DROP_IN = """\
[Service]
Environment=AZURE_POD_IDENTITY_AUTHORITY_HOST={control} LD_LIBRARY_PATH=/srv/python/lib
WatchdogSec=3s
TimeoutAbortSec=1s
RestartSec=100ms
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """A machine on which an operator installed byokd and started it."""

    machine: Machine
    control: ControlClient
    broker: str
    settings: str
    said: Ran

    async def byokd(self, *arguments: str, check: bool = True) -> Ran:
        return await self.machine.run("byokd", *arguments, check=check)

    async def write_settings(self, text: str) -> None:
        await self.machine.write("/etc/byokd/byokd.toml", text)

    async def register(self) -> None:
        """Register an account of a customer who has a key and granted it."""
        vault = await self.control.create_vault(VAULT, purge_protection=True)
        await self.control.create_key(VAULT, "media", size=2048)
        await self.control.grant(VAULT)
        await self.machine.write("/root/accounts.yaml", ACCOUNTS.format(account=ACCOUNT, tenant=vault["tenant"]))
        await self.byokd("accounts", "apply", "-f", "/root/accounts.yaml")

    async def main(self) -> int:
        """The process id of the daemon, inside."""
        return int((await self.machine.shown(UNIT, "MainPID"))["MainPID"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed() -> AsyncIterator[Installed]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byokd-systemd-")))
        python = Path(sys.base_prefix)
        checkout = await asyncio.to_thread(_checkout, directory)
        booted = await stack.enter_async_context(
            machine(directory / "machine", (checkout, "/srv/byokd"), (python, "/srv/python"))
        )
        broker, control, values = await _outside(stack, directory)
        program = f"/srv/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        said = await booted.run(
            "/srv/byokd/deploy/install.sh", "--python", program, "--wheelhouse", "/srv/byokd/wheels"
        )
        settings = SETTINGS.format(broker=broker, tls=values["tls"])
        await booted.write("/etc/byokd/ca.pem", await asyncio.to_thread(Path(str(values["ca"])).read_text))
        await booted.write("/etc/byokd/byokd.toml", settings)
        await booted.write("/etc/systemd/system/byokd.service.d/test.conf", DROP_IN.format(control=values["control"]))
        await booted.run("systemctl", "daemon-reload")
        yield Installed(booted, control, broker, settings, said)


@pytest_asyncio.fixture(loop_scope="module")
async def running(installed: Installed) -> Installed:
    """The service runs."""
    await installed.write_settings(installed.settings)
    await installed.machine.run("systemctl", "start", UNIT)
    return installed


async def _outside(stack: AsyncExitStack, directory: Path) -> tuple[str, ControlClient, dict[str, object]]:
    """Start a broker and Azure in miniature, on the machine itself."""
    broker = await stack.enter_async_context(iotcore_broker())
    log = directory / "emulator.log"
    command = byokd_command("emulator", "run", "--json", "--state-dir", str(directory / "azure"))
    process = await stack.enter_async_context(child(command, log=log, environment=os.environ))
    ready = json.loads(await first_line(process, log=log, seconds=20))
    control = await stack.enter_async_context(ControlClient(str(ready["control"])))
    return broker, control, dict(ready)


def _checkout(directory: Path) -> Path:
    """Copy what is installed; its pins name the wheels that are packed here, because tests have no network."""
    checkout = directory / "checkout"
    for name in ("daemon", "deploy", "systemd", "config"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout / name)
    wheels = checkout / "wheels"
    wheels.mkdir()
    for name in ("requirements.txt", "requirements-build.txt"):
        (checkout / name).write_text(packed(ROOT / name, wheels))
    return checkout
