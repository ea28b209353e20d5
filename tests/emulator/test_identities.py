"""Tokens: managed identities and applications through the real azure-identity, and what goes wrong with them."""

import datetime as dt
import uuid
from collections.abc import Callable

import aiohttp
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity import CredentialUnavailableError
from azure.identity.aio import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from byokd.emulator import ControlError, Emulator, PrincipalKind
from byokd.emulator.world import HOME_TENANT
from emulator.support import Clock

SCOPE = "https://vault.azure.net/.default"
OTHER_TENANT = str(uuid.UUID(int=7))
NOBODY = str(uuid.UUID(int=9))


def claims_of(token: str) -> dict[str, str]:
    claims: dict[str, str] = jwt.decode(token, options={"verify_signature": False})
    return claims


def certificate(*, days: int = 1) -> tuple[bytes, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "platform")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    public = made.public_bytes(serialization.Encoding.PEM)
    return key.private_bytes(serialization.Encoding.PEM, *form) + public, public.decode()


async def test_system_assigned_identity_gets_a_token_signed_by_the_published_key(
    emulator: Emulator, identity: ManagedIdentityCredential, session: aiohttp.ClientSession, clock: Clock
) -> None:
    token = await identity.get_token(SCOPE)
    base = f"https://login.microsoftonline.com/{HOME_TENANT}"
    async with session.get(f"{base}/v2.0/.well-known/openid-configuration") as response:
        configuration = await response.json()
    async with session.get(configuration["jwks_uri"]) as response:
        key_set = jwt.PyJWKSet.from_dict(await response.json())
    key = key_set[jwt.get_unverified_header(token.token)["kid"]]
    claims = jwt.decode(token.token, key, algorithms=["RS256"], audience="https://vault.azure.net")
    system = emulator.world.principal("system")
    assert (claims["oid"], claims["appid"], claims["tid"]) == (system.object_id, system.client_id, HOME_TENANT)
    assert claims["iss"] == f"https://sts.windows.net/{HOME_TENANT}/"
    assert token.expires_on == claims["exp"] == int(clock.now) + 86_399


@pytest.mark.parametrize("selector", ["client_id", "object_id", "msi_res_id"])
@pytest.mark.usefixtures("identity")
async def test_user_assigned_identity_is_found_by_any_of_its_ids(emulator: Emulator, selector: str) -> None:
    await emulator.control.create_identity("first")
    second = await emulator.control.create_identity("second")
    value = second["resource_id"] if selector == "msi_res_id" else second[selector]
    async with ManagedIdentityCredential(identity_config={selector: value}) as credential:
        token = await credential.get_token(SCOPE)
    assert claims_of(token.token)["oid"] == second["object_id"]


@pytest.mark.usefixtures("emulator", "identity")
async def test_unknown_identity_is_unavailable() -> None:
    async with ManagedIdentityCredential(client_id=NOBODY, retry_total=0) as credential:
        with pytest.raises(CredentialUnavailableError, match="Identity not found"):
            await credential.get_token(SCOPE)


async def test_only_user_assigned_identity_needs_no_name_but_two_do(
    emulator: Emulator, identity: ManagedIdentityCredential
) -> None:
    await emulator.control.delete_principal("system")
    with pytest.raises(CredentialUnavailableError, match="Identity not found"):
        await identity.get_token(SCOPE)
    only = await emulator.control.create_identity("only")
    assert claims_of((await identity.get_token(SCOPE)).token)["oid"] == only["object_id"]
    await emulator.control.create_identity("second")
    async with ManagedIdentityCredential(retry_total=0) as fresh:
        with pytest.raises(CredentialUnavailableError, match="Multiple user assigned identities exist"):
            await fresh.get_token(SCOPE)


async def test_there_is_one_system_assigned_identity_at_most(emulator: Emulator) -> None:
    await emulator.control.delete_principal("system")
    made = await emulator.control.create_identity("own", kind=PrincipalKind.SYSTEM_ASSIGNED)
    assert (made["kind"], made["resource_id"]) == ("system", None)


