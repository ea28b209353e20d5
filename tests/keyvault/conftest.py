from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from azure.keyvault.keys._shared import http_challenge_cache

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.service import AzureKeyService, lean_service, sdk_service
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId
from byokd.emulator import Emulator, KeyMaker
from byokd.ports import KeyTarget
from byokd.settings import IdentitySettings, NetworkSettings, VaultSettings
from keyvault.double import Double, Tokens
from keyvault.way import KEY, VAULT, Azure, RealClock, ServiceOver

SHARED_KEYS = KeyMaker(pool=4)
VAULTS = VaultSettings(connections=4)


@pytest.fixture(params=[lean_service, sdk_service], ids=["lean", "sdk"])
def service_over(request: pytest.FixtureRequest) -> Iterator[ServiceOver]:
    """Both ways to ask a vault pass the same tests."""
    http_challenge_cache.clear()
    yield request.param
    http_challenge_cache.clear()


@pytest.fixture
async def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with Emulator.start(state_dir=tmp_path / "emulator", keys=SHARED_KEYS) as running:
        for name, value in running.imds_environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def azure(emulator: Emulator, service_over: ServiceOver) -> AsyncIterator[Azure]:
    vault = await emulator.control.create_vault(VAULT)
    await emulator.control.create_key(VAULT, KEY)
    await emulator.control.grant(VAULT)
    network = NetworkSettings(ca_file=emulator.ca_file, connect_to=emulator.connect_to)
    clock = RealClock()
    async with Outbound(VAULTS, network) as outbound:
        credentials = Credentials({"platform": IdentitySettings()}, outbound.tokens, clock=clock)
        key = KeyIdentifier.parse(f"https://{VAULT}.vault.azure.net/keys/{KEY}", allowed_suffixes=["vault.azure.net"])
        yield Azure(
            emulator,
            outbound,
            credentials,
            service_over(outbound.kept, credentials, vaults=VAULTS),
            service_over(outbound.fresh, credentials, vaults=VAULTS),
            KeyTarget(IdentityName("platform"), TenantId(vault["tenant"]), key),
            clock,
        )
        await credentials.close()


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[Double]:
    async with Double.start(tmp_path) as running:
        yield running


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
async def to_double(double: Double) -> AsyncIterator[Outbound]:
    network = NetworkSettings(ca_file=double.ca_file, connect_to={"*.vault.azure.net": f"127.0.0.1:{double.port}"})
    async with Outbound(VAULTS, network) as outbound:
        yield outbound


@pytest.fixture
def doubtful(to_double: Outbound, tokens: Tokens, service_over: ServiceOver) -> AzureKeyService:
    """The service, in front of the double."""
    return service_over(to_double.kept, tokens, vaults=VAULTS)
