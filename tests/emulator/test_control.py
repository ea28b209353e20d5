"""The control API: what it takes, what it refuses and how, and what it never shows."""

import asyncio
import json
import os
import re
import ssl
from pathlib import Path

import aiohttp
import pytest

from byokd.emulator import ControlClient, ControlError, Dialect, Emulator, EmulatorResolver, trusting_context
from emulator.support import KEY, VAULT, Wire


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "vaults", {"name": "contoso2", "colour": "red"}, 400, "colour: Extra inputs are not permitted"),
        ("POST", "vaults", {"name": "x"}, 400, "name: "),
        ("POST", "vaults", {"name": VAULT}, 409, "is taken"),
        ("POST", "vaults", {"name": "short", "soft_delete_days": 6}, 400, "soft_delete_days: "),
        ("GET", "vaults/nowhere", None, 404, "there is no vault named 'nowhere'"),
        ("POST", f"vaults/{VAULT}/recover", None, 409, "is not deleted"),
        ("POST", f"vaults/{VAULT}/purge", None, 409, "cannot be purged"),
        ("POST", f"vaults/{VAULT}/keys", {"name": "k", "type": "oct"}, 400, "type: "),
        ("POST", f"vaults/{VAULT}/keys", {"name": "k", "key_ops": ["fly"]}, 400, "key_ops.0: "),
        ("PATCH", f"vaults/{VAULT}/keys/none", {"enabled": False}, 404, "there is no key named 'none'"),
        ("PATCH", f"vaults/{VAULT}/keys/{KEY}", {"version": "0" * 32}, 404, "there is no version"),
        ("PATCH", f"vaults/{VAULT}/keys/{KEY}", {"enabled": None}, 400, "enabled: "),
        ("POST", f"vaults/{VAULT}/keys/{KEY}/recover", None, 404, "Deleted Key not found"),
        ("POST", f"vaults/{VAULT}/grant", {"principal": "nobody"}, 404, "named 'nobody'"),
        ("POST", f"vaults/{VAULT}/revoke", {"key": "other"}, 409, "has none of these permissions"),
        ("POST", "faults", {"target": "nowhere", "kind": "reset"}, 404, "there is no vault named 'nowhere'"),
        ("POST", "faults", {"target": "*", "kind": "reset", "share": 0}, 400, "share: "),
        ("DELETE", "faults/12", None, 404, "there is no fault named '12'"),
        ("POST", "identities", {"name": "two", "kind": "system"}, 409, "system-assigned identity already"),
        ("PATCH", "settings", {"dialects": {"klingon": True}}, 400, "dialects.klingon"),
        *(
            (
                *("POST", f"vaults/{VAULT}/subscriptions", {"name": name, "endpoint": "https://hooks.example/"}, 400),
                "fit: name: the name of an event subscription has 3 to 64 letters, digits and hyphens",
            )
            for name in ("ab", "a" * 65, "to_byokd", "byokd\n")
        ),
        ("GET", "nothing", None, 404, "GET /_control/nothing: not found"),
        ("PUT", "vaults", None, 405, "method not allowed"),
    ],
)
async def test_what_cannot_be_done_is_explained(
    vault: Emulator, method: str, path: str, body: object, status: int, words: str
) -> None:
    url = f"{vault.http_url}/_control/{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body) as response:
        document = await response.json()
    assert (response.status, set(document)) == (status, {"error", "hint"})
    assert words in document["error"]
    assert document["hint"]


async def test_client_raises_what_the_emulator_explained(emulator: Emulator) -> None:
    with pytest.raises(ControlError, match="no vault named 'nowhere'") as caught:
        await emulator.control.delete_vault("nowhere")
    assert (caught.value.status, caught.value.hint) == (404, "`byokd emulator state` lists them")


async def test_client_says_when_no_emulator_answers() -> None:
    async with ControlClient("http://127.0.0.1:1") as control:
        with pytest.raises(ControlError, match="no emulator answers at") as caught:
            await control.state()
    assert caught.value.status == 0


async def test_principal_of_another_tenant_cannot_be_granted_anything(vault: Emulator) -> None:
    await vault.control.create_identity("stranger", tenant="00000000-0000-0000-0000-000000000007")
    with pytest.raises(ControlError, match="does not exist in the tenant of the vault"):
        await vault.control.grant(VAULT, "stranger")


