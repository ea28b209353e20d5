"""Every kind of identity gets its tokens through the real azure-identity, over TLS, and from nowhere else."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.identity.sources import NOBODY
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.emulator.principals import Credentials as Proofs
from byokd.emulator.world import HOME_TENANT
from byokd.ports import TokenUnavailableError
from byokd.settings import NetworkSettings, VaultSettings
from identity.platform import APPLICATIONS, CONTOSO, FABRIKAM, MANAGED, SCOPE, Platform, claims_of
from identity.proofs import own_certificate, service_account_token

EVERY = (*MANAGED, *APPLICATIONS)


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_an_application_gets_the_token_of_the_accounts_tenant(platform: Platform, name: str) -> None:
    for tenant in (CONTOSO, FABRIKAM, CONTOSO):
        claims = claims_of(await platform.token(name, tenant=tenant))
        assert (claims["tid"], claims["aud"]) == (tenant, "https://vault.azure.net")
        assert claims["appid"] == platform.identities[name].client_id
    assert platform.asked() == 2


async def test_a_managed_identity_has_the_token_of_the_tenant_that_it_lives_in(platform: Platform) -> None:
    user = platform.emulator.world.principal("user")
    expected = {
        "machine": platform.emulator.world.principal("system").object_id,
        "user": user.object_id,
        "by-resource-id": user.object_id,
    }
    for name, object_id in expected.items():
        tokens = {await platform.token(name, tenant=tenant) for tenant in (CONTOSO, FABRIKAM)}
        assert len(tokens) == 1
        claims = claims_of(tokens.pop())
        assert (claims["oid"], claims["tid"]) == (object_id, HOME_TENANT)
    assert platform.asked("managed-identity") == 3


@pytest.mark.parametrize("name", MANAGED)
async def test_app_services_endpoint_serves_the_identity_that_is_named(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_imds = claims_of(await platform.token(name))["oid"]
    for variable, value in platform.emulator.app_service_environment().items():
        monkeypatch.setenv(variable, value)
    credentials = platform.other()
    token = await credentials.token(IdentityName(name), scope=SCOPE, tenant=CONTOSO)
    assert claims_of(token)["oid"] == at_imds
    await credentials.close()


async def test_what_a_cross_tenant_application_shows_is_asked_once_for_all_tenants(platform: Platform) -> None:
    tenants = [TenantId(f"{number:08x}-0000-0000-0000-000000000001") for number in range(30)]
    for tenant in tenants:
        await platform.emulator.control.change_application("vendor", consent=tenant)
    tokens = await platform.all_of("vendor", tenants)
    assert [claims_of(str(token))["tid"] for token in tokens] == tenants
    assert (platform.asked("managed-identity"), platform.asked()) == (1, 30)


@pytest.mark.parametrize("name", EVERY)
async def test_one_fetch_for_all_who_wait(platform: Platform, name: str) -> None:
    tokens = await asyncio.gather(*(platform.token(name) for _ in range(300)))
    assert len(set(tokens)) == 1
    managed = 1 if name in (*MANAGED, "vendor") else 0
    assert (platform.asked("managed-identity"), platform.asked()) == (managed, 1 if name in APPLICATIONS else 0)


@pytest.mark.parametrize("name", EVERY)
async def test_a_token_is_renewed_ahead_and_the_old_one_used_while_that_fails(platform: Platform, name: str) -> None:
    await platform.emulator.control.set_token_seconds(application=3600, identity=3600)
    earliest = time.time() + 3600
    first = await platform.token(name)
    latest = time.time() + 3600
    platform.clock.at = earliest - 301  # the package counts whole seconds
    assert await platform.token(name) == first
    target = "managed-identity" if name in MANAGED else "entra"
    await platform.emulator.control.set_fault(target, "unavailable")
    platform.clock.at = latest - 299
    assert await platform.token(name) == first
    await platform.emulator.control.clear_faults()
    platform.clock.ahead += 2
    assert await platform.token(name) != first


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_tokens_that_live_for_seconds_are_not_asked_for_by_every_request(platform: Platform, name: str) -> None:
    await platform.emulator.control.set_token_seconds(application=20)
    first = await platform.token(name)
    assert await platform.token(name) == first
    platform.clock.ahead = 11
    second = await platform.token(name)
    assert second != first, "half its life is over"
    platform.clock.ahead = 60
    await platform.emulator.control.set_fault("entra", "unavailable")
    with pytest.raises(TokenUnavailableError):
        await platform.token(name)


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize(
    "environment",
    [
        {"AZURE_IDENTITY_DISABLE_MULTITENANTAUTH": "1"},
        {"AZURE_TENANT_ID": HOME_TENANT, "AZURE_CLIENT_ID": NOBODY},
        {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"},
    ],
    ids=["one tenant only", "tenant and client", "authority"],
)
async def test_the_environment_chooses_neither_tenant_nor_client_nor_authority(
    platform: Platform, name: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    only_public = {host: place for host, place in platform.emulator.connect_to.items() if not host.endswith(".us")}
    network = NetworkSettings(ca_file=platform.emulator.ca_file, connect_to=only_public)
    async with Outbound(VaultSettings(), network) as outbound:
        credentials = Credentials(platform.identities, outbound.tokens, clock=platform.clock)
        asking = credentials.token(IdentityName(name), scope=SCOPE, tenant=CONTOSO)
        if "AZURE_IDENTITY_DISABLE_MULTITENANTAUTH" in environment:
            # What keeps azure-identity from naming the tenant keeps it from getting any token at all.
            with pytest.raises(TokenUnavailableError, match="AADSTS90002") as raised:
                await asking
            assert type(raised.value) is TokenUnavailableError
        else:
            claims = claims_of(await asking)
            assert (claims["tid"], claims["appid"]) == (CONTOSO, platform.identities[name].client_id)
        await credentials.close()


async def test_a_managed_identity_stays_one_beside_the_variables_of_workload_identity(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = platform.identities["pods"]
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(platform.token_file))
    monkeypatch.setenv("AZURE_TENANT_ID", HOME_TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", str(pods.client_id))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us")
    assert claims_of(await platform.token("machine"))["oid"] == platform.emulator.world.principal("system").object_id


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_an_authority_of_another_cloud_is_asked_and_no_other(platform: Platform, name: str) -> None:
    there = {"authority": "login.microsoftonline.us"}
    identities = {**platform.identities, name: platform.identities[name].model_copy(update=there)}
    vendor = platform.emulator.world.principal("vendor")
    (trusted,) = vendor.credentials.federations
    vendor.credentials = Proofs(federations=(replace(trusted, audience="api://AzureADTokenExchangeUSGov"),))
    place = str(platform.emulator.tls_address)
    for host, asked in (("login.microsoftonline.com", 0), ("login.microsoftonline.us", 1)):
        network = NetworkSettings(ca_file=platform.emulator.ca_file, connect_to={host: place, "*": "127.0.0.1:9"})
        async with Outbound(VaultSettings(), network) as outbound:
            credentials = Credentials(identities, outbound.tokens, clock=platform.clock)
            asking = credentials.token(IdentityName(name), scope=SCOPE, tenant=CONTOSO)
            (seen,) = await asyncio.gather(asking, return_exceptions=True)
            assert isinstance(seen, str) == bool(asked)
            assert platform.asked() == asked
            await credentials.close()


@pytest.mark.parametrize("name", ["user", "by-resource-id", "vendor"])
async def test_a_user_assigned_identity_taken_away_and_given_back(platform: Platform, name: str) -> None:
    await platform.emulator.control.detach_identity("user")
    with pytest.raises(TokenUnavailableError) as raised:
        await platform.token(name)
    assert raised.value.code.removesuffix(".via-user") == "CredentialUnavailableError"
    assert platform.asked() == 0, "nothing was shown to Entra ID"
    await platform.emulator.control.attach_identity("user")
    platform.clock.ahead = 2
    assert await platform.token(name)


async def test_a_renewed_certificate_or_federated_token_is_taken_after_a_refusal(platform: Platform) -> None:
    own_certificate(platform.certificate, key=2)
    platform.token_file.write_text(service_account_token(key=2))
    for name, code in (("certified", "AADSTS700027"), ("pods", "AADSTS50013")):
        with pytest.raises(TokenUnavailableError) as raised:
            await platform.token(name)
        assert raised.value.code == code
    renewed = own_certificate(platform.certificate)
    platform.emulator.world.principal("certified").credentials = Proofs(certificates=(renewed.public,))
    platform.token_file.write_text(service_account_token())
    platform.clock.ahead = 2
    for name in ("certified", "pods"):
        assert claims_of(await platform.token(name))["tid"] == CONTOSO


async def test_a_file_that_is_missing_is_our_own_trouble(platform: Platform, tmp_path: Path) -> None:
    platform.certificate.rename(tmp_path / "away.pem")
    platform.token_file.rename(tmp_path / "away")
    for name in ("certified", "pods"):
        with pytest.raises(TokenUnavailableError) as raised:
            await platform.token(name)
        assert raised.value.code == "FileNotFoundError"
    (tmp_path / "away.pem").rename(platform.certificate)
    (tmp_path / "away").rename(platform.token_file)
    platform.clock.ahead = 2
    for name in ("certified", "pods"):
        assert await platform.token(name)
    assert platform.asked() == 2


async def test_nothing_is_shown(platform: Platform) -> None:
    tokens = [await platform.token(name) for name in EVERY]
    tokens.append(platform.credentials._shown["vendor"].assertion)
    said = repr([vars(platform.credentials), platform.credentials._slots._slots, platform.credentials._shown])
    assert not [token for token in tokens if token in said]
