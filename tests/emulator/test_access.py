"""Who gets in: the token first, then the network, then the permission, and only then the key."""

import base64
import json
import uuid

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.keys.aio import KeyClient
from cryptography.hazmat.primitives.asymmetric import rsa

from byokd.emulator import ControlError, Emulator, Network, Permission
from byokd.emulator.vocabulary import Access
from byokd.emulator.world import HOME_TENANT
from emulator.support import KEY, VAULT, Clock, Wire

OTHER_TENANT = str(uuid.UUID(int=7))
CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/{}", resource="https://vault.azure.net"'


@pytest.mark.usefixtures("vault")
async def test_request_without_token_is_challenged(wire: Wire) -> None:
    wire.token = None
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert (seen.status, seen.codes) == (401, ("Unauthorized", None))
    assert seen.body["error"]["message"].startswith("AKV10000")
    assert seen.headers["WWW-Authenticate"] == CHALLENGE.format(HOME_TENANT)


@pytest.mark.usefixtures("vault")
async def test_genuine_answers_carry_the_headers_of_key_vault(wire: Wire) -> None:
    for path, status in ((f"/keys/{KEY}", 200), ("/keys/none", 404), ("/deletedkeys/none", 404), ("/keys", 403)):
        seen = await wire.send("GET", path)
        assert seen.status == status
        assert seen.headers["x-ms-keyvault-region"] == "westeurope"
        assert uuid.UUID(seen.headers["x-ms-request-id"])
        assert {"x-ms-keyvault-service-version", "x-ms-keyvault-network-info"} <= set(seen.headers)


async def test_token_of_another_tenant_is_refused_and_the_right_one_named(vault: Emulator, wire: Wire) -> None:
    await vault.control.change_vault(VAULT, tenant=OTHER_TENANT)
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert seen.status == 401
    assert seen.body["error"]["message"].startswith("AKV10032: Invalid issuer.")
    assert seen.headers["WWW-Authenticate"] == CHALLENGE.format(OTHER_TENANT)


async def test_sdk_gives_up_when_its_identity_lives_in_another_tenant(vault: Emulator, keys: KeyClient) -> None:
    await vault.control.change_vault(VAULT, tenant=OTHER_TENANT)
    with pytest.raises(ClientAuthenticationError) as caught:
        await keys.get_key(KEY)
    assert "AKV10032" in caught.value.message


async def test_expired_token_is_refused(vault: Emulator, wire: Wire, clock: Clock) -> None:
    await vault.control.set_token_seconds(identity=60)
    await wire.sign_in()
    clock.advance(59)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200
    clock.advance(1)
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert (seen.status, seen.body["error"]["message"][:14]) == (401, "[TokenExpired]")


@pytest.mark.usefixtures("vault")
async def test_token_that_others_signed_is_refused(wire: Wire) -> None:
    claims = jwt.decode(await wire.sign_in(), options={"verify_signature": False})
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    wire.token = jwt.encode(claims, stranger, algorithm="RS256")
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert (seen.status, seen.body["error"]["message"][:8]) == (401, "AKV10046")


@pytest.mark.usefixtures("vault")
async def test_token_for_another_service_is_refused(wire: Wire) -> None:
    await wire.sign_in(resource="https://management.azure.com/")
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert (seen.status, seen.body["error"]["message"][:8]) == (401, "AKV10022")


async def test_revoked_tokens_are_answered_with_a_claims_challenge(vault: Emulator, wire: Wire) -> None:
    await vault.control.revoke_tokens(VAULT)
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert seen.status == 401
    challenge = seen.headers["WWW-Authenticate"]
    assert 'error="insufficient_claims"' in challenge
    claims = json.loads(base64.b64decode(challenge.split('claims="')[1].rstrip('"')))
    assert claims["access_token"]["nbf"]["essential"] is True
    await wire.sign_in()
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200


async def test_sdk_fetches_a_new_token_after_a_claims_challenge(vault: Emulator, keys: KeyClient) -> None:
    await keys.get_key(KEY)
    await vault.control.revoke_tokens(VAULT)
    assert (await keys.get_key(KEY)).name == KEY
    assert vault.world.calls.total(target="managed-identity") == 2


PATHS = [
    (Permission.GET, "GET", f"/keys/{KEY}", None),
    (Permission.LIST, "GET", f"/keys/{KEY}/versions", None),
    (Permission.LIST, "GET", "/keys", None),
    (Permission.LIST, "GET", "/deletedkeys", None),
    (Permission.CREATE, "POST", "/keys/made/create", {"kty": "RSA"}),
    (Permission.ROTATE, "POST", f"/keys/{KEY}/rotate", None),
    (Permission.UPDATE, "PATCH", f"/keys/{KEY}", {"attributes": {"enabled": True}}),
    (Permission.DELETE, "DELETE", f"/keys/{KEY}", None),
    (Permission.GET, "GET", "/deletedkeys/gone", None),
    (Permission.RECOVER, "POST", "/deletedkeys/gone/recover", None),
    (Permission.PURGE, "DELETE", "/deletedkeys/gone", None),
    (Permission.WRAP_KEY, "POST", f"/keys/{KEY}//wrapkey", {"alg": "RSA-OAEP-256", "value": "AAAA"}),
    (Permission.UNWRAP_KEY, "POST", f"/keys/{KEY}//unwrapkey", {"alg": "RSA-OAEP-256", "value": "AAAA"}),
]


