"""A real Azurite and Azure in miniature, and byokd's way to a queue between them, over TLS."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byokd.emulator import Emulator
from parts.azurite import Azurite, azurite
from queues.platform import Platform, platform


@pytest.fixture
async def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with Emulator.start(state_dir=tmp_path / "azure") as running:
        for name, value in running.imds_environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Azurite]:
    async with azurite(tmp_path / "azurite") as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, emulator: Emulator, storage: Azurite) -> AsyncIterator[Platform]:
    """With the queues `events` and `poison`."""
    to = {**emulator.connect_to, **storage.connect_to}
    async with platform(tmp_path, storage, azure=emulator.ca_file, connect_to=to) as made:
        await made.make("events", "poison")
        yield made