async def test_app_service_endpoint_serves_the_same_identities(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.app_service_environment().items():
        monkeypatch.setenv(name, value)
    user = await emulator.control.create_identity("user")
    async with ManagedIdentityCredential() as system, ManagedIdentityCredential(client_id=user["client_id"]) as named:
        assert claims_of((await system.get_token(SCOPE)).token)["oid"] == emulator.world.principal("system").object_id
        assert claims_of((await named.get_token(SCOPE)).token)["oid"] == user["object_id"]
    async with ManagedIdentityCredential(client_id=NOBODY, retry_total=0) as nobody:
        with pytest.raises(ClientAuthenticationError) as caught:
            await nobody.get_token(SCOPE)
    assert caught.value.response.status_code == 400


async def test_app_service_endpoint_wants_its_secret(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", emulator.app_service_environment()["IDENTITY_ENDPOINT"])
    monkeypatch.setenv("IDENTITY_HEADER", "guess")
    async with ManagedIdentityCredential(retry_total=0) as credential:
        with pytest.raises(ClientAuthenticationError):
            await credential.get_token(SCOPE)


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {"api-version": "2018-02-01", "resource": "https://vault.azure.net"}),
        ({"Metadata": "true"}, {"resource": "https://vault.azure.net"}),
        ({"Metadata": "true"}, {"api-version": "2018-02-01"}),
        ({"Metadata": "true"}, {"api-version": "2018-02-01", "resource": "https://unknown.example"}),
        (
            {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"},
            {"api-version": "1", "resource": "https://vault.azure.net"},
        ),
    ],
)
async def test_imds_refuses_requests_that_are_not_meant_for_it(
    emulator: Emulator, headers: dict[str, str], parameters: dict[str, str]
) -> None:
    url = f"{emulator.http_url}/metadata/identity/oauth2/token"
    async with aiohttp.ClientSession() as plain, plain.get(url, headers=headers, params=parameters) as response:
        assert (response.status, "access_token" in await response.json()) == (400, False)


async def test_application_signs_in_with_secret_certificate_or_federated_identity(
    emulator: Emulator, transport: AioHttpTransport, identity: ManagedIdentityCredential
) -> None:
    both, public = certificate()
    system = emulator.world.principal("system")
    trust = {"issuer": f"https://login.microsoftonline.com/{HOME_TENANT}/v2.0", "subject": system.object_id}
    application = await emulator.control.create_application(
        "platform", secret="s3cret", certificates=[public], federations=[trust], consented=[OTHER_TENANT]
    )
    client_id = application["client_id"]
    assertion = (await identity.get_token("api://AzureADTokenExchange/.default")).token
    ways = (
        ClientSecretCredential(HOME_TENANT, client_id, "s3cret", transport=transport),
        CertificateCredential(OTHER_TENANT, client_id, certificate_data=both, transport=transport),
        ClientAssertionCredential(OTHER_TENANT, client_id, lambda: assertion, transport=transport),
    )
    for credential, tenant in zip(ways, (HOME_TENANT, OTHER_TENANT, OTHER_TENANT), strict=True):
        async with credential:
            claims = claims_of((await credential.get_token(SCOPE)).token)
        assert (claims["tid"], claims["appid"]) == (tenant, client_id)
        assert claims["oid"] == emulator.world.principal("platform").object_ids[tenant]


async def remove_tenant(emulator: Emulator) -> None:
    await emulator.control.remove_tenant(OTHER_TENANT)


async def withdraw(emulator: Emulator) -> None:
    await emulator.control.change_application("platform", withdraw=OTHER_TENANT)


async def disable(emulator: Emulator) -> None:
    await emulator.control.change_application("platform", disabled=True)


async def forget(emulator: Emulator) -> None:
    await emulator.control.delete_principal("platform")


@pytest.mark.parametrize(
    ("change", "number"), [(remove_tenant, 90002), (withdraw, 7000229), (disable, 7000112), (forget, 700016)]
)
async def test_customer_who_withdraws_is_told_by_the_code_of_entra(
    emulator: Emulator, transport: AioHttpTransport, change: Callable[..., object], number: int
) -> None:
    made = await emulator.control.create_application("platform", secret="s3cret", consented=[OTHER_TENANT])
    await change(emulator)
    async with ClientSecretCredential(OTHER_TENANT, made["client_id"], "s3cret", transport=transport) as credential:
        with pytest.raises(ClientAuthenticationError, match=f"AADSTS{number}: ") as caught:
            await credential.get_token(SCOPE)
    document = caught.value.response.json()
    assert document["error_codes"] == [number]
    assert {"error", "timestamp", "trace_id", "correlation_id", "error_uri"} <= set(document)


async def test_wrong_credentials_of_an_application_are_refused(
    emulator: Emulator, transport: AioHttpTransport, identity: ManagedIdentityCredential
) -> None:
    both, _ = certificate()
    made = await emulator.control.create_application("platform", secret="s3cret")
    stranger = (await identity.get_token("api://AzureADTokenExchange/.default")).token
    wrong = {
        7000215: ClientSecretCredential(HOME_TENANT, made["client_id"], "guess", transport=transport),
        700027: CertificateCredential(HOME_TENANT, made["client_id"], certificate_data=both, transport=transport),
        70025: ClientAssertionCredential(HOME_TENANT, made["client_id"], lambda: stranger, transport=transport),
        50027: ClientAssertionCredential(HOME_TENANT, made["client_id"], lambda: "a.b.c", transport=transport),
    }
    for number, credential in wrong.items():
        async with credential:
            with pytest.raises(ClientAuthenticationError, match=f"AADSTS{number}: "):
                await credential.get_token(SCOPE)


async def test_unknown_resource_is_refused(emulator: Emulator, transport: AioHttpTransport) -> None:
    made = await emulator.control.create_application("platform", secret="s3cret")
    async with ClientSecretCredential(HOME_TENANT, made["client_id"], "s3cret", transport=transport) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS500011: "):
            await credential.get_token("https://unknown.example/.default")