async def test_state_shows_what_is_there_and_no_secrets(vault: Emulator, wire: Wire) -> None:
    await vault.control.create_application("platform", secret="s3cret-of-platform")
    await vault.control.rotate_key(VAULT, KEY)
    await vault.control.set_fault(VAULT, "latency")
    state = await vault.control.state()
    (shown,) = state["vaults"]
    assert [len(one["versions"]) for one in shown["keys"]] == [2]
    assert {(one["principal"], one["permission"]) for one in shown["grants"]} == {
        ("system", "get"),
        ("system", "wrapKey"),
        ("system", "unwrapKey"),
    }
    text = json.dumps(state)
    assert "s3cret" not in text
    assert wire.token is not None
    assert wire.token not in text
    assert vault.identity_header not in text
    material = vault.world.vault(VAULT).keys[KEY].newest.material
    private = material.private.private_numbers()
    assert str(private.d) not in text + repr(vault.world.vault(VAULT))
    assert not re.search(r"PRIVATE|private_key", text)


async def test_calls_are_counted_by_vault_operation_and_answer(vault: Emulator, wire: Wire) -> None:
    await vault.control.reset_calls()
    for path in (f"/keys/{KEY}", f"/keys/{KEY}", "/keys/none"):
        await wire.send("GET", path)
    await wire.send("GET", "/keys")
    counted = {
        (one["target"], one["operation"], one["status"], one["code"]): one["count"]
        for one in (await vault.control.reset_calls())
    }
    assert counted == {
        (VAULT, "get", 200, ""): 2,
        (VAULT, "get", 404, "KeyNotFound"): 1,
        (VAULT, "list", 403, "ForbiddenByRbac"): 1,
    }
    assert await vault.control.calls() == []


async def test_times_of_a_key_can_be_set_and_unset(vault: Emulator) -> None:
    changed = await vault.control.change_key(VAULT, KEY, exp=4_000_000_000, nbf=1)
    assert (changed["versions"][0]["exp"], changed["versions"][0]["nbf"]) == (4_000_000_000, 1)
    changed = await vault.control.change_key(VAULT, KEY, exp=None)
    assert (changed["versions"][0]["exp"], changed["versions"][0]["nbf"]) == (None, 1)


async def test_rotation_can_change_type_size_and_attributes(vault: Emulator) -> None:
    await vault.control.rotate_key(VAULT, KEY, size=3072, enabled=False)
    rotated = await vault.control.rotate_key(VAULT, KEY, type="EC")
    kinds = [(one["type"], one["size"], one["enabled"]) for one in rotated["versions"]]
    assert kinds == [("RSA", 2048, True), ("RSA", 3072, False), ("EC", 256, True)]
    assert rotated["versions"][-1]["key_ops"] == ["sign", "verify"]


async def test_dialects_are_switched_one_by_one(emulator: Emulator) -> None:
    await emulator.control.set_dialects({Dialect.DISABLED_GET_REFUSED: True, Dialect.EXPIRED_UNWRAP_REFUSED: True})
    state = await emulator.control.set_dialects({Dialect.EXPIRED_UNWRAP_REFUSED: False})
    assert [name for name, spoken in state["dialects"].items() if spoken] == ["disabled_get_refused"]


async def test_vault_is_purged_and_its_name_free_again(vault: Emulator) -> None:
    await vault.control.delete_vault(VAULT)
    with pytest.raises(ControlError, match="is taken"):
        await vault.control.create_vault(VAULT)
    await vault.control.purge_vault(VAULT)
    assert (await vault.control.create_vault(VAULT))["keys"] == []


async def test_connection_to_an_unknown_vault_is_dropped(emulator: Emulator) -> None:
    resolver = EmulatorResolver(emulator.tls_address)
    connector = aiohttp.TCPConnector(resolver=resolver, ssl=trusting_context(emulator.ca_file))
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("https://nowhere.vault.azure.net/keys")
    assert emulator.world.calls.total(target="nowhere.vault.azure.net", status=0) >= 1


async def test_certificate_names_azure_and_is_trusted_through_the_own_authority_only(vault: Emulator) -> None:
    for name in (f"{VAULT}.vault.azure.net", "login.microsoftonline.com", "localhost", "127.0.0.1"):
        context = trusting_context(vault.ca_file)
        _, writer = await asyncio.open_connection(*vault.tls_address, ssl=context, server_hostname=name)
        writer.close()
        await writer.wait_closed()
    for context, name in (
        (ssl.create_default_context(), "localhost"),
        (trusting_context(vault.ca_file), "example.org"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*vault.tls_address, ssl=context, server_hostname=name)


async def test_many_emulators_run_side_by_side_and_leave_nothing_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with Emulator.start(state_dir=tmp_path / "a") as one, Emulator.start(state_dir=tmp_path / "b") as two:
        await one.control.create_vault(VAULT)
        assert (await two.control.state())["vaults"] == []
        addresses = [one.tls_address, one.http_address, two.tls_address, two.http_address]
        assert len(set(addresses)) == 4
    assert asyncio.all_tasks() == before
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
    left = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert left == ["ca.pem", "ca.pem"]
