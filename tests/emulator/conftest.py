from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.keys._shared import http_challenge_cache
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto.aio import CryptographyClient

from byokd.emulator import Emulator, KeyMaker
from emulator.receiver import Receiver
from emulator.support import KEY, VAULT, Clock, Wire

SHARED_KEYS = KeyMaker(pool=8)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _fresh_challenges() -> Iterator[None]:
    http_challenge_cache.clear()
    yield
    http_challenge_cache.clear()


@pytest.fixture
async def emulator(tmp_path: Path, clock: Clock) -> AsyncIterator[Emulator]:
    async with Emulator.start(state_dir=tmp_path / "emulator", clock=clock, keys=SHARED_KEYS) as running:
        yield running


@pytest.fixture
async def vault(emulator: Emulator) -> Emulator:
    """A vault with one key, usable by the system-assigned identity."""
    await emulator.control.create_vault(VAULT)
    await emulator.control.create_key(VAULT, KEY)
    await emulator.control.grant(VAULT)
    return emulator


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.start() as running:
        yield running


@pytest.fixture
async def session(emulator: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=emulator.connector()) as open_session:
        yield open_session


@pytest.fixture
async def wire(emulator: Emulator, session: aiohttp.ClientSession) -> Wire:
    client = Wire(emulator, session)
    await client.sign_in()
    return client


@pytest.fixture
def transport(session: aiohttp.ClientSession) -> AioHttpTransport:
    return AioHttpTransport(session=session, session_owner=False)


@pytest.fixture
async def identity(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ManagedIdentityCredential]:
    for name, value in emulator.imds_environment().items():
        monkeypatch.setenv(name, value)
    async with ManagedIdentityCredential(retry_total=0) as credential:
        yield credential


@pytest.fixture
async def keys(
    vault: Emulator, identity: ManagedIdentityCredential, transport: AioHttpTransport
) -> AsyncIterator[KeyClient]:
    url = (await vault.control.vault(VAULT))["url"]
    async with KeyClient(url, identity, transport=transport, retry_total=0) as client:
        yield client


@pytest.fixture
def cryptography(
    identity: ManagedIdentityCredential, transport: AioHttpTransport
) -> Callable[[str], CryptographyClient]:
    """A client for one version of a key, by its id."""
    return lambda kid: CryptographyClient(kid, identity, transport=transport, retry_total=0)