async def test_lifetime_of_tokens_can_be_chosen(
    emulator: Emulator, transport: AioHttpTransport, identity: ManagedIdentityCredential, clock: Clock
) -> None:
    await emulator.control.set_token_seconds(application=120, identity=600)
    made = await emulator.control.create_application("platform", secret="s3cret")
    assert (await identity.get_token(SCOPE)).expires_on == int(clock.now) + 600
    async with ClientSecretCredential(HOME_TENANT, made["client_id"], "s3cret", transport=transport) as credential:
        assert claims_of((await credential.get_token(SCOPE)).token)["exp"] == int(clock.now) + 120


async def test_instance_discovery_knows_the_public_cloud(session: aiohttp.ClientSession) -> None:
    url = "https://login.microsoftonline.com/common/discovery/instance"
    where = f"https://login.microsoftonline.com/{HOME_TENANT}/oauth2/v2.0/authorize"
    async with session.get(url, params={"api-version": "1.1", "authorization_endpoint": where}) as response:
        document = await response.json()
    assert document["tenant_discovery_endpoint"].split("/")[3] == HOME_TENANT
    assert "login.microsoftonline.com" in document["metadata"][0]["aliases"]


async def test_federated_credential_must_match_in_issuer_subject_audience_and_signature(
    emulator: Emulator, transport: AioHttpTransport, identity: ManagedIdentityCredential
) -> None:
    assertion = (await identity.get_token("api://AzureADTokenExchange/.default")).token
    right = {
        "issuer": f"https://login.microsoftonline.com/{HOME_TENANT}/v2.0",
        "subject": emulator.world.principal("system").object_id,
        "audience": "api://AzureADTokenExchange",
    }
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = stranger.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    wrong = {
        700211: right | {"issuer": "https://elsewhere.example"},
        700213: right | {"subject": NOBODY},
        700212: right | {"audience": "api://other"},
        50013: right | {"public_key": pem},
    }
    for number, trust in wrong.items():
        made = await emulator.control.create_application(f"trusts-{number}", federations=[trust])
        async with ClientAssertionCredential(
            HOME_TENANT, made["client_id"], lambda: assertion, transport=transport
        ) as credential:
            with pytest.raises(ClientAuthenticationError, match=f"AADSTS{number}: "):
                await credential.get_token(SCOPE)


async def test_expired_certificate_is_refused(emulator: Emulator, transport: AioHttpTransport) -> None:
    both, public = certificate(days=-1)
    made = await emulator.control.create_application("platform", certificates=[public])
    async with CertificateCredential(
        HOME_TENANT, made["client_id"], certificate_data=both, transport=transport
    ) as credential:
        with pytest.raises(ClientAuthenticationError, match=r"AADSTS700027: .* is expired"):
            await credential.get_token(SCOPE)


async def test_tenant_disables_an_application_for_itself_alone(emulator: Emulator, transport: AioHttpTransport) -> None:
    made = await emulator.control.create_application("platform", secret="s3cret", consented=[OTHER_TENANT])
    await emulator.control.change_application("platform", disable_in=OTHER_TENANT)

    async def token(tenant: str) -> str:
        async with ClientSecretCredential(tenant, made["client_id"], "s3cret", transport=transport) as credential:
            return (await credential.get_token(SCOPE)).token

    assert await token(HOME_TENANT)
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000112: "):
        await token(OTHER_TENANT)
    await emulator.control.change_application("platform", enable_in=OTHER_TENANT)
    assert await token(OTHER_TENANT)


async def test_identity_taken_away_from_the_machine_and_given_back(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.imds_environment().items():
        monkeypatch.setenv(name, value)
    user = await emulator.control.create_identity("user")
    assert (await emulator.control.detach_identity("user"))["attached"] is False
    async with ManagedIdentityCredential(client_id=user["client_id"], retry_total=0) as credential:
        with pytest.raises(CredentialUnavailableError, match="Identity not found"):
            await credential.get_token(SCOPE)
        assert (await emulator.control.attach_identity("user"))["attached"] is True
        assert claims_of((await credential.get_token(SCOPE)).token)["oid"] == user["object_id"]
    await emulator.control.create_application("platform", secret="s3cret")
    with pytest.raises(ControlError, match="is an application"):
        await emulator.control.detach_identity("platform")


@pytest.mark.parametrize("host", ["login.microsoftonline.us", "login.partner.microsoftonline.cn"])
async def test_other_clouds_have_names_of_their_own(emulator: Emulator, transport: AioHttpTransport, host: str) -> None:
    both, public = certificate()
    made = await emulator.control.create_application("platform", certificates=[public])
    async with CertificateCredential(
        HOME_TENANT, made["client_id"], certificate_data=both, transport=transport, authority=host
    ) as credential:
        assert claims_of((await credential.get_token("https://vault.azure.cn/.default")).token)["tid"] == HOME_TENANT