@pytest.mark.parametrize(("permission", "method", "path", "body"), PATHS)
async def test_each_operation_needs_its_own_permission(
    vault: Emulator, wire: Wire, permission: Permission, method: str, path: str, body: object
) -> None:
    await vault.control.create_key(VAULT, "gone")
    await vault.control.delete_key(VAULT, "gone")
    await vault.control.grant(VAULT, permissions=list(Permission))
    await vault.control.revoke(VAULT, permissions=[permission])
    refused = await wire.send(method, path, body)
    assert (refused.status, refused.codes) == (403, ("Forbidden", "ForbiddenByRbac"))
    await vault.control.grant(VAULT, permissions=[permission])
    assert (await wire.send(method, path, body)).status in {200, 204, 400}


async def test_refusal_names_caller_action_and_resource(vault: Emulator, wire: Wire) -> None:
    await vault.control.revoke(VAULT, permissions=["unwrapKey"])
    message = (await wire.wrap(b"x", operation="unwrapKey")).body["error"]["message"]
    caller = vault.world.principal("system")
    assert f"appid={caller.client_id};oid={caller.object_id};iss=https://sts.windows.net/{HOME_TENANT}/" in message
    assert "Action: 'Microsoft.KeyVault/vaults/keys/unwrap/action'" in message
    assert f"/providers/microsoft.keyvault/vaults/{VAULT}/keys/{KEY}'" in message
    assert f"Vault: {VAULT};location=westeurope" in message


async def test_a_vault_goes_by_access_policies_or_by_roles_and_never_by_both(vault: Emulator, wire: Wire) -> None:
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200
    await vault.control.change_vault(VAULT, access=Access.POLICIES)
    refused = await wire.send("GET", f"/keys/{KEY}")
    assert (refused.status, refused.codes) == (403, ("Forbidden", "AccessDenied"))
    assert f"oid={vault.world.principal('system').object_id}" in refused.body["error"]["message"]
    with pytest.raises(ControlError, match="for all keys of a vault"):
        await vault.control.grant(VAULT, key=KEY)
    await vault.control.grant(VAULT, permissions=["get"])
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200
    assert (await wire.wrap(b"x")).codes == ("Forbidden", "AccessDenied")
    await vault.control.change_vault(VAULT, access=Access.ROLES)
    await vault.control.revoke(VAULT)
    assert (await wire.send("GET", f"/keys/{KEY}")).codes == ("Forbidden", "ForbiddenByRbac")


async def test_permission_can_be_given_for_one_key_only(vault: Emulator, wire: Wire) -> None:
    await vault.control.create_key(VAULT, "other")
    await vault.control.revoke(VAULT)
    await vault.control.grant(VAULT, key="other")
    assert (await wire.send("GET", "/keys/Other")).status == 200
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 403


async def test_permission_of_one_principal_serves_no_other(vault: Emulator, wire: Wire) -> None:
    someone = await vault.control.create_identity("someone")
    await wire.sign_in(client_id=someone["client_id"])
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 403
    await vault.control.grant(VAULT, someone["object_id"], ["get"])
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200


async def test_grants_and_removals_take_their_time_to_spread(vault: Emulator, wire: Wire, clock: Clock) -> None:
    await vault.control.revoke(VAULT, permissions=["get"], delay_seconds=21)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200
    clock.advance(21)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 403
    await vault.control.grant(VAULT, permissions=["get"], delay_seconds=84)
    clock.advance(83)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 403
    clock.advance(1)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200


@pytest.mark.parametrize(
    ("network", "code"), [(Network.FIREWALL, "ForbiddenByFirewall"), (Network.CONNECTION, "ForbiddenByConnection")]
)
async def test_network_is_decided_after_the_token_and_before_the_permission(
    vault: Emulator, wire: Wire, network: Network, code: str
) -> None:
    await vault.control.revoke(VAULT)
    await vault.control.change_vault(VAULT, network=network)
    assert (await wire.send("GET", f"/keys/{KEY}")).codes == ("Forbidden", code)
    token, wire.token = wire.token, None
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 401
    wire.token = token
    await vault.control.change_vault(VAULT, network=Network.OPEN)
    assert (await wire.send("GET", f"/keys/{KEY}")).codes == ("Forbidden", "ForbiddenByRbac")


async def test_permission_is_decided_before_the_key(vault: Emulator, wire: Wire) -> None:
    await vault.control.revoke(VAULT)
    assert (await wire.send("GET", "/keys/never-made")).codes == ("Forbidden", "ForbiddenByRbac")


async def test_sdk_reports_each_refusal_by_its_inner_code(vault: Emulator, keys: KeyClient) -> None:
    await vault.control.revoke(VAULT)
    with pytest.raises(HttpResponseError) as caught:
        await keys.get_key(KEY)
    assert (caught.value.status_code, caught.value.error.innererror) == (403, {"code": "ForbiddenByRbac"})


async def test_application_of_one_tenant_reaches_a_vault_of_another_that_let_it_in(
    emulator: Emulator, transport: AioHttpTransport
) -> None:
    application = await emulator.control.create_application("platform", secret="s3cret", consented=[OTHER_TENANT])
    await emulator.control.create_vault("foreign", tenant=OTHER_TENANT)
    await emulator.control.create_key("foreign", KEY)
    await emulator.control.grant("foreign", "platform")
    credential = ClientSecretCredential(
        HOME_TENANT,
        application["client_id"],
        "s3cret",
        additionally_allowed_tenants=["*"],
        transport=transport,
        retry_total=0,
    )
    async with credential, KeyClient("https://foreign.vault.azure.net", credential, transport=transport) as client:
        assert (await client.get_key(KEY)).name == KEY


async def test_deleted_vault_is_gone_until_it_is_recovered(vault: Emulator, wire: Wire) -> None:
    await vault.control.delete_vault(VAULT)
    with pytest.raises(OSError, match="Name or service not known"):
        await wire.send("GET", f"/keys/{KEY}")
    await vault.control.recover_vault(VAULT)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200
