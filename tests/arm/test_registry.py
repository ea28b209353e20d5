"""What ARM tells of vaults: real TLS, real transport, azure-core's client and bearer policy, the emulator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from byokd.adapters.arm.registry import KEPT_SECONDS, ArmRegistry
from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.transport import Outbound, azure_transport
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.properties import VaultProperties
from byokd.emulator import Emulator, FaultKind
from byokd.emulator.world import SUBSCRIPTION
from byokd.ports import KeyTarget
from byokd.runtime.clock import SystemClock
from byokd.settings import ArmSettings, IdentitySettings, NetworkSettings, VaultSettings
from keyvault.conftest import SHARED_KEYS

ELSEWHERE = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER_TENANT = "99999999-9999-4999-8999-999999999999"
PROTECTED = VaultProperties("westeurope", soft_delete=True, purge_protection=True)


class SteppedClock(SystemClock):
    def __init__(self) -> None:
        self.stepped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.stepped


@dataclass
class Azure:
    emulator: Emulator
    registry: ArmRegistry
    target: KeyTarget
    clock: SteppedClock

    async def told(self, *, subscription: str = SUBSCRIPTION) -> VaultProperties | None:
        return await self.registry.vault(self.target, subscription=subscription)

    def calls(self) -> list[tuple[str, int]]:
        return [
            (one["operation"], one["status"]) for one in self.emulator.world.calls.listing() if one["target"] == "arm"
        ]


@asynccontextmanager
async def over(directory: Path, settings: ArmSettings) -> AsyncIterator[Azure]:
    async with Emulator.start(state_dir=directory, keys=SHARED_KEYS) as emulator:
        vault = await emulator.control.create_vault("contoso", purge_protection=True)
        network = NetworkSettings(ca_file=emulator.ca_file, connect_to=emulator.connect_to)
        clock = SteppedClock()
        with pytest.MonkeyPatch.context() as patch:
            for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
                patch.delenv(name, raising=False)
            for name, value in emulator.imds_environment().items():
                patch.setenv(name, value)
            async with Outbound(VaultSettings(), network) as outbound:
                credentials = Credentials({"platform": IdentitySettings()}, outbound.tokens, clock=clock)
                registry = ArmRegistry(azure_transport(outbound.kept), credentials, settings, clock)
                key = KeyIdentifier(VaultHost("contoso.vault.azure.net"), "media")
                target = KeyTarget(IdentityName("platform"), TenantId(vault["tenant"]), key)
                yield Azure(emulator, registry, target, clock)
                await credentials.close()


@pytest.fixture
async def azure(tmp_path: Path) -> AsyncIterator[Azure]:
    settings = ArmSettings(enabled=True, deadline=timedelta(seconds=1))
    async with over(tmp_path, settings) as made:
        yield made


async def test_a_reader_is_told_and_the_answer_is_kept_for_a_minute(azure: Azure) -> None:
    await azure.emulator.control.set_reader("contoso")
    assert await azure.told() == PROTECTED
    assert azure.calls() == [("get", 200), ("list", 200)]
    pinned = replace(azure.target, key=replace(azure.target.key, version="0" * 32))
    assert await azure.registry.vault(pinned, subscription=SUBSCRIPTION) == PROTECTED
    assert len(azure.calls()) == 2
    azure.clock.stepped = KEPT_SECONDS + 1
    await azure.emulator.control.set_reader("contoso", present=False)
    assert await azure.told() is None


async def test_what_one_account_is_told_ends_what_was_kept_for_others_of_the_vault_and_is_something_else(
    azure: Azure,
) -> None:
    await azure.emulator.control.set_reader("contoso")
    others = replace(azure, target=replace(azure.target, key=replace(azure.target.key, name="other")))
    assert await azure.told() == PROTECTED
    await azure.emulator.control.change_vault("contoso", soft_delete=False)
    lost = replace(PROTECTED, soft_delete=False)
    assert await others.told() == lost
    assert await azure.told() == lost


@pytest.mark.parametrize("role", ["Reader", "Contributor", "Key Vault Reader"])
@pytest.mark.parametrize("at", ["group", "subscription"])
async def test_a_role_above_the_vault_lets_it_be_read_too(azure: Azure, role: str, at: str) -> None:
    await azure.emulator.control.assign_role("contoso", role, at=at)
    assert await azure.told() == PROTECTED
    await azure.emulator.control.remove_role("contoso", role, at=at)
    azure.clock.stepped = KEPT_SECONDS + 1
    assert await azure.told() is None


@pytest.mark.parametrize("protected", [True, False])
async def test_region_soft_delete_and_purge_protection_are_told_as_they_are(azure: Azure, protected: bool) -> None:  # noqa: FBT001 - drawn
    await azure.emulator.control.create_vault("fabrikam", purge_protection=protected, region="North Europe")
    await azure.emulator.control.set_reader("fabrikam")
    azure.target = replace(azure.target, key=KeyIdentifier(VaultHost("fabrikam.vault.azure.net"), "media"))
    assert await azure.told() == VaultProperties("northeurope", soft_delete=True, purge_protection=protected)


async def test_who_may_not_read_or_asks_for_another_tenant_is_told_nothing(azure: Azure) -> None:
    assert await azure.told() is None
    await azure.emulator.control.set_reader("contoso")
    await azure.emulator.control.change_vault("contoso", tenant=OTHER_TENANT)
    azure.clock.stepped = KEPT_SECONDS + 1
    assert await azure.told() is None


async def test_a_vault_in_another_subscription_is_found_where_the_settings_say(tmp_path: Path) -> None:
    settings = ArmSettings(enabled=True, subscriptions=(ELSEWHERE.upper(), SUBSCRIPTION))
    async with over(tmp_path, settings) as azure:
        await azure.emulator.control.set_reader("contoso")
        assert await azure.told(subscription="1f8fad5b-d9cb-469f-a165-70867728950e") == PROTECTED
        assert azure.calls() == [("get", 200), ("list", 200)]
        assert sum(one["count"] for one in azure.emulator.world.calls.listing() if one["target"] == "arm") == 4


async def test_without_leave_nobody_is_asked(tmp_path: Path) -> None:
    async with over(tmp_path, ArmSettings()) as azure:
        await azure.emulator.control.set_reader("contoso")
        assert await azure.told() is None
        assert azure.calls() == []


async def test_no_token_is_asked_for_a_cloud_that_is_not_known(azure: Azure) -> None:
    await azure.emulator.control.set_reader("contoso")
    odd = KeyIdentifier(VaultHost("contoso.vault.example"), "media")
    assert await azure.registry.vault(replace(azure.target, key=odd), subscription=SUBSCRIPTION) is None
    assert azure.calls() == []


@pytest.mark.parametrize(
    "fault",
    [
        FaultKind.THROTTLE,
        FaultKind.SERVER_ERROR,
        FaultKind.UNAVAILABLE,
        FaultKind.RESET,
        FaultKind.HANG,
        FaultKind.PROXY_PAGE,
        FaultKind.TRUNCATED,
        FaultKind.ANSWER,
    ],
)
@pytest.mark.parametrize("operation", ["list", "get"])
async def test_trouble_tells_nothing_within_its_deadline_and_raises_nothing(
    azure: Azure, fault: FaultKind, operation: str
) -> None:
    await azure.emulator.control.set_reader("contoso")
    await azure.emulator.control.set_fault("arm", fault, operations=[operation])
    with capture_logs() as logs:
        begun = azure.clock.monotonic()
        assert await azure.told() is None
        assert azure.clock.monotonic() - begun < 4
    assert all(
        entry["event"] == "arm-untold" and set(entry) == {"event", "log_level", "vault", "error"} for entry in logs
    )
    await azure.emulator.control.clear_faults()
    assert await azure.told() is None, "kept, so that a file of accounts does not wait for each"
    azure.clock.stepped = KEPT_SECONDS + 1
    assert await azure.told() == PROTECTED


async def test_no_token_is_no_answer(azure: Azure) -> None:
    await azure.emulator.control.set_fault("managed-identity", FaultKind.UNAVAILABLE)
    assert await azure.told() is None
    assert azure.calls() == []
