"""One good set-up for a whole module of tests: each breaks a copy of it in one place."""

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.adapters.sql import open_sqlite
from byokd.demo.broker import iotcore_broker
from byokd.demo.stage import make_service_keys
from byokd.emulator import Emulator
from byokd.ports.examining import DaemonReport, VaultGreeter
from byokd.runtime.clock import SystemRandomness
from byokd.runtime.configuration import read_settings
from byokd.runtime.doctor import diagnose
from byokd.runtime.findings import Finding, Grade
from byokd.runtime.service_keys import prove_service_keys
from byokd.runtime.wiring import wire_instruments
from byokd.settings import Settings, StoreSettings
from store.builders import START, TENANT, CountingIds, auditor, placement, spec

TEXT = """\
[service]
socket = "{directory}/api.sock"
[store]
url = "sqlite:///{directory}/byokd.db"
[network]
ca_file = "{ca}"
connect_to = {connect_to}
[identities.platform]
kind = "managed-identity"
[service_keys]
directory = "{directory}/keys"
[mqtt]
url = "mqtt://{broker}"
connect_timeout = "5 s"
username = "somebody"
password_file = "{directory}/password"
"""
PASSWORD = "never to be shown"
VAULT = "contoso"


@dataclass(frozen=True, slots=True)
class Good:
    """What is shared and not changed for good: Azure in miniature, a broker, and a directory to copy."""

    directory: Path
    emulator: Emulator
    broker: str


@asynccontextmanager
async def good_set_up(directory: Path) -> AsyncIterator[Good]:
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
            patch.delenv(name, raising=False)
        emulator = await stack.enter_async_context(Emulator.start(state_dir=directory / "azure"))
        for name, value in emulator.imds_environment().items():
            patch.setenv(name, value)
        await emulator.control.create_vault(VAULT, tenant=TENANT)
        broker = await stack.enter_async_context(iotcore_broker())
        model = directory / "model"
        model.mkdir(mode=0o700)
        make_service_keys(model / "keys")
        (model / "password").write_text(PASSWORD)
        await _make_database(model)
        yield Good(model, emulator, broker)


async def _make_database(directory: Path) -> None:
    store = open_sqlite(StoreSettings(url=f"sqlite:///{directory}/byokd.db"), ids=CountingIds(), auditor=auditor())
    try:
        await prove_service_keys(store, AesGcmSealer(FileServiceKeys(directory / "keys"), SystemRandomness()))
        await store.create_account(spec(1), placement(), incarnation="life-1", now=START)
    finally:
        await store.close()


@dataclass(slots=True)
class SetUp:
    """A copy of the good one, to be broken and examined."""

    good: Good
    directory: Path
    report: DaemonReport | str | None = None
    patch: pytest.MonkeyPatch | None = None

    @classmethod
    def copy(cls, good: Good, directory: Path) -> "SetUp":
        shutil.copytree(good.directory, directory, dirs_exist_ok=True)
        connect_to = ", ".join(f'"{host}" = "{place}"' for host, place in good.emulator.connect_to.items())
        made = cls(good, directory)
        made.settings_path.write_text(
            TEXT.format(
                directory=directory, ca=good.emulator.ca_file, connect_to=f"{{{connect_to}}}", broker=good.broker
            )
        )
        return made

    @property
    def settings_path(self) -> Path:
        return self.directory / "byokd.toml"

    @property
    def database(self) -> Path:
        return self.directory / "byokd.db"

    def change(self, old: str, new: str) -> None:
        text = self.settings_path.read_text()
        assert old in text
        self.settings_path.write_text(text.replace(old, new))

    def settings(self) -> Settings:
        return read_settings(self.settings_path, {})

    async def findings(self, greeter: Callable[[VaultGreeter], VaultGreeter] = lambda real: real) -> Sequence[Finding]:
        """Examine it, greeting vaults through another one where told."""
        settings = self.settings()
        async with AsyncExitStack() as stack:
            instruments = await wire_instruments(settings, stack)
            instruments = replace(instruments, vaults=greeter(instruments.vaults))
            socket = settings.service.socket
            return await diagnose(settings, instruments, self.report, socket=socket, name="byokd-doctor-test")

    async def trouble(self) -> list[Finding]:
        return [finding for finding in await self.findings() if finding.grade is not Grade.OK]


def report(**changes: object) -> dict[str, object]:
    """What a healthy daemon tells of itself."""
    said: dict[str, object] = {
        "instance": "byokd",
        "version": "1",
        "ready": True,
        "notReadyBecause": [],
        "components": {name: {"ok": True, "message": "ok", "hint": None} for name in ("store", "service-keys", "bus")},
        "pid": os.getpid(),
        "watchdogSeconds": 30.0,
        "presence": {"connected": True, "problem": None},
    }
    return json.loads(json.dumps(said | changes))  # type: ignore[no-any-return]
